"""The format of a recording: lines of JSON, a header and one line per tick of the loop; written here, read by replay.

A value is its fields without those that are at their default, and ``$`` names its kind, so that a recording still reads
when values gain fields. Readers refuse a version that they do not know.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from oomd.config.compiled import to_plain
from oomd.model import decision, ruleset, snapshot
from oomd.model.values import MISSING, fields, is_dataclass

if TYPE_CHECKING:
    from oomd.model.report import Plain

VERSION = 1
KEY = "oomd_recording"
"""The header's key, whose value is the version."""

KINDS: dict[str, type[Any]] = {
    name: value
    for module in (snapshot, decision, ruleset)
    for name, value in vars(module).items()
    if isinstance(value, type) and is_dataclass(value)
}
"""Every value that a recording may hold."""


class RecordingError(ValueError):
    """A line is not what a recording holds; the message says what."""


def _default_of(field: Any) -> Any:
    if field.default is not MISSING:
        return to_plain(field.default)
    return to_plain(field.default_factory()) if field.default_factory is not MISSING else MISSING


_DEFAULTS = {name: {field.name: _default_of(field) for field in fields(kind)} for name, kind in KINDS.items()}


_TYPES = {name: {field.name: str(field.type).split(" | ") for field in fields(kind)} for name, kind in KINDS.items()}
_PLAIN_KINDS: dict[str, type[Any] | tuple[type[Any], ...]] = {
    "int": int,
    "float": (int, float),
    "str": str,
    "bool": bool,
    "None": type(None),
}


def json_of(plain: Any) -> Any:
    """What :func:`oomd.config.compiled.to_plain` made, for JSON."""
    if isinstance(plain, tuple):
        name, content = plain
        defaults = _DEFAULTS.get(name, {})
        told = {key: each for key, each in content.items() if defaults.get(key, MISSING) != each}
        return {"$": name, **{key: json_of(each) for key, each in told.items()}}
    if isinstance(plain, list):
        return [json_of(each) for each in plain]
    if isinstance(plain, frozenset):
        return {"$": "set", "of": sorted(plain)}
    if isinstance(plain, dict):
        return {key: json_of(each) for key, each in plain.items()}
    return plain


def value_of(content: Any) -> Any:
    """The value again; lists are tuples. Raises RecordingError."""
    if isinstance(content, list):
        return tuple(value_of(each) for each in content)
    if not isinstance(content, dict):
        return content
    name = content.get("$")
    if name == "set" and isinstance(content.get("of"), list):
        return frozenset(each for each in content["of"] if isinstance(each, (int, str)))
    if not isinstance(name, str) or name not in KINDS:
        raise RecordingError(f"an unknown kind of value: {name!r}")
    types = _TYPES[name]
    values = {key: value_of(each) for key, each in content.items() if key in types}
    for key, value in values.items():
        if not any(_is_of(value, kind) for kind in types[key]):
            raise RecordingError(f"{name}.{key}: {str(value)[:40]!r} is not {' or '.join(types[key])}")
    try:
        return KINDS[name](**values)
    except TypeError as error:
        raise RecordingError(f"{name}: {error}") from error


def _is_of(value: Any, kind: str) -> bool:
    """Whether the value is what the field was declared to hold, as far as its declaration can be read."""
    if kind in _PLAIN_KINDS:
        return isinstance(value, _PLAIN_KINDS[kind]) and (kind == "bool" or not isinstance(value, bool))
    if kind in KINDS:
        return isinstance(value, KINDS[kind])
    container, _, inner = kind.rstrip("]").partition("[")
    if container == "tuple":
        inner = inner.removesuffix(", ...")
        return isinstance(value, tuple) and (inner not in KINDS or all(_is_of(each, inner) for each in value))
    return isinstance(value, frozenset) if container == "frozenset" else not isinstance(value, dict)


def header_line(config: str, **more: object) -> str:
    """The first line; ``config`` is the effective configuration as YAML."""
    return _line({KEY: VERSION, **more, "config": config})


def config_line(config: str) -> str:
    """A reload: from here on these rules held."""
    return _line({"config": config})


def tick_line(tick: Plain) -> str:
    """One tick as the killer handed it out (oomd.monitor.tape)."""
    return _line(json_of(tick))


def _line(content: Plain) -> str:
    return json.dumps(content, separators=(",", ":")) + "\n"

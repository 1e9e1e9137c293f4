"""The configuration as plain values and back: what stage one hands to the killer, which knows no YAML."""

from __future__ import annotations

import sys

from oomd import detectors, policies
from oomd.model.config import Config, ControlOptions, LmkdOptions, LogOptions, MetricsOptions
from oomd.model.hooks import Hook, Hooks
from oomd.model.managed import ManagedOptions
from oomd.model.matching import Match, Term
from oomd.model.proactive import Proactive
from oomd.model.ruleset import Choice, Names, Preferences, ReapOptions, Rules, Ruleset
from oomd.model.scope import Scope, ScopePart
from oomd.model.steps import GENTLE
from oomd.model.telling import LowMemoryOptions, TellOptions
from oomd.model.threshold import Threshold
from oomd.model.values import fields, is_dataclass

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

_TYPES: dict[str, Callable[..., object]] = {
    each.__name__: each
    for each in (
        Choice,
        Config,
        ControlOptions,
        Hook,
        Hooks,
        LmkdOptions,
        LogOptions,
        LowMemoryOptions,
        ManagedOptions,
        Match,
        MetricsOptions,
        Names,
        Preferences,
        Proactive,
        ReapOptions,
        Rules,
        Ruleset,
        Scope,
        ScopePart,
        TellOptions,
        Term,
        Threshold,
        *GENTLE,
    )
}


_RULES = ("oomd.detectors.", "oomd.policies.")
"""Of whose modules only those are loaded that the configuration uses."""
_REGEXES = "re"
_AS_IT_IS = frozenset((int, str, float, bool, type(None)))
_names: dict[type, tuple[str, ...]] = {}


def to_plain(value: object) -> Any:
    """Dataclasses as (name, {field: value}), tuples as lists, the rest as it is: ready for marshal."""
    kind = type(value)
    if kind in _AS_IT_IS:
        return value
    if kind is tuple:
        assert isinstance(value, tuple)
        return [each if type(each) in _AS_IT_IS else to_plain(each) for each in value]
    names = _names.get(kind)
    if names is None:
        if not is_dataclass(value):
            return value
        names = _names[kind] = tuple(field.name for field in fields(value))
    # Thousands of fields stand in one recorded decision: what needs no look is given none.
    content = {}
    for name in names:
        each = getattr(value, name)
        content[name] = each if type(each) in _AS_IT_IS else to_plain(each)
    return (kind.__name__, content)


def modules_of(value: object) -> list[str]:
    """The modules of detectors and policies of which this configuration, or a part of it, is made, and what regular
    expressions in its lists need.
    """
    found: set[str] = set()
    _collect(value, found)
    return sorted(found)


def _collect(value: object, found: set[str]) -> None:
    if isinstance(value, tuple):
        for each in value:
            _collect(each, found)
    elif is_dataclass(value):
        module = type(value).__module__
        if module.startswith(_RULES):
            found.add(module)
        if isinstance(value, Term) and value.regex:
            found.add(_REGEXES)
        for field in fields(value):
            _collect(getattr(value, field.name), found)


def are_loaded(names: Iterable[str]) -> bool:
    """Whether :func:`load` would have nothing to do."""
    return all(name in sys.modules for name in names)


def load(names: Iterable[str]) -> None:
    """Have these modules of detectors and policies loaded (:func:`modules_of`); others are left alone."""
    for name in names:
        if name == _REGEXES or (name.startswith(_RULES) and name.count(".") == 2):
            __import__(name)


def from_plain(plain: object, modules: Iterable[str] | None = None) -> Config:
    """What :func:`to_plain` was given. Raises ValueError for anything else. With ``modules`` (:func:`modules_of`) no
    others are loaded.
    """
    if modules is not None:
        load(modules)
    else:
        _TYPES.update({each.__name__: each for each in (*detectors.ALL, *policies.ALL)})
    value = _revive(plain)
    if not isinstance(value, Config):
        raise ValueError("not a compiled configuration")  # noqa: TRY004 - the text is wrong, not a type of ours
    return value


def _revive(plain: object) -> object:
    if isinstance(plain, tuple):
        name, content = plain
        return _type_of(name)(**{key: _revive(each) for key, each in content.items()})
    if isinstance(plain, list):
        return tuple(_revive(each) for each in plain)
    return plain


def _type_of(name: str) -> Callable[..., object]:
    known = _TYPES.get(name) or _loaded(name)
    if known is None:
        raise ValueError(f"unknown part {name!r} in a compiled configuration")
    return known


def _loaded(name: str) -> Callable[..., object] | None:
    for module in [module for key, module in sys.modules.items() if key.startswith(_RULES)]:
        kind = vars(module).get(name)
        if isinstance(kind, type) and is_dataclass(kind) and kind.__module__ == module.__name__:
            return kind
    return None

"""Walks YAML nodes against keys: every scalar is converted from its own text by its declared type, every problem has
its place.
"""

from __future__ import annotations

from oomd.config.problems import Problem, did_you_mean
from oomd.model.scope import ScopeError, parse_scope
from oomd.model.units import (
    MIB,
    UnitError,
    format_exact_duration,
    format_share,
    parse_cgroup_globs,
    parse_count,
    parse_duration,
    parse_no_cgroups,
    parse_percent,
    parse_rate,
    parse_ratio,
    parse_share,
    parse_size,
    parse_subject,
    parse_threshold,
)
from oomd.model.values import dataclass

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    import yaml
    from typing_extensions import TypeIs

    from oomd.config.schema import Key

_BOOLEANS = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}


def parse_bool(text: str) -> bool:
    """``true``/``yes``/``on`` or ``false``/``no``/``off``."""
    if text.lower() not in _BOOLEANS:
        raise UnitError(f"{text!r} is neither true nor false")
    return _BOOLEANS[text.lower()]


def parse_budget(text: str) -> int:
    """A size; 0 for ``none``, no limit. Nothing runs in less than a mebibyte: there a unit was forgotten."""
    if text.lower() == "none":
        return 0
    size = parse_size(text)
    if size == 0:
        raise UnitError("must be more than nothing")
    if size < MIB:
        raise UnitError(f"{text!r} is less than 1MiB: is the unit missing?")
    return size


def parse_text(text: str) -> str:
    """One line of text; it becomes a name in reports, or a path."""
    if not text.isprintable():
        raise UnitError("holds characters that cannot be printed")
    return text


MOST_GID = (1 << 32) - 2


def parse_group(text: str) -> str:
    """A group by name or number; empty for none. One that there is not is told at start and by ``check``: the same file
    may serve several machines.
    """
    if text.isascii() and text.isdigit() and (len(text) > 10 or int(text) > MOST_GID):
        raise UnitError(f"{text[:20]!r} is no number of a group")
    if not text.isprintable() or " " in text or ":" in text or len(text) > 256:
        raise UnitError("is no name of a group")
    return text


def parse_listen(text: str) -> Any:
    """See oomd.config.addresses, which nobody needs who does not listen."""
    from oomd.config import addresses

    return addresses.parse_listen(text)


def parse_textfile(text: str) -> Any:
    """Likewise."""
    from oomd.config import addresses

    return addresses.parse_textfile(text)


MOST_WORKERS = 16
"""Each has a stack, and the unit's TasksMax is not far above."""


def parse_workers(text: str) -> int:
    """A number of threads."""
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= MOST_WORKERS:
        raise UnitError(f"{text!r} is not a number between 1 and {MOST_WORKERS}")
    return int(text)


CONVERSIONS: dict[str, Callable[[str], Any]] = {
    "bool": parse_bool,
    "cgroups": parse_cgroup_globs,
    "count": parse_count,
    "duration": parse_duration,
    "group": parse_group,
    "listen": parse_listen,
    "no_cgroups": parse_no_cgroups,
    "percent": parse_percent,
    "rate": parse_rate,
    "ratio": parse_ratio,
    "scope": parse_scope,
    "share": parse_share,
    "size": parse_budget,
    "subject": parse_subject,
    "text": parse_text,
    "textfile": parse_textfile,
    "threshold": parse_threshold,
    "workers": parse_workers,
}


@dataclass(slots=True)
class Walker:
    """Collects problems while it converts."""

    file: str
    problems: list[Problem]
    from_file: bool = True
    """Whether the nodes are those of that file, and not of a text in its place, from which nothing is ever run."""

    def problem(self, node: yaml.Node, path: str, message: str) -> None:
        """Note a mistake at this node."""
        mark = node.start_mark
        self.problems.append(Problem(self.file, mark.line + 1, mark.column + 1, path, message))

    def mapping(self, node: yaml.Node, path: str, known: Iterable[str]) -> dict[str, yaml.Node]:
        """The value nodes of a mapping by key; unknown and duplicate keys are problems."""
        if not is_mapping(node):
            if not _is_nothing(node):
                self.problem(node, path, f"should be a mapping (key: value), is {_kind_of(node)}")
            return {}
        names = list(known)
        seen: dict[str, yaml.Node] = {}
        values: dict[str, yaml.Node] = {}
        for key, value in node.value:
            name = key.value if is_scalar(key) else ""
            place = f"{path}.{name}" if path else name
            if not is_scalar(key):
                self.problem(key, path, "a key must be a plain word")
            elif name in seen:
                self.problem(key, place, f"is given twice, first in line {seen[name].start_mark.line + 1}")
            elif name == "<<":
                self.problem(key, place, "merge keys are not read: write the keys out")
            elif name not in names:
                self.problem(key, place, f"unknown key{did_you_mean(name, names)}")
            else:
                values[name] = value
            seen.setdefault(name, key)
        return values

    def sequence(self, node: yaml.Node, path: str) -> list[yaml.Node]:
        """The items of a list."""
        if is_sequence(node):
            return list(node.value)
        if not _is_nothing(node):
            self.problem(node, path, f"should be a list, is {_kind_of(node)}")
        return []

    def keys_of(self, node: yaml.Node) -> set[str]:
        """The keys of a mapping, right or wrong."""
        return {key.value for key, _ in node.value if is_scalar(key)} if self.is_mapping(node) else set()

    def value_of(self, node: yaml.Node, name: str) -> yaml.Node:
        """The value of this key of a mapping, for the place of a problem; the node itself where it has none."""
        found = [value for key, value in node.value if key.value == name] if self.is_mapping(node) else []
        return found[0] if found else node

    def is_mapping(self, node: yaml.Node) -> bool:
        """Whether it is a mapping, and no single value or list."""
        return is_mapping(node)

    def is_empty_mapping(self, node: yaml.Node) -> bool:
        """Whether it is ``{}``."""
        return is_mapping(node) and not node.value

    def is_nothing(self, node: yaml.Node) -> bool:
        """Whether nothing stands there."""
        return _is_nothing(node)

    def scalar(self, node: yaml.Node, path: str, key: Key) -> Any:
        """The value of a scalar, or None after a problem."""
        if not is_scalar(node):
            self.problem(node, path, f"should be a single value, is {_kind_of(node)}")
            return None
        return self.convert(node.value, key, lambda message: self.problem(node, path, message))

    @staticmethod
    def convert(text: str, key: Key, tell: Callable[[str], None]) -> Any:
        """The value of a text, or None after telling what is wrong."""
        if not text and key.kind not in ("text", "group"):
            tell("is empty")
            return None
        if key.kind == "choice":
            if text not in key.choices:
                tell(f"{text!r} is not one of {', '.join(key.choices)}{did_you_mean(text, key.choices)}")
                return None
            return text
        try:
            return CONVERSIONS[key.kind](text)
        except (UnitError, ScopeError) as error:
            tell(str(error))
            return None

    def options(self, node: yaml.Node, path: str, keys: tuple[Key, ...]) -> dict[str, Any]:
        """A mapping of scalars; only what is given and right is in it."""
        nodes = self.mapping(node, path, (key.name for key in keys))
        values = {
            key.name: self.scalar(nodes[key.name], f"{path}.{key.name}", key) for key in keys if key.name in nodes
        }
        return {name: value for name, value in values.items() if value is not None}

    def ranges(
        self, node: yaml.Node, path: str, values: dict[str, Any], ranges: dict[str, tuple[float, float]]
    ) -> None:
        """Numbers beyond their range are problems: durations (whole microseconds) or shares."""
        for name, (low, high) in ranges.items():
            if name in values and not low <= values[name] <= high:
                form = (
                    format_share if isinstance(values[name], float) else lambda each: format_exact_duration(int(each))
                )
                place = self.value_of(node, name)
                self.problem(place, f"{path}.{name}", f"should be between {form(low)} and {form(high)}")


def is_mapping(node: yaml.Node) -> TypeIs[yaml.MappingNode]:
    """``key: value``; told by what the node says of itself, so that nobody needs YAML who has no file."""
    return bool(node.id == "mapping")  # type: ignore[attr-defined] # every node that is made has one


def is_sequence(node: yaml.Node) -> TypeIs[yaml.SequenceNode]:
    """A list."""
    return bool(node.id == "sequence")  # type: ignore[attr-defined]


def is_scalar(node: yaml.Node) -> TypeIs[yaml.ScalarNode]:
    """One text."""
    return bool(node.id == "scalar")  # type: ignore[attr-defined]


def is_off(node: yaml.Node) -> bool:
    """Whether the text is ``off``."""
    return is_scalar(node) and node.value == "off"


def switch_of(node: yaml.Node) -> bool | None:
    """The truth value that stands there; None where there is none."""
    return _BOOLEANS.get(node.value.lower()) if is_scalar(node) else None


def _is_nothing(node: yaml.Node) -> bool:
    return is_scalar(node) and not node.style and node.value in ("", "~", "null")


def _kind_of(node: yaml.Node) -> str:
    if is_mapping(node):
        return "a mapping"
    return "a list" if is_sequence(node) else f"{node.value!r}"

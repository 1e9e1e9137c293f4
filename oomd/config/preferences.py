"""``protect``, ``avoid``, ``prefer``: names, or mappings of conditions that must all hold, from YAML nodes.

protect:
  - default
  - postgres*                                      # a name, as in /proc/PID/comm
  - {cmdline: "*--important*", user: alice}        # both must hold
  - {cmdline: {regex: "^/opt/app/bin/\\\\w+ serve"}}   # a regular expression, searched for
"""

from __future__ import annotations

import pwd
import re
from fnmatch import fnmatchcase

from oomd.config.nodes import is_mapping, is_scalar, is_sequence
from oomd.config.schema import DEFAULT_PROTECT, DEFAULT_WORD
from oomd.model.matching import CGROUP, KEYS, NAME, USER, Match, Term
from oomd.model.ruleset import Names, Preferences

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    import yaml

    from oomd.config.nodes import Walker

LISTS = ("protect", "prefer", "avoid")
MOST_PATTERN = 1000
"""Characters of one pattern."""
_REGEX = "regex"


def build_preferences(walker: Walker, nodes: dict[str, yaml.Node], omit: str) -> Preferences:
    """The three lists; mistakes become problems, and their entries are left out."""
    names = {name: _names(walker, nodes[name], name) if name in nodes else {} for name in LISTS}
    found = {name: _matches(walker, nodes[name], name) if name in nodes else {} for name in LISTS}
    protect = tuple(names["protect"]) if "protect" in nodes else DEFAULT_PROTECT
    embedded = tuple(name for name in DEFAULT_PROTECT if name in protect and name not in _written(nodes.get("protect")))
    for one, other in (("prefer", "protect"), ("avoid", "protect"), ("prefer", "avoid")):
        _compare_names(walker, names, one, other, protect if other == "protect" else tuple(names[other]))
        for match in found[one].keys() & found[other].keys():
            walker.problem(found[one][match], one, f"{match.words()!r} is on the list {other} too")
    return Preferences(
        Names(protect, tuple(found["protect"]), embedded),
        Names(tuple(names["prefer"]), tuple(found["prefer"])),
        Names(tuple(names["avoid"]), tuple(found["avoid"])),
        omit=omit,
    )


def plain_list(names: Names) -> list[object]:
    """The list as YAML would hold it."""
    items: dict[str, None] = {}
    for pattern in names.patterns:
        items[DEFAULT_WORD if pattern in names.embedded else pattern] = None
    return [*items, *(_plain_match(match) for match in names.matches)]


def _plain_match(match: Match) -> dict[str, object]:
    return {term.key: {_REGEX: term.pattern} if term.regex else term.pattern for term in match.terms}


def _written(node: yaml.Node | None) -> frozenset[str]:
    """The names that stand there themselves, and not through the word ``default``."""
    if node is None or not is_sequence(node):
        return frozenset()
    return frozenset(item.value for item in node.value if is_scalar(item))


def _names(walker: Walker, node: yaml.Node, path: str) -> dict[str, yaml.Node]:
    """Patterns with their nodes; the word ``default`` becomes the embedded list."""
    patterns: dict[str, yaml.Node] = {}
    if walker.is_nothing(node):
        # Somebody commented the last name out. Nobody means by that that init may die.
        walker.problem(node, path, "has no value; the empty list is []")
    for index, item in enumerate(walker.sequence(node, path)):
        place = f"{path}[{index}]"
        if is_mapping(item):
            continue
        if not is_scalar(item):
            walker.problem(item, place, "should be a name or a mapping of conditions, is a list")
        elif mistake := _name_mistake(item.value):
            walker.problem(item, place, mistake)
        else:
            expanded = DEFAULT_PROTECT if item.value == DEFAULT_WORD and path == "protect" else (item.value,)
            for pattern in expanded:
                patterns.setdefault(pattern, item)
    return patterns


def _name_mistake(text: str) -> str:
    if not text:
        return "is empty"
    if not text.isprintable():
        return "holds characters that cannot be printed; ? and * stand for any"
    if "/" in text:
        return f"{text!r} is a path; names are compared with the kernel's comm, without folders"
    return ""


def _matches(walker: Walker, node: yaml.Node, path: str) -> dict[Match, yaml.Node]:
    """The entries that are mappings, with their nodes."""
    found: dict[Match, yaml.Node] = {}
    for index, item in enumerate(node.value if is_sequence(node) else ()):
        if not is_mapping(item):
            continue
        place = f"{path}[{index}]"
        if not item.value:
            walker.problem(item, place, f"names no condition; there is: {', '.join(KEYS)}")
        before = len(walker.problems)
        terms = [
            _term(walker, value, key, f"{place}.{key}") for key, value in walker.mapping(item, place, KEYS).items()
        ]
        if len(walker.problems) == before:
            found.setdefault(Match(tuple(term for term in terms if term is not None)), item)
    return found


def _term(walker: Walker, node: yaml.Node, key: str, path: str) -> Term | None:
    regex = is_mapping(node)
    if regex:
        inner = walker.mapping(node, path, (_REGEX,))
        if _REGEX not in inner:
            if walker.is_empty_mapping(node):
                walker.problem(node, path, "needs 'regex'")
            return None
        node, path = inner[_REGEX], f"{path}.{_REGEX}"
    if not is_scalar(node):
        walker.problem(node, path, "should be a single value")
        return None
    mistake = _pattern_mistake(node.value, key, regex=regex)
    if mistake:
        walker.problem(node, path, mistake)
        return None
    return Term(key, node.value, regex, uids_of(node.value, regex=regex) if key == USER else ())


def _pattern_mistake(text: str, key: str, *, regex: bool) -> str:
    if not text:
        return "is empty"
    if len(text) > MOST_PATTERN:
        return f"is longer than {MOST_PATTERN} characters"
    if regex:
        from oomd.config.regexes import why_not_safe

        return why_not_safe(text)
    if not text.isprintable():
        return "holds characters that cannot be printed; ? and * stand for any"
    if key == NAME and "/" in text:
        return f"{text!r} is a path; a name is the kernel's comm, without folders; exe: has the path"
    if key == CGROUP and not text.startswith("/"):
        return f"{text!r} is no path of a cgroup: it begins with /, as in /system.slice/web.service"
    return ""


def uids_of(pattern: str, *, regex: bool = False) -> tuple[int, ...]:
    """The users whom the pattern names now: one by its number, or all of the user database whose names fit. Users that
    do not exist are nobody: the same file may serve several machines.
    """
    if pattern.isascii() and pattern.isdigit() and not regex:
        return (int(pattern),)
    if not regex and not any(sign in pattern for sign in "*?["):
        try:
            return (pwd.getpwnam(pattern).pw_uid,)
        except (KeyError, ValueError):
            return ()
    found = set()
    for entry in pwd.getpwall():
        if re.search(pattern, entry.pw_name) if regex else fnmatchcase(entry.pw_name, pattern):
            found.add(entry.pw_uid)
    return tuple(sorted(found))


def _compare_names(
    walker: Walker, names: dict[str, dict[str, yaml.Node]], one: str, other: str, stronger: tuple[str, ...]
) -> None:
    """Names that stand on two lists, and those that have no effect because a stronger list covers them."""
    for pattern, node in names[one].items():
        if pattern in names[other]:
            walker.problem(node, one, f"{pattern!r} is on the list {other} too")
        elif one == "prefer" and (cover := _covering(pattern, stronger)):
            walker.problem(node, one, f"{pattern!r} has no effect: {cover!r} is on the list {other}")


def _covering(name: str, patterns: Iterable[str]) -> str:
    """The pattern that covers a whole name, or the very same pattern; empty when there is none."""
    plain = not any(sign in name for sign in "*?[")
    return next((each for each in patterns if each == name or (plain and fnmatchcase(name, each))), "")

"""Names of processes against shell-style patterns, each list compiled once."""

from __future__ import annotations

import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from oomd.model.ruleset import Names

COMM_BYTES = 15
"""The kernel cuts names to TASK_COMM_LEN - 1 bytes; a longer pattern is compared with what is left of it."""

_MOST_LISTS = 64
_compiled: dict[tuple[str, ...], re.Pattern[str]] = {}


def matches(names: Names, comm: str) -> bool:
    """Whether the name is on the list."""
    return bool(names.patterns) and _compile(names.patterns).fullmatch(comm) is not None


def matches_pattern(pattern: str, comm: str) -> bool:
    """Whether the name fits this one pattern: ``*``, ``?``, ``[abc]``, ``[!abc]``."""
    return _compile((pattern,)).fullmatch(comm) is not None


def _compile(patterns: tuple[str, ...]) -> re.Pattern[str]:
    compiled = _compiled.get(patterns)
    if compiled is None:
        if len(_compiled) >= _MOST_LISTS:
            _compiled.clear()
        compiled = re.compile("|".join(_translate(pattern) for pattern in patterns), re.DOTALL)
        _compiled[patterns] = compiled
    return compiled


def _translate(pattern: str) -> str:
    """The pattern as a regular expression. One longer than a name can be, and without wildcards, stands for its first
    15 bytes.
    """
    if not any(sign in pattern for sign in "*?["):
        return re.escape(pattern.encode("utf-8", "surrogateescape")[:COMM_BYTES].decode("utf-8", "backslashreplace"))
    result, position = [], 0
    while position < len(pattern):
        sign = pattern[position]
        end = pattern.find("]", position + 2) if sign == "[" else -1
        if sign == "*":
            result.append(".*")
        elif sign == "?":
            result.append(".")
        elif end > 0:
            inside = pattern[position + 1 : end].replace("\\", "\\\\")
            result.append(f"[^{inside[1:]}]" if inside[0] in "!^" else f"[{inside}]")
            position = end
        else:
            result.append(re.escape(sign))
        position += 1
    return "".join(result)

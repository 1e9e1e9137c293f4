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

_PIECE = re.compile(r"\*|\?|\[[!^]?+\]?+[^\]]*\]|\\x[0-9a-f]{2}|.", re.DOTALL)
"""``*``, ``?``, ``[…]`` (a ``]`` that comes first in it stands for itself), a byte as names show it where it is no
UTF-8, or a character that stands for itself.
"""
_IN_SET = re.compile(r"(.)-(.)|(.)", re.DOTALL)


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
    """The pattern as a regular expression that every text has. What comes after 15 bytes stands for nothing, unless a
    ``*`` before them leaves open where they end: ``containerd-shim-runc*`` is the name ``containerd-shim``.
    """
    pieces: list[str] = _PIECE.findall(pattern)
    room = COMM_BYTES
    result = ""
    for piece in pieces:
        if piece == "*":
            return "".join(translate_piece(each) for each in pieces)
        width = _width(piece)
        if width > room:
            # The kernel cuts in the middle of a character too; names show the bytes that are left of it.
            left = piece.encode("utf-8", "backslashreplace")[:room].decode("utf-8", "backslashreplace")
            return result + re.escape(left)
        result += translate_piece(piece)
        room -= width
    return result


def _width(piece: str) -> int:
    """How many bytes of a name it stands for, at least."""
    return len(piece.encode("utf-8", "backslashreplace")) if len(piece) == 1 and piece != "?" else 1


def translate_piece(piece: str) -> str:
    """One piece of a pattern as a regular expression."""
    if piece == "*":
        return ".*"
    if piece == "?":
        return "."
    if len(piece) > 2 and piece[0] == "[":
        return _translate_set(piece[1:-1])
    return re.escape(piece)


def _translate_set(inside: str) -> str:
    """``[a-c_]``, ``[!a-c_]``. Nothing in it has a meaning of its own but ``-``; a backward range is empty."""
    negated = inside[0] in "!^" and len(inside) > 1
    pieces = []
    for first, last, single in _IN_SET.findall(inside[1:] if negated else inside):
        if single:
            pieces.append(re.escape(single))
        elif first <= last:
            pieces.append(f"{re.escape(first)}-{re.escape(last)}")
    if not pieces:
        return "." if negated else "(?!)"
    return f"[{'^' if negated else ''}{''.join(pieces)}]"

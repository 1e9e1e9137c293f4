"""Patterns of cgroups: ``*``, ``?`` and ``[…]`` within one name, ``**`` for any number of levels."""

from __future__ import annotations

import re

MACHINE = "machine"
"""In the place of a pattern: not a cgroup, the whole machine."""
DEEP = "**"
_MOST = 256
_compiled: dict[str, re.Pattern[str]] = {}
_PIECE = re.compile(r"\*\*|\*|\?|\[[!^]?\]?[^\]/]*\]|.", re.DOTALL)


def matches(pattern: str, path: str) -> bool:
    """Whether the path of a cgroup fits the pattern as a whole."""
    return _compile(pattern).fullmatch(path) is not None


def matches_any(patterns: tuple[str, ...], path: str) -> bool:
    """Whether the path fits one of them."""
    return any(matches(pattern, path) for pattern in patterns)


def lies_in_any(patterns: tuple[str, ...], path: str) -> bool:
    """Whether the path fits one of them, or lies below one that does."""
    while path:
        if matches_any(patterns, path):
            return True
        path = "" if path == "/" else path.rpartition("/")[0] or "/"
    return False


def split_patterns(text: str) -> tuple[str, ...]:
    """The patterns of an option's text; none for ``machine``."""
    return () if text in ("", MACHINE) else tuple(text.split(","))


def _compile(pattern: str) -> re.Pattern[str]:
    compiled = _compiled.get(pattern)
    if compiled is None:
        if len(_compiled) >= _MOST:
            _compiled.clear()
        parts = [part for part in pattern.split("/") if part]
        text = "".join("(?:/[^/]+)*" if part == DEEP else "/(?=[^/])" + _translate(part) for part in parts)
        # The root's path is "/", which stands for no level at all.
        text = f"{text}|/" if all(part == DEEP for part in parts) else text
        try:
            compiled = re.compile(text, re.DOTALL)
        except re.error:  # a backward range such as [z-a] holds nothing
            compiled = re.compile("(?!)")
        _compiled[pattern] = compiled
    return compiled


def _translate(part: str) -> str:
    return "".join(_translate_piece(piece) for piece in _PIECE.findall(part))


def _translate_piece(piece: str) -> str:
    if piece in ("*", DEEP):
        return "[^/]*"
    if piece == "?":
        return "[^/]"
    if len(piece) > 2 and piece[0] == "[":
        inside = piece[1:-1]
        negated = inside[0] in "!^" and len(inside) > 1
        body = "".join("-" if sign == "-" else re.escape(sign) for sign in inside[negated:])
        return f"(?!/)[{'^' if negated else ''}{body}]"
    return re.escape(piece)

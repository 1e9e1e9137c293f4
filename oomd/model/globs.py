"""Patterns of cgroups: ``*``, ``?`` and ``[…]`` within one name, ``**`` for any number of levels."""

from __future__ import annotations

from oomd.model import wildcards

MACHINE = "machine"
"""In the place of a pattern: not a cgroup, the whole machine."""
DEEP = "**"


def matches(pattern: str, path: str) -> bool:
    """Whether the path of a cgroup fits the pattern as a whole."""
    names = [] if path in ("", "/") else path.split("/")[1:]
    parts = [part for part in pattern.split("/") if part]
    return "" not in names and (not path or path[0] == "/") and _fit(parts, names)


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


def _fit(parts: list[str], names: list[str]) -> bool:
    """Whether the names fit the parts, with any number of names for each ``**``: as soon as one after it fits, what
    stands between it and the next is found, and never tried twice.
    """
    at = again = part = 0
    deep = -1
    while at < len(names):
        if part < len(parts) and parts[part] == DEEP:
            deep, again, part = part, at, part + 1
        elif part < len(parts) and wildcards.matches(parts[part], names[at]):
            part, at = part + 1, at + 1
        elif deep >= 0:
            again += 1
            part, at = deep + 1, again
        else:
            return False
    return all(each == DEEP for each in parts[part:])

"""Globs and regular expressions on long texts, without ever taking long.

A glob costs time in proportion to the text. Regular expressions are looked at when they are loaded
(oomd.config.regexes) and see only the beginning of a text, so that no process can stop the killer by its command line.
"""

from __future__ import annotations

import re

from oomd.engine.names import translate_piece

MOST_TEXT = 4096
"""Characters of a command line that a glob sees."""
MOST_REGEX_TEXT = 512
"""Characters that a regular expression sees."""

_MOST = 256
_globs: dict[str, tuple[list[re.Pattern[str]], bool, bool]] = {}
_regexes: dict[str, re.Pattern[str]] = {}
_PIECE = re.compile(r"\*+|\?|\[[!^]?+\]?+[^\]]*\]|.", re.DOTALL)


def glob_matches(pattern: str, text: str) -> bool:
    """Whether the text (as far as :data:`MOST_TEXT`) fits the glob as a whole: ``*`` any number of any characters,
    ``?`` one, ``[abc]``, ``[!abc]``.

    What stands between two ``*`` is found leftmost, which is right for globs, and never tried twice.
    """
    text = text[:MOST_TEXT]
    parts, open_begin, open_end = _parts(pattern)
    if not parts:
        return open_begin or not text
    if len(parts) == 1 and not open_begin and not open_end:
        return parts[0].fullmatch(text) is not None
    position = 0
    last = parts if open_end else parts[:-1]
    for number, part in enumerate(last):
        found = part.match(text) if number == 0 and not open_begin else part.search(text, position)
        if found is None:
            return False
        position = found.end()
    return open_end or _ends(parts[-1], text, position)


def regex_found(pattern: str, text: str) -> bool:
    """Whether the regular expression is found in the beginning of the text."""
    compiled = _regexes.get(pattern)
    if compiled is None:
        if len(_regexes) >= _MOST:
            _regexes.clear()
        compiled = _regexes[pattern] = re.compile(pattern)
    return compiled.search(text[:MOST_REGEX_TEXT]) is not None


def _parts(pattern: str) -> tuple[list[re.Pattern[str]], bool, bool]:
    known = _globs.get(pattern)
    if known is None:
        if len(_globs) >= _MOST:
            _globs.clear()
        known = _globs[pattern] = _split(pattern)
    return known


def _split(pattern: str) -> tuple[list[re.Pattern[str]], bool, bool]:
    """The pieces between ``*``, and whether the glob begins and ends with one."""
    pieces: list[str] = _PIECE.findall(pattern)
    parts: list[str] = [""]
    for piece in pieces:
        if piece.startswith("*"):
            parts.append("")
        else:
            parts[-1] += translate_piece(piece)
    stars = [piece.startswith("*") for piece in pieces]
    compiled = [re.compile(part, re.DOTALL) for part in parts if part]
    return compiled, bool(stars) and stars[0], bool(stars) and stars[-1]


def _ends(part: re.Pattern[str], text: str, position: int) -> bool:
    """Whether the text ends with this piece, which begins at ``position`` or later. Every piece has a fixed width."""
    width = _width(part.pattern)
    begin = len(text) - width
    return begin >= position and part.fullmatch(text, begin) is not None


def _width(part: str) -> int:
    return len(re.findall(r"\\.|\[(?:\\.|[^\]\\])*\]|\(\?!\)|.", part, re.DOTALL))

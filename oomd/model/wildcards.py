"""Shell-style patterns on a text as a whole: ``*`` any number of any characters, ``?`` one, ``[abc]``, ``[!a-c]``.

Not by ``re``, which with all that it imports is a tenth of the killer's memory. What stands between two ``*`` is found
leftmost, which is right for such patterns, and never tried twice: the time is bounded by the text's length times the
pattern's.
"""

from __future__ import annotations

from oomd.model.values import dataclass

_MOST = 256
_compiled: dict[str, tuple[Part, ...]] = {}
_HEX = frozenset("0123456789abcdef")


@dataclass(frozen=True, slots=True)
class Set:
    """``[…]``: characters from … to …, or with ``negated`` all others."""

    negated: bool
    ranges: tuple[tuple[str, str], ...]

    def holds(self, sign: str) -> bool:
        """Whether this character is meant."""
        return any(first <= sign <= last for first, last in self.ranges) is not self.negated


TYPE_CHECKING = False
if TYPE_CHECKING:
    Part = str | tuple[str | Set | None, ...]
    """What stands between two ``*``: a text, or where not all of it is, characters, sets and None (any character)."""


def matches(pattern: str, text: str) -> bool:
    """Whether the text fits the pattern."""
    parts = _compiled.get(pattern)
    if parts is None:
        if len(_compiled) >= _MOST:
            _compiled.clear()
        parts = _compiled[pattern] = parts_of(pieces_of(pattern))
    return fits(parts, text)


def pieces_of(pattern: str) -> list[str]:
    """``*``, ``?``, ``[…]`` (a ``]`` that comes first in it stands for itself), a byte as names show it where it is no
    UTF-8 (``\\xff``), or a character that stands for itself.
    """
    pieces = []
    at = 0
    while at < len(pattern):
        end = at + 1
        if pattern[at] == "[":
            end = _end_of_set(pattern, at)
        elif pattern[at] == "\\" and pattern[at + 1 : at + 2] == "x" and len(digits := pattern[at + 2 : at + 4]) == 2:
            end += 3 if _HEX.issuperset(digits) else 0
        pieces.append(pattern[at:end])
        at = end
    return pieces


def parts_of(pieces: list[str]) -> tuple[Part, ...]:
    """What stands before the first ``*``, between each two, and after the last; one part where there is none."""
    parts: list[list[str | Set | None]] = [[]]
    for piece in pieces:
        if piece == "*":
            parts.append([])
        elif piece == "?":
            parts[-1].append(None)
        elif is_set(piece):
            parts[-1].append(_set_of(piece[1:-1]))
        else:
            parts[-1].extend(piece)
    return tuple(_joined(part) for part in parts)


def fits(parts: tuple[Part, ...], text: str) -> bool:
    """Whether the text is made of these, in their order, with anything between two of them."""
    first, last = parts[0], parts[-1]
    if not _stands_at(first, text, 0):
        return False
    if len(parts) == 1:
        return len(text) == len(first)
    at, end = len(first), len(text) - len(last)
    if end < at or not _stands_at(last, text, end):
        return False
    for part in parts[1:-1]:
        at = _find(part, text, at, end)
        if at < 0:
            return False
        at += len(part)
    return True


def is_set(piece: str) -> bool:
    """Whether this piece is ``[…]``."""
    return len(piece) > 2 and piece[0] == "["


def _end_of_set(pattern: str, at: int) -> int:
    """Behind its ``]``; without one ``[`` stands for itself."""
    inside = at + 1
    if pattern[inside : inside + 1] in ("!", "^"):
        inside += 1
    if pattern[inside : inside + 1] == "]":
        inside += 1
    return (pattern.find("]", inside) + 1) or at + 1


def _set_of(inside: str) -> Set:
    """Nothing in it has a meaning of its own but ``-``; a backward range is empty."""
    negated = inside[0] in "!^" and len(inside) > 1
    at = 1 if negated else 0
    ranges = []
    while at < len(inside):
        width = 3 if inside[at + 1 : at + 2] == "-" and at + 2 < len(inside) else 1
        ranges.append((inside[at], inside[at + width - 1]))
        at += width
    return Set(negated, tuple(ranges))


def _joined(part: list[str | Set | None]) -> Part:
    signs = [sign for sign in part if isinstance(sign, str)]
    return "".join(signs) if len(signs) == len(part) else tuple(part)


def _stands_at(part: Part, text: str, at: int) -> bool:
    if isinstance(part, str):
        return text.startswith(part, at)
    if at + len(part) > len(text):
        return False
    return all(
        sign is None or (sign == text[at + place] if isinstance(sign, str) else sign.holds(text[at + place]))
        for place, sign in enumerate(part)
    )


def _find(part: Part, text: str, at: int, end: int) -> int:
    """Where it begins, at the earliest at ``at``, so that it ends at ``end`` at the latest; -1 for nowhere."""
    if isinstance(part, str):
        return text.find(part, at, end)
    return next((place for place in range(at, end - len(part) + 1) if _stands_at(part, text, place)), -1)

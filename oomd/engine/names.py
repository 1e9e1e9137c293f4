"""Names of processes against shell-style patterns, each list compiled once."""

from __future__ import annotations

from oomd.model.values import dataclass
from oomd.model.wildcards import fits, parts_of, pieces_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from oomd.model.ruleset import Names
    from oomd.model.wildcards import Part

COMM_BYTES = 15
"""The kernel cuts names to TASK_COMM_LEN - 1 bytes; a longer pattern is compared with what is left of it."""

_MOST_LISTS = 64
_compiled: dict[tuple[str, ...], _List] = {}


@dataclass(frozen=True, slots=True)
class _List:
    """Names as they are, beginnings of names, and all other patterns: nearly every list is of the first two kinds, and
    those are compared at once.
    """

    exact: frozenset[str]
    begins: tuple[str, ...]
    others: tuple[tuple[Part, ...], ...]

    def holds(self, comm: str) -> bool:
        return comm in self.exact or comm.startswith(self.begins) or any(fits(parts, comm) for parts in self.others)


def matches(names: Names, comm: str) -> bool:
    """Whether the name is on the list."""
    return bool(names.patterns) and _compile(names.patterns).holds(comm)


def matches_pattern(pattern: str, comm: str) -> bool:
    """Whether the name fits this one pattern: ``*``, ``?``, ``[abc]``, ``[!abc]``."""
    return _compile((pattern,)).holds(comm)


def _compile(patterns: tuple[str, ...]) -> _List:
    compiled = _compiled.get(patterns)
    if compiled is None:
        if len(_compiled) >= _MOST_LISTS:
            _compiled.clear()
        compiled = _compiled[patterns] = _sorted([parts_of(_cut(pieces_of(pattern))) for pattern in patterns])
    return compiled


def _sorted(patterns: list[tuple[Part, ...]]) -> _List:
    exact, begins, others = set(), [], []
    for parts in patterns:
        if len(parts) == 1 and isinstance(parts[0], str):
            exact.add(parts[0])
        elif len(parts) == 2 and isinstance(parts[0], str) and parts[1] == "":
            begins.append(parts[0])
        else:
            others.append(parts)
    return _List(frozenset(exact), tuple(begins), tuple(others))


def _cut(pieces: list[str]) -> list[str]:
    """What of them every name has. What comes after 15 bytes stands for nothing, unless a ``*`` before them leaves open
    where they end: ``containerd-shim-runc*`` is the name ``containerd-shim``.
    """
    room = COMM_BYTES
    for place, piece in enumerate(pieces):
        if piece == "*":
            return pieces
        width = _width(piece)
        if width > room:
            # The kernel cuts in the middle of a character too; names show the bytes that are left of it.
            left = piece.encode("utf-8", "backslashreplace")[:room].decode("utf-8", "backslashreplace")
            return [*pieces[:place], *left]
        room -= width
    return pieces


def _width(piece: str) -> int:
    """How many bytes of a name it stands for, at least."""
    return 1 if piece == "?" or len(piece) > 1 else len(piece.encode("utf-8", "backslashreplace"))

"""Which processes oomd may touch at all."""

from __future__ import annotations

from oomd.model.values import dataclass

MACHINE = "machine"
TREE = "tree"
CGROUP = "cgroup"
UID = "uid"
MOST_DIGITS = 10
"""Of a pid or a user id: both are 32 bits wide."""


class ScopeError(ValueError):
    """The text is not a scope; the message says what would be."""


@dataclass(frozen=True, slots=True)
class ScopePart:
    """One condition: ``machine``, ``tree:PID``, ``cgroup:PATH`` or ``uid:UID``."""

    kind: str
    number: int = 0
    """The pid of a tree's root, or the user id."""
    path: str = ""
    """The cgroup below the root of the hierarchy, as in proc_pid_cgroup(5): ``/user.slice/…``."""

    def __str__(self) -> str:
        if self.kind == MACHINE:
            return MACHINE
        return f"{self.kind}:{self.path or self.number}"


@dataclass(frozen=True, slots=True)
class Scope:
    """The intersection of its parts: a process is inside when it is inside every one of them."""

    parts: tuple[ScopePart, ...] = (ScopePart(MACHINE),)

    def narrowed(self, other: Scope) -> Scope:
        """What lies in both."""
        parts = [part for part in dict.fromkeys(self.parts + other.parts) if part.kind != MACHINE]
        return Scope(tuple(parts) or (ScopePart(MACHINE),))

    @property
    def is_machine(self) -> bool:
        """Whether nothing is left out."""
        return all(part.kind == MACHINE for part in self.parts)

    @property
    def tree_roots(self) -> tuple[int, ...]:
        """The pids of the roots of its trees."""
        return tuple(part.number for part in self.parts if part.kind == TREE)

    def __str__(self) -> str:
        return " and ".join(str(part) for part in self.parts)


def parse_scope(text: str) -> Scope:
    """The scope of ``machine``, ``tree:PID``, ``cgroup:PATH``, ``uid:UID``, or several joined by ``,`` (all of them
    must hold).
    """
    return Scope(tuple(_parse_part(part.strip()) for part in text.split(","))).narrowed(Scope())


def _parse_part(text: str) -> ScopePart:
    kind, separator, rest = text.partition(":")
    if kind == MACHINE and not separator:
        return ScopePart(MACHINE)
    is_number = rest.isascii() and rest.isdigit() and len(rest) <= MOST_DIGITS
    if is_number and (kind == UID or (kind == TREE and int(rest) > 0)):
        return ScopePart(kind, number=int(rest))
    if kind == CGROUP and rest.startswith("/"):
        folders = [folder for folder in rest.split("/") if folder]
        if not {".", ".."} & set(folders):
            return ScopePart(CGROUP, path="/" + "/".join(folders))
    raise ScopeError(f"{text!r} is no scope: machine, tree:PID, cgroup:/PATH or uid:UID")

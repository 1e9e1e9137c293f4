"""Marks that cgroups bear: extended attributes by which an administrator, systemd or an owner asks to be spared, or to
go first.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from oomd.model.snapshot import Cgroup

OMIT = "omit"
PREFER = "prefer"
AVOID = "avoid"
NORMAL = "normal"

_TRUE = frozenset({"1", "y", "yes", "t", "true", "on"})
"""What systemd takes for true (parse_boolean())."""
_FALSE = frozenset({"0", "n", "no", "f", "false", "off"})


def honoured_mark(marks: tuple[tuple[str, str], ...], owner_uid: int | None, ancestor_uid: int) -> tuple[str, str]:
    """``omit``, ``prefer``, ``avoid`` (the earlier one wins) with the name of the mark, or ``normal``.

    ``trusted.`` marks can be set by the administrator alone. ``user.`` marks that spare are honoured as systemd-oomd
    does: only where root owns the cgroup, or whoever owns the ancestor beneath which the choice is made
    (``ancestor_uid``): nobody exempts himself at the cost of others. Offering oneself is open to everybody. Marks are
    not inherited. systemd.resource-control(5), ManagedOOMPreference=.
    """
    entitled = owner_uid in (0, ancestor_uid)
    for kind in (OMIT, PREFER, AVOID):
        for name, text in marks:
            prefix, _, told = name.partition(".oomd_")
            if told == kind and (prefix == "trusted" or entitled or kind == PREFER) and _is_set(prefix, kind, text):
                return kind, name
    return NORMAL, ""


def mark_of(cgroup: Cgroup, ancestor_uid: int) -> str:
    """``omit``, ``prefer``, ``avoid`` or ``normal``."""
    return honoured_mark(cgroup.xattrs, cgroup.owner_uid, ancestor_uid)[0]


def is_mark(because: str) -> bool:
    """Whether that is the name of a mark: it speaks of one cgroup, not of what is above or below."""
    return because.partition(".")[2].startswith("oomd_")


def _is_set(prefix: str, kind: str, text: str) -> bool:
    """Meta's oomd asks only whether a mark is there; by a ``user.`` one to be spared it must be true, as systemd has
    it.
    """
    text = text.strip("\0 \n").lower()
    return text not in _FALSE if kind == PREFER or prefix == "trusted" else text in _TRUE

"""Marks that cgroups bear: extended attributes by which an administrator, systemd or an owner asks to be spared, or to
go first.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from oomd.model.snapshot import Cgroup

_TRUE = frozenset({"1", "y", "yes", "t", "true", "on"})
"""What systemd takes for true (parse_boolean())."""


def mark_of(cgroup: Cgroup, ancestor_uid: int) -> str:
    """``omit``, ``prefer``, ``avoid`` or ``normal``; the earlier one wins.

    ``trusted.`` marks can be set by the administrator alone. ``user.`` marks that spare are honoured as systemd-oomd
    does: only where root owns the cgroup, or whoever owns the ancestor beneath which the choice is made
    (``ancestor_uid``): nobody exempts himself at the cost of others. Offering oneself is open to everybody. Marks are
    not inherited.
    """
    marks = dict(cgroup.xattrs)
    trusted = {name.removeprefix("trusted.oomd_") for name in marks if name.startswith("trusted.oomd_")}
    own = {
        name.removeprefix("user.oomd_")
        for name, text in marks.items()
        if name.startswith("user.oomd_") and text.strip("\0 \n").lower() in _TRUE
    }
    entitled = cgroup.owner_uid in (0, ancestor_uid)
    if "omit" in trusted or ("omit" in own and entitled):
        return "omit"
    if "prefer" in trusted or "prefer" in own:
        return "prefer"
    if "avoid" in trusted or ("avoid" in own and entitled):
        return "avoid"
    return "normal"

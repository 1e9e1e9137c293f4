"""How much of a cgroup's memory its memory.min and memory.low protect, as the hierarchy hands protection down."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from oomd.model.snapshot import Cgroup


def protection_bytes(cgroup: Cgroup | None, cgroups: tuple[Cgroup, ...]) -> int:
    """The bytes that protection leaves out of the reckoning; 0 where none is known.

    At the top level a cgroup is protected up to what it uses; below, siblings that ask for more than their parent has
    share it in proportion (Documentation/admin-guide/cgroup-v2.rst, memory.low). Ancestors and siblings that were not
    looked at ask for nothing.
    """
    if cgroup is None or cgroup.path == "/":
        return 0
    raw = _raw_bytes(cgroup)
    if not raw or cgroup.parent == "/":
        return raw
    parent = next((each for each in cgroups if each.path == cgroup.parent), None)
    if parent is None:
        return raw
    asked = sum(_raw_bytes(each) for each in cgroups if each.parent == cgroup.parent)
    given = protection_bytes(parent, cgroups)
    return raw if asked <= given else raw * given // asked


def _raw_bytes(cgroup: Cgroup) -> int:
    return min(cgroup.current_bytes or 0, max(cgroup.min_bytes, cgroup.low_bytes))

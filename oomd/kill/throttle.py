"""memory.high: whoever wants more than that in the cgroup must give something back first, and is slowed down by the
kernel if that does not suffice. Nobody is killed for it. Documentation/admin-guide/cgroup-v2.rst.

A write below what is in use reclaims the difference in the writer's own time, so the limit is lowered in steps, by a
thread of its own.
"""

from __future__ import annotations

from oomd.kernel.files import PAGE_BYTES
from oomd.kill.warrant import Refused
from oomd.model.units import MIB, format_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from oomd.kernel.cgroup_dir import CgroupDirectory

STEP_BYTES = 32 * MIB
"""How much one write may have to reclaim."""
MOST_STEPS = 256


class Throttle:
    """The lever memory.high."""

    file = "memory.high"

    def aim(self, cgroup: CgroupDirectory, to: float) -> tuple[str, list[str]]:
        """The limit of now, and those on the way to this share of what is in use. Raises Refused, OSError."""
        if not cgroup.has(self.file):
            raise Refused("has no memory.high: the memory controller is off there")
        found, used = cgroup.read(self.file), int(cgroup.read("memory.current"))
        goal = max(1, int(used * to) // PAGE_BYTES) * PAGE_BYTES
        if found != "max" and int(found) <= goal:
            raise Refused(f"may use no more than {format_size(int(found))} as it is")
        step = max(STEP_BYTES, (used - goal) // MOST_STEPS)
        first = used if found == "max" else min(used, int(found))
        steps = range(first - step, goal, -step)
        return found, [str(value // PAGE_BYTES * PAGE_BYTES) for value in (*steps, goal)]

    def why_not(self, path: str, pids: Iterable[int]) -> str:  # noqa: ARG002 - everybody under warrant may be slowed
        """Nobody else is spared."""
        return ""

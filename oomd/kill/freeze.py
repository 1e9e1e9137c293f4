"""cgroup.freeze of version 2: nobody in the cgroup and below it runs until it is thawed. SIGKILL goes through, SIGTERM
waits for the thaw. Documentation/admin-guide/cgroup-v2.rst.
"""

from __future__ import annotations

from oomd.kill.seats import Onlooker
from oomd.kill.warrant import Refused

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from oomd.kernel.cgroup_dir import CgroupDirectory


class Freeze:
    """The lever cgroup.freeze."""

    file = "cgroup.freeze"

    def __init__(self, proc_fd: int, look: Callable[[int], Onlooker] = Onlooker) -> None:
        self._proc_fd = proc_fd
        self._look = look

    def aim(self, cgroup: CgroupDirectory, to: float) -> tuple[str, list[str]]:  # noqa: ARG002 - there is no half of it
        """Raises Refused, OSError."""
        if not cgroup.has(self.file):
            raise Refused("has no cgroup.freeze (Linux 5.2)")
        found = cgroup.read(self.file)
        if found != "0":
            raise Refused("is frozen already")
        return found, ["1"]

    def why_not(self, path: str, pids: Iterable[int]) -> str:
        """Never what the user is looking at; asked again while it lasts."""
        return self._look(self._proc_fd).why_looked_at(path, pids)

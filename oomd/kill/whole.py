"""A cgroup that is chosen as a whole, killed as a whole, where its ladder says so (cgroup_kill)."""

from __future__ import annotations

import os

from oomd.kernel.cgroup_dir import CgroupDirectory, directory_of
from oomd.kill.cgroup_kill import kill_cgroup
from oomd.kill.members import look_at
from oomd.kill.warrant import GONE, Refused

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from oomd.kill.warrant import Gate
    from oomd.model.decision import Candidate, Warrant


class WholeCgroups:
    """Kills by cgroup.kill; signals and reaps follow in any case, and are all there is where that cannot be done."""

    def __init__(self, root: str, gate: Gate, proc_fd: int) -> None:
        """``root``: where cgroups of version 2 are mounted."""
        self._root = root
        self._gate = gate
        self._proc_fd = proc_fd

    def kill(self, target: Candidate, warrants: Iterable[Warrant]) -> bool:
        """Kill this cgroup, of whose processes these are under warrant; whether that was done. One more in it that may
        not be touched, and it is not.
        """
        if target.kind != "cgroup":
            return False
        inode = 0 if target.cgroup is None else target.cgroup.inode
        newcomers: list[Warrant] = []
        try:
            with CgroupDirectory(directory_of(self._root, target.name), inode) as cgroup:
                pidfds = {warrant.id.pid: warrant.pidfd for warrant in warrants}
                return kill_cgroup(cgroup, pidfds, lambda pid: self._grant(pid, newcomers))
        except (OSError, ValueError, Refused):
            return False
        finally:
            for warrant in newcomers:
                os.close(warrant.pidfd)

    def _grant(self, pid: int, newcomers: list[Warrant]) -> int | None:
        process = look_at(self._proc_fd, pid)
        if process is None:
            return None
        try:
            newcomers.append(self._gate.grant(process))
        except Refused as verdict:
            if str(verdict) == GONE:
                return None
            raise
        return newcomers[-1].pidfd

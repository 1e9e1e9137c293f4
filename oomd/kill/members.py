"""Everybody in a cgroup, under warrant: what must be so before anything that moves the whole of it."""

from __future__ import annotations

import os

from oomd.kernel.files import KernelFormatError
from oomd.kernel.pidfd import is_readable
from oomd.kernel.process import parse_stat, process_of, read_pid_file
from oomd.kill.warrant import GONE, Refused
from oomd.model.snapshot import Process

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from oomd.kernel.cgroup_dir import CgroupDirectory
    from oomd.kill.warrant import Gate
    from oomd.model.decision import Warrant

MOST_MEMBERS = 1024
"""Each takes a descriptor for as long as the cgroup is held."""
MOST_LOOKS = 8
"""Looks for newcomers; whoever forks faster than that cannot be had as a whole."""


class Members:
    """Warrants of all the processes of one cgroup, and of whoever joins them. Used by one thread, with a gate of its
    own.
    """

    def __init__(
        self, gate: Gate, proc_fd: int, cgroup: CgroupDirectory, spared: Mapping[int, str] | None = None
    ) -> None:
        """``spared``: pids that must not be moved although the gate would let them, and why."""
        self.warrants: dict[int, Warrant] = {}
        self._gate = gate
        self._proc_fd = proc_fd
        self._cgroup = cgroup
        self._spared = spared or {}

    def prove(self) -> None:
        """Everybody who is in the cgroup now is under warrant. Raises Refused, with whom, and OSError where the cgroup
        cannot tell.
        """
        for _ in range(MOST_LOOKS):
            pids = self._cgroup.read_members()
            self._forget(set(pids))
            unknown = [pid for pid in pids if pid not in self.warrants or is_readable(self.warrants[pid].pidfd)]
            if not unknown:
                return
            if len(pids) > MOST_MEMBERS:
                raise Refused(f"has {len(pids)} processes, more than {MOST_MEMBERS}")
            granted = [self._grant(pid) for pid in unknown]
            if not any(granted):
                return  # they have gone meanwhile
        raise Refused("somebody new joins at every look")

    def close(self) -> None:
        """Give every warrant back."""
        for warrant in self.warrants.values():
            os.close(warrant.pidfd)
        self.warrants.clear()

    def _forget(self, pids: set[int]) -> None:
        for pid in [pid for pid in self.warrants if pid not in pids]:
            os.close(self.warrants.pop(pid).pidfd)

    def _grant(self, pid: int) -> bool:
        """One more, unless it has gone meanwhile. Raises Refused."""
        process = look_at(self._proc_fd, pid)
        if process is None or process.is_dead:
            return False
        who = f"holds {process.comm} ({pid}), which"
        if pid in self._spared:
            raise Refused(f"{who} {self._spared[pid]}", process.id)
        try:
            warrant = self._gate.grant(process)
        except Refused as verdict:
            if str(verdict) == GONE:
                return False
            raise Refused(f"{who} {verdict}", process.id) from verdict
        known = self.warrants.pop(pid, None)
        if known is not None:
            os.close(known.pidfd)
        self.warrants[pid] = warrant
        return True


def look_at(proc_fd: int, pid: int) -> Process | None:
    """Who that is, as far as its stat tells; None where it is gone. A pid of another namespace (0) is refused."""
    if pid == 0:
        raise Refused("holds a process of another PID namespace")
    try:
        data = read_pid_file(proc_fd, pid, "stat")
        stat = parse_stat(data) if data else None
    except (OSError, KernelFormatError):
        stat = None
    return None if stat is None else process_of(stat)

"""The one gate: nothing is done to another process without a warrant, and only this module makes warrants."""

from __future__ import annotations

import errno
import os

from oomd.kernel.files import KernelFormatError
from oomd.kernel.pidfd import open_pidfd
from oomd.kernel.process import parse_stat, read_pid_file
from oomd.kernel.syscalls import pidfd_send_signal
from oomd.model.decision import Warrant
from oomd.model.snapshot import PF_KTHREAD, Process, ProcessId

TYPE_CHECKING = False
if TYPE_CHECKING:
    from oomd.kernel.process import Stat
    from oomd.kernel.scope import ScopeGuard

GONE = "is gone"
NOT_PERMITTED = "may not be signalled by us (EPERM)"


class GateError(Exception):
    """No warrant can ever be granted here; the message says why."""


class Refused(Exception):  # noqa: N818 - a verdict, not a fault
    """This process may not be touched; the message says why."""

    def __init__(self, why: str, who: ProcessId | None = None) -> None:
        """``who``: which of several, where more than one was to be taken."""
        super().__init__(why)
        self.who = who


class Gate:
    """Proves identity and scope against the real procfs of our own PID namespace, whatever tree the readers look at."""

    def __init__(self, guard: ScopeGuard, proc_fd: int, own_pids: frozenset[int]) -> None:
        """Raises GateError when ``proc_fd`` is not the procfs of our own PID namespace: its pids would be other
        processes than ours.
        """
        self._guard = guard
        self._proc_fd = proc_fd
        self.own_pids = own_pids
        self._device = os.fstat(proc_fd).st_dev
        self._own_pid = os.getpid()
        try:
            shown = os.readlink("self", dir_fd=proc_fd)
        except OSError as error:
            raise GateError(f"/proc/self cannot be read ({error.strerror}): is procfs mounted?") from error
        if shown != str(self._own_pid):
            raise GateError(
                f"/proc belongs to another PID namespace: it calls this process {shown}, not {self._own_pid}"
            )

    def grant(self, process: Process, stat_fd: int = -1) -> Warrant:
        """A warrant for this very process, or Refused.

        ``stat_fd`` is a kept descriptor of its stat file, so that nothing is opened by path on the way to a kill. The
        pidfd is opened first;
        a stat that can still be read afterwards and shows the same start time proves that the pidfd is of the process
        that was chosen.
        """
        pid = process.id.pid
        if pid <= 1 or pid in self.own_pids or pid == self._own_pid:
            raise Refused("is pid 1, oomd itself or what started it")
        try:
            pidfd = open_pidfd(pid)
        except OSError as error:
            raise Refused(f"cannot be opened ({error.strerror})") from error
        if pidfd is None:
            raise Refused(GONE)
        try:
            stat = self._prove(process.id, pidfd, stat_fd)
        except BaseException:
            os.close(pidfd)
            raise
        found = hindrances(stat)
        return Warrant(process.id, pidfd, process.comm, str(self._guard.scope), found, process.size_bytes)

    def _prove(self, process_id: ProcessId, pidfd: int, stat_fd: int) -> Stat:
        stat = self._read_stat(process_id.pid, stat_fd)
        if stat is None or stat.pid != process_id.pid or stat.start_ticks != process_id.start_ticks:
            raise Refused(GONE)
        if stat.flags & PF_KTHREAD:
            raise Refused("is a kernel thread")
        why = self._guard.prove(process_id)
        if why:
            raise Refused(why)
        try:
            pidfd_send_signal(pidfd, 0)
        except OSError as error:
            raise Refused(NOT_PERMITTED if error.errno == errno.EPERM else GONE) from error
        return stat

    def _read_stat(self, pid: int, stat_fd: int) -> Stat | None:
        try:
            if stat_fd >= 0 and os.fstat(stat_fd).st_dev == self._device:
                return parse_stat(os.pread(stat_fd, 4096, 0))
            data = read_pid_file(self._proc_fd, pid, "stat")
            return None if data is None else parse_stat(data)
        except (OSError, KernelFormatError):
            return None


def hindrances(stat: Stat) -> tuple[str, ...]:
    """What keeps the process from freeing its memory by itself, as far as stat shows."""
    found = []
    if stat.policy == os.SCHED_IDLE:
        found.append("SCHED_IDLE")
    if stat.nice > 0:
        found.append(f"nice {stat.nice}")
    if stat.state == "D":
        found.append("uninterruptible sleep (or frozen)")
    return tuple(found)

"""The oom_score_adj of other processes: written with a warrant, and to nobody else."""

from __future__ import annotations

import errno
import os

from oomd.kernel.pidfd import open_pidfd
from oomd.kernel.syscalls import pidfd_send_signal
from oomd.kill.warrant import GONE, Refused
from oomd.model.values import dataclass

TYPE_CHECKING = False
if TYPE_CHECKING:
    from oomd.kernel.scope import ScopeGuard
    from oomd.kill.warrant import Gate
    from oomd.model.decision import Warrant
    from oomd.model.snapshot import Process


@dataclass(frozen=True, slots=True)
class Admitted:
    """A process that may be touched: a pidfd that is now the caller's, and the errno of the write (0: written)."""

    pidfd: int
    write_errno: int = 0


class Importance:
    """Admits processes by the gate, and writes their oom_score_adj."""

    def __init__(self, gate: Gate, proc_fd: int) -> None:
        self._gate = gate
        self._proc_fd = proc_fd

    def admit(self, process: Process, adj: int | None) -> Admitted | str:
        """A warrant's pidfd once the number (None: none) is written, or why this process may not be touched. Raises
        OSError (EMFILE, ENFILE).
        """
        try:
            warrant = self._gate.grant(process)
        except Refused as verdict:
            return str(verdict)
        return Admitted(warrant.pidfd, 0 if adj is None else write_oom_score_adj(warrant, adj, self._proc_fd))


class DryImportance:
    """The same for a dry run: nothing is written."""

    def __init__(self, guard: ScopeGuard) -> None:
        self._guard = guard

    def admit(self, process: Process, adj: int | None) -> Admitted | str:  # noqa: ARG002 - nothing is written
        """A pidfd, or why this process could not be touched."""
        pidfd = open_pidfd(process.id.pid)
        if pidfd is None:
            return GONE
        why = self._guard.prove(process.id)
        if why:
            os.close(pidfd)
            return why
        return Admitted(pidfd)


def write_oom_score_adj(warrant: Warrant, adj: int, proc_fd: int) -> int:
    """0, or the errno; proc_pid_oom_score_adj(5). EACCES: lower than ever before, without CAP_SYS_RESOURCE.

    The file is opened by pid, which may have been handed out again since the warrant was granted; but where the
    warrant's process can still be signalled after the open, its pid was its own when the file was opened, and an open
    file of procfs stays with its process.
    """
    try:
        fd = os.open(f"{warrant.id.pid}/oom_score_adj", os.O_WRONLY | os.O_CLOEXEC, dir_fd=proc_fd)
    except OSError as error:
        return error.errno or errno.EIO
    try:
        pidfd_send_signal(warrant.pidfd, 0)
        os.write(fd, b"%d" % adj)
    except OSError as error:
        return error.errno or errno.EIO
    finally:
        os.close(fd)
    return 0

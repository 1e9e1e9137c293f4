"""Makes the kernel forget what a process touched, so that it can be seen what it touches from now on: clear_refs of
proc_pid_clear_refs(5).

It is no harmless question. The kernel walks the page tables while it holds the process's mmap lock for writing (50 to
150 ms per GiB of small pages on two busy CPUs), during which the process can neither map nor unmap; and to reclaim the
pages look unused until they are touched again. So it is done only where a rule asks for it by name, to few, long before
anybody is chosen, and with a warrant like every effect on another process.

What is written is 2, anonymous pages alone: what reclaim knows of files stays, and soft-dirty bits (4), by which a
process may be checkpointed just now, are never touched. PAGEMAP_SCAN of the same procfs cannot tell reads at all, and
writes only of memory that the process itself has registered with userfaultfd(2).
"""

from __future__ import annotations

import errno
import os

from oomd.kernel.syscalls import pidfd_send_signal
from oomd.kill.warrant import Refused

TYPE_CHECKING = False
if TYPE_CHECKING:
    from oomd.kill.warrant import Gate
    from oomd.model.decision import Warrant
    from oomd.model.snapshot import Process

ANONYMOUS = b"2"
LARGEST_BYTES = 8 << 30
"""Nobody larger than this is held up so long."""
FILE = "clear_refs"


class Forgetting:
    """Prepares it on the loop's thread, where warrants are granted; it is carried out on another one."""

    def __init__(self, gate: Gate, proc_fd: int) -> None:
        self._gate = gate
        self._proc_fd = proc_fd

    def prepare(self, process: Process, stat_fd: int = -1) -> Forget | None:
        """What makes the kernel forget; None where the process may not be touched, or would be held up for long."""
        if process.size_bytes > LARGEST_BYTES:
            return None
        try:
            return Forget(self._gate.grant(process, stat_fd), self._proc_fd)
        except Refused:
            return None


class Forget:
    """One warrant, to be used once or let go."""

    def __init__(self, warrant: Warrant, proc_fd: int) -> None:
        self._warrant = warrant
        self._proc_fd = proc_fd

    def carry_out(self) -> int:
        """0, or the errno. EACCES: another user's process, without CAP_DAC_OVERRIDE.

        The file is opened by pid, which may have been handed out again since the warrant was granted; but where the
        warrant's process can still be signalled after the open, its pid was its own when the file was opened, and an
        open file of procfs stays with its process.
        """
        fd = -1
        try:
            fd = os.open(f"{self._warrant.id.pid}/{FILE}", os.O_WRONLY | os.O_CLOEXEC, dir_fd=self._proc_fd)
            pidfd_send_signal(self._warrant.pidfd, 0)
            os.write(fd, ANONYMOUS)
        except OSError as error:
            return error.errno or errno.EIO
        else:
            return 0
        finally:
            if fd >= 0:
                os.close(fd)

    def let_go(self) -> None:
        """Close the warrant's descriptor."""
        os.close(self._warrant.pidfd)


def why_not_everybody(capabilities: frozenset[str], *, dry_run: bool) -> str:
    """What keeps this daemon from watching what processes touch, in words; empty where nothing does."""
    if dry_run:
        return "nobody is touched in a dry run"
    if not os.path.exists(f"/proc/self/{FILE}"):
        return "this kernel has no clear_refs (CONFIG_PROC_PAGE_MONITOR)"
    if os.geteuid() != 0 or "CAP_DAC_OVERRIDE" not in capabilities:
        return "no CAP_DAC_OVERRIDE: only processes of our own user are watched"
    return ""

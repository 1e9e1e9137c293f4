"""try_reap_dying_process(), as Daniel Colascione proposed it in the debate of 2019: the caller reaps, in its own time
and priority, and learns how much came back.
"""

from __future__ import annotations

import errno
import os

from oomd.kernel.files import KernelFormatError
from oomd.kernel.process import read_pid_file, read_thread_status
from oomd.kernel.syscalls import process_mrelease

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from oomd.kernel.process import Status

NO_LIMIT = (1 << 63) - 1
SIGKILL = 9
DYING = (0, errno.ESRCH, errno.EAGAIN)
"""What a reap after SIGTERM answers when that was the end of the process."""


def try_reap_dying_process(
    pidfd: int | Iterable[int], flags: int = 0, max_bytes: int = NO_LIMIT, *, proc_fd: int | None = None
) -> int:
    """Bytes of private anonymous memory and swap that came back.

    ``pidfd`` may be several: they are taken in the order given, and none is begun once ``max_bytes`` are back. One
    memory map is reaped whole (process_mrelease has no limit), so more than ``max_bytes`` may come back. Never retries:
    what is busy is told as such. ``proc_fd``: a descriptor of /proc, opened where it is missing.

    Raises OSError: EINVAL for flags (there are none), a negative ``max_bytes``, a descriptor that is no pidfd, and a
    process whose memory is shared with one that is not dying; EPERM when no SIGKILL is pending for it; EBUSY when a
    part is held; ESRCH when it has left its memory already; ENOSYS without process_mrelease. Of several processes only
    the first error is raised, after all were tried, and only if nothing came back.
    """
    if flags or max_bytes < 0:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
    own_fd = os.open("/proc", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC) if proc_fd is None else proc_fd
    reaped, failure = 0, 0
    try:
        for each in (pidfd,) if isinstance(pidfd, int) else pidfd:
            if reaped >= max_bytes:
                break
            taken, number = _reap_one(each, own_fd)
            reaped, failure = reaped + taken, failure or number
    finally:
        if proc_fd is None:
            os.close(own_fd)
    if failure and not reaped:
        raise OSError(failure, os.strerror(failure))
    return reaped


def is_dying(proc_fd: int, pid: int, reap_errno: int) -> bool:
    """Whether SIGTERM was the end of this process, whose reap answered so. A backend that cannot tell leaves it to the
    kernel's own mark: a fatal signal becomes a pending SIGKILL of every thread.
    """
    if reap_errno != errno.ENOSYS:
        return reap_errno in DYING
    data = read_pid_file(proc_fd, pid, "status", denied=b"") or b""
    masks = [line.split(b":")[1] for line in data.split(b"\n") if line.startswith((b"SigPnd:", b"ShdPnd:"))]
    return any(int(mask, 16) >> (SIGKILL - 1) & 1 for mask in masks)


def read_pid_of(pidfd: int, proc_fd: int) -> int:
    """The pid behind a pidfd; 0 when it has ended, in our PID namespace. Raises OSError: EINVAL when it is no pidfd."""
    data = read_pid_file(proc_fd, os.getpid(), f"fdinfo/{pidfd}") or b""
    for line in data.split(b"\n"):
        if line.startswith(b"Pid:"):
            return max(0, int(line[4:]))
    raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))


def _reap_one(pidfd: int, proc_fd: int) -> tuple[int, int]:
    """Bytes, errno."""
    try:
        pid = read_pid_of(pidfd, proc_fd)
    except OSError as error:
        return 0, error.errno or errno.EINVAL
    before = _status(pid, proc_fd)
    try:
        process_mrelease(pidfd)
    except OSError as error:
        number = error.errno or errno.EIO
        if number == errno.EINVAL and not (before is not None and before.kill_pending):
            return 0, errno.EPERM
        if number not in (errno.EAGAIN, errno.EINTR):
            return 0, number
        return _back(before, _status(pid, proc_fd)), errno.EBUSY
    return _back(before, _status(pid, proc_fd)), 0


def _status(pid: int, proc_fd: int) -> Status | None:
    """Of the process, or of a thread that outlives its leader. This look takes a reference to the memory map for some
    microseconds; nobody but the reaper may do that to a dying process.
    """
    try:
        return read_thread_status(proc_fd, pid) if pid > 0 else None
    except (OSError, KernelFormatError):
        return None


def _back(before: Status | None, after: Status | None) -> int:
    if before is None:
        return 0
    left = 0 if after is None else after.rss_anon_bytes + after.swap_bytes
    return max(0, before.rss_anon_bytes + before.swap_bytes - left)

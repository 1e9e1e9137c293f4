"""A descriptor that means one process for ever, whatever becomes of its pid; pidfd_open(2)."""

from __future__ import annotations

import errno
import os
import select

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable


def open_pidfd(pid: int) -> int | None:
    """A descriptor of the process, closed on exec; None when there is no such process.

    None for ESRCH, and for what the kernel says of the id of a thread that is no leader or of a leader that
    is just going: ENOENT on 6.9 and later, EINVAL before. A zombie can be opened until it is reaped, and a
    pid may have been handed out again: prove identity after opening, not before. Raises OSError for the rest
    (EMFILE, ENOSYS …).
    """
    try:
        return os.pidfd_open(pid)
    except OSError as error:
        if error.errno in (errno.ESRCH, errno.EINVAL, errno.ENOENT):
            return None
        raise


def is_readable(pidfd: int, patience_ms: int = 0) -> bool:
    """Whether all threads of the process have ended, or end so soon; it does not mean that its memory came back. Raises
    OSError (EBADF).
    """
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    events = sum(event for _, event in poll.poll(patience_ms))
    if events & select.POLLNVAL:
        raise OSError(errno.EBADF, os.strerror(errno.EBADF))
    return events != 0


def find_readable(pidfds: Iterable[int]) -> set[int]:
    """Those of them whose processes have ended, by one system call."""
    poll = select.poll()
    for pidfd in pidfds:
        poll.register(pidfd, select.POLLIN)
    return {pidfd for pidfd, _ in poll.poll(0)}

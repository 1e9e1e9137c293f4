"""process_mrelease(2): the kernel strips a dying process's memory in our context, with our priority and CPUs (Linux
5.15).
"""

from __future__ import annotations

import errno
import time

from oomd.kernel.syscalls import process_mrelease, signal_and_release

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

FIRST_PAUSE_S = 0.001
LONGEST_PAUSE_S = 0.1
GIVE_UP_S = 1.0
"""As long as the kernel's own reaper tries: ten times 100 ms."""


class MreleaseReaper:
    """Calls process_mrelease until it has taken what it can."""

    name = "mrelease"
    lifts = True

    def strike(self, pidfd: int, signal: int, sent: Callable[[int], None]) -> tuple[int, int, int]:
        """Signal and reap: the errno of the signal, when it was sent (CLOCK_MONOTONIC, microseconds; ``sent`` is told
        that at once), and the errno of the reap.
        """
        signal_errno, sent_us, reap_errno = signal_and_release(pidfd, signal, sent)
        if reap_errno in (errno.EAGAIN, errno.EINTR):
            reap_errno = self.reap(pidfd)
        return signal_errno, sent_us, reap_errno

    def reap(self, pidfd: int) -> int:
        """0: reaped. ESRCH: the victim was quicker (no failure). EINVAL: not dying, or a process that shares its memory
        is not. EAGAIN: part of it is held by a device (a blocking MMU notifier) for longer than a second.
        """
        pause = FIRST_PAUSE_S
        give_up = time.monotonic() + GIVE_UP_S
        while True:
            try:
                process_mrelease(pidfd)
            except OSError as error:
                number = error.errno or errno.EIO
                if number not in (errno.EAGAIN, errno.EINTR) or time.monotonic() + pause > give_up:
                    return number
                time.sleep(pause)  # the reaper's own thread; the loop goes on meanwhile
                pause = min(pause * 2, LONGEST_PAUSE_S)
            else:
                return 0

"""What the lifter's thread waits for: to be rung for now, or at a time that was set before."""

from __future__ import annotations

import os
import select

from oomd.kernel.syscalls import HAS_TIMER, Timer
from oomd.kernel.threads import allocate_lock


class Bell:
    """Rung by any thread, waited for by one."""

    def __init__(self) -> None:
        """Raises OSError (EMFILE)."""
        self._fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._timer = Timer()
        self._poll = select.poll()
        self._poll.register(self._fd, select.POLLIN)
        self._poll.register(self._timer.fd, select.POLLIN)
        self._open = allocate_lock()
        self._is_open = True

    def ring(self) -> None:
        """Now: whoever waits wakes up, and asks for the interpreter's lock."""
        with self._open:
            if self._is_open:
                os.eventfd_write(self._fd, 1)

    def ring_after(self, wait_us: int) -> None:
        """So long from now, and not at the time that was set before. Wakes nobody yet."""
        if HAS_TIMER:
            self._timer.start(wait_us)

    def wait(self, timeout_s: float | None) -> None:
        """Until it rings, at most so long; in whole milliseconds, not less."""
        for fd, _ in self._poll.poll(None if timeout_s is None else timeout_s * 1000):
            try:
                os.read(fd, 8)
            except BlockingIOError:
                pass  # set anew meanwhile

    def close(self) -> None:
        """Nobody waits any more."""
        with self._open:
            self._is_open = False
            os.close(self._fd)
            self._timer.close()

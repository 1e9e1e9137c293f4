"""SS_EXPEDITE, simulated: the flag that pidfd_send_signal(2) was to learn in 2019 and did not (Suren Baghdasaryan,
"mm: expedite memory reclaim of a killed process", RFC of 10 April 2019).

The proposal's contract, in the order of its checks; reaping follows asynchronously by one worker, last in first out,
ten tries 100 ms apart, and says nothing when it cannot be done. The flag's value means PIDFD_SIGNAL_THREAD to kernels
since 6.9, so it is never passed on.

Where the kernel's own reaper thread stripped the victim, here process_mrelease does, if the kernel has it and
``beneath`` is on. Beyond that the victim is enabled to finish by itself: lifting its hindrances is what the reserves
and the thaw that the kernel's mark_oom_victim() gives were for.
"""

from __future__ import annotations

import errno
import os
import time

from oomd.kernel.features import read_capabilities
from oomd.kernel.pidfd import is_readable
from oomd.kernel.syscalls import pidfd_send_signal, process_mrelease
from oomd.kernel.threads import Semaphore, Thread
from oomd.model.values import dataclass

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections import deque
    from collections.abc import Callable
else:
    from _collections import deque  # the C module alone

SIGKILL = 9
SS_EXPEDITE = 0x1
"""The proposal's value (include/linux/signal.h of the RFC)."""
TRIES = 10
PAUSE_S = 0.1
"""MAX_OOM_REAP_RETRIES and HZ/10 of mm/oom_kill.c."""


class ExpediteReaper:
    """The backend ``expedite``: what the proposal's reaper thread does to one victim."""

    name = "expedite"
    lifts = True

    def __init__(self, *, beneath: bool = True, pause_s: float = PAUSE_S) -> None:
        """``beneath``: whether process_mrelease may serve where the kernel has it."""
        self.beneath = beneath
        self._pause_s = pause_s

    def reap(self, pidfd: int) -> int:
        """0: stripped. ENOSYS: only its hindrances are lifted. Else why it was given up: ESRCH (it left its memory),
        EINVAL (not dying, a sharer lives, or it dumps core), EAGAIN.
        """
        if not self.beneath:
            return errno.ENOSYS
        for number in range(TRIES):
            if number:
                time.sleep(self._pause_s)  # the worker's own thread
            try:
                process_mrelease(pidfd)
            except OSError as error:
                if error.errno not in (errno.EAGAIN, errno.EINTR):
                    return error.errno or errno.EIO
            else:
                return 0
        return errno.EAGAIN


@dataclass(frozen=True, slots=True)
class Expedited:
    """What the worker did for one victim."""

    tag: object
    """What was given with the request."""
    reap_errno: int
    begin_us: int
    """CLOCK_MONOTONIC."""
    end_us: int


class Expediter:
    """The signal call with the flag, and the worker behind it."""

    def __init__(
        self, reaper: ExpediteReaper, on_done: Callable[[Expedited], None] = lambda _: None, proc: str = "/proc"
    ) -> None:
        """``on_done`` is called by the worker after each victim."""
        self._reaper = reaper
        self._on_done = on_done
        self._proc = proc
        self._stack: deque[tuple[int, object]] = deque()
        self._wake = Semaphore(0)
        self.thread = Thread(self._run, name="expediter")
        self.prepare: Callable[[], object] = lambda: None
        """Called by the worker when it starts: its scheduling class."""

    def start(self) -> None:
        """Start the worker."""
        self.thread.start()

    def stop(self) -> None:
        """End the worker after what was asked for."""
        self._stack.appendleft((-1, None))
        self._wake.release()

    def pidfd_send_signal(self, pidfd: int, number: int, flags: int = 0, *, tag: object = None) -> None:
        """Sends the signal; with SS_EXPEDITE also hastens the end of the process. Returns only the signal's result.

        Raises OSError, in this order: EINVAL for an unknown flag, EINVAL for the flag with another signal than SIGKILL
        (0 too), EPERM for the flag without CAP_SYS_NICE in the initial user namespace, and then EBADF, EINVAL, ESRCH,
        EPERM as pidfd_send_signal(2) has them.
        """
        if flags & ~SS_EXPEDITE:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        if flags and number != SIGKILL:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        if flags and not may_expedite(self._proc):
            raise OSError(errno.EPERM, os.strerror(errno.EPERM))
        copy = -1
        if flags:
            try:
                copy = os.dup(pidfd)
            except OSError:
                copy = -1  # EBADF is the signal's to say; without a descriptor nothing is hastened
        try:
            pidfd_send_signal(pidfd, number)
        except BaseException:
            if copy >= 0:
                os.close(copy)
            raise
        if copy >= 0:
            self._stack.append((copy, tag))
            self._wake.release()

    def _run(self) -> None:
        self.prepare()
        while True:
            self._wake.acquire()
            pidfd, tag = self._stack.pop()
            if pidfd < 0:
                return
            begin = time.monotonic_ns() // 1000
            try:
                result = errno.ESRCH if is_readable(pidfd) else self._reaper.reap(pidfd)
            finally:
                os.close(pidfd)
            self._on_done(Expedited(tag, result, begin, time.monotonic_ns() // 1000))


def may_expedite(proc: str = "/proc") -> bool:
    """capable(CAP_SYS_NICE): the calling thread has it, in the initial user namespace. The proposal asks for it because
    the one reaper thread is everybody's.
    """
    with open(f"{proc}/thread-self/status", "rb") as file:
        if "CAP_SYS_NICE" not in read_capabilities(file.read()):
            return False
    with open(f"{proc}/self/uid_map", "rb") as file:
        return file.read().split() == [b"0", b"0", b"4294967295"]

"""How long a reap goes before everybody else: from before the signal until it has surely begun, and a little more.

Without a real-time class the woken victim comes between signal and reap; with one for all of a large reap nobody else
would run on that CPU for hundreds of milliseconds.
"""

from __future__ import annotations

import os
import threading
import time

from oomd.kernel.sched import be_realtime, run_on
from oomd.reap.hindrance import keep_apart

TYPE_CHECKING = False
if TYPE_CHECKING:
    from oomd.reap.hindrance import Lifter

PRIORITY = 12
"""Real-time priority; above the loop's, so that the loop's own next step never comes between signal and reap."""
MOST_REALTIME_S = 0.005
"""A reap that lasts longer goes on at normal priority: 4 GiB take 200 ms."""


class Urgency:
    """The scheduling classes of the pool's workers."""

    def __init__(self, lifter: Lifter | None, proc_fd: int) -> None:
        """``lifter``: whose thread ends the real-time of a worker that is in the kernel just then."""
        self.permitted = False
        """Whether the workers could get a real-time class."""
        self._lifter = lifter
        self._proc_fd = proc_fd
        self._cpus = os.sched_getaffinity(0)
        self._changing = threading.Lock()
        """Held while a worker's class is changed."""
        self._reaping: dict[int, object] = {}
        """Thread ids of the workers that reap right now with real-time priority, each with a token of this reap."""

    def ask(self) -> None:
        """Real-time for the calling worker, where that is permitted."""
        if be_realtime(PRIORITY):
            self.permitted = True

    def enter(self, surely_dying: int = 0, pidfd: int = -1) -> int:
        """A reap begins; what is returned is for :meth:`leave`. ``surely_dying``: the pid of the one victim; 0 where it
        may catch the signal, or there are several.
        """
        tid, token = threading.get_native_id(), object()
        self._reaping[tid] = token
        if self._lifter is not None and self.permitted:
            due = time.monotonic() + MOST_REALTIME_S
            self._lifter.call_later(due, lambda: self._end(tid, token, surely_dying, pidfd))
            if not surely_dying:  # else whoever asked wakes it, after the signal
                self._lifter.wake()
        return tid

    def leave(self, tid: int) -> None:
        """It is over: real-time again for the next one."""
        with self._changing:
            if self._reaping.pop(tid, None) is None and self.permitted:
                # It lasted so long that its real-time was ended.
                run_on(self._cpus)
                be_realtime(PRIORITY)

    def _end(self, tid: int, token: object, pid: int, pidfd: int) -> None:
        """``pid``: of the victim; 0 where it may have caught the signal, and nothing of it may be changed."""
        with self._changing:
            if self._reaping.get(tid) is token:  # so the pidfd is still open
                self._reaping.pop(tid, None)
                if pid:
                    keep_apart(tid, self._proc_fd, pid, pidfd)
                set_policy(tid, os.SCHED_OTHER)


def set_policy(tid: int, policy: int) -> bool:
    """A class without priorities for a thread; whether that was permitted, and it is there."""
    try:
        os.sched_setscheduler(tid, policy, os.sched_param(0))
    except OSError:
        return False
    return True

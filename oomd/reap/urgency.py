"""How long a reap goes before everybody else: from before the signal until it has surely begun, and a little more.

Without a real-time class the woken victim comes between signal and reap; with one for all of a large reap nobody else
would run on that CPU for hundreds of milliseconds.
"""

from __future__ import annotations

import os
import time
from _thread import allocate_lock, get_native_id

from oomd.kernel.pidfd import is_readable
from oomd.kernel.sched import LOOP_PRIORITY, REAP_NICE, be_prompt, be_realtime, run_on
from oomd.model.values import dataclass
from oomd.reap.hindrance import keep_apart

TYPE_CHECKING = False
if TYPE_CHECKING:
    from oomd.reap.hindrance import Lifter

CROWD_PRIORITY = 9
"""Of reaps that follow each other, where no signal is to be sent between: before all ordinary processes, as the victims
themselves, which would share the CPUs with everybody else, and after the loop."""
MOST_REALTIME_S = 0.005
"""A reap that lasts longer goes on at normal priority: 4 GiB take 200 ms."""
MOST_CROWDED_S = 0.5
"""Nor do thousands of small victims keep everybody else from the CPUs for longer."""


@dataclass()
class _Reap:
    """One that is going on with real-time priority."""

    begun: float
    """time.monotonic()."""
    pid: int
    """Of the victim; 0 where it may have caught the signal, or there are several: nothing of it may be changed."""
    pidfd: int


class Urgency:
    """The scheduling classes of the pool's workers."""

    def __init__(self, lifter: Lifter | None, proc_fd: int) -> None:
        """``lifter``: whose thread ends the real-time of a worker that is in the kernel just then."""
        self.permitted = False
        """Whether the workers could get a real-time class."""
        self._lifter = lifter
        self._proc_fd = proc_fd
        self._cpus = os.sched_getaffinity(0)
        self._changing = allocate_lock()
        """Held while a worker's class is changed."""
        self._reaping: dict[int, _Reap] = {}
        """By the ids of the workers' threads."""
        self._lowered: set[int] = set()
        """Whose class is another for a while."""
        self._crowded: dict[int, float] = {}
        """Since when each of them takes one victim after another (time.monotonic())."""

    def ask(self) -> None:
        """Real-time for the calling worker, where that is permitted."""
        if be_realtime(LOOP_PRIORITY):
            self.permitted = True

    def enter(self, surely_dying: int = 0, pidfd: int = -1) -> int:
        """A reap begins; what is returned is for :meth:`leave`. ``surely_dying``: the pid of the victim; 0 where it may
        catch the signal. The lifter is to be woken afterwards.
        """
        tid = get_native_id()
        self._begin(tid, surely_dying, pidfd)
        return tid

    def enter_next(self) -> int:
        """One of several reaps begins, each of which has its own few milliseconds, and all together half a second;
        :meth:`leave` after the last.
        """
        tid, now = get_native_id(), time.monotonic()
        if now > self._crowded.setdefault(tid, now) + MOST_CROWDED_S:
            return tid
        reap = self._reaping.get(tid)
        if reap is not None:
            reap.begun = now
            return tid
        with self._changing:
            if self.permitted:
                be_realtime(CROWD_PRIORITY)
                self._lowered.add(tid)
        self._begin(tid, 0, -1)
        if self._lifter is not None:
            self._lifter.wake()
        return tid

    def leave(self, tid: int) -> None:
        """It is over: real-time again for the next one."""
        with self._changing:
            self._reaping.pop(tid, None)
            self._crowded.pop(tid, None)
            if tid in self._lowered:
                self._lowered.discard(tid)
                run_on(self._cpus)
                be_realtime(LOOP_PRIORITY)

    def _begin(self, tid: int, pid: int, pidfd: int) -> None:
        reap = self._reaping[tid] = _Reap(time.monotonic(), pid, pidfd)
        if self._lifter is not None and self.permitted:
            self._lifter.call_later(reap.begun + MOST_REALTIME_S, lambda: self._end(tid, reap))

    def _end(self, tid: int, reap: _Reap) -> None:
        """Of this one, if it has lasted so long; by the lifter."""
        with self._changing:
            if self._reaping.get(tid) is not reap:
                return
            due = reap.begun + MOST_REALTIME_S
            if due > time.monotonic():  # another one has begun since
                if self._lifter is not None:
                    self._lifter.call_later(due, lambda: self._end(tid, reap))
                return
            del self._reaping[tid]  # so the pidfd is still open
            if not _is_realtime(tid):
                return  # whoever asked, and reaps itself, never was
            if reap.pid:
                keep_apart(tid, self._proc_fd, reap.pid, reap.pidfd)
            set_policy(tid, os.SCHED_OTHER)
            be_prompt(REAP_NICE, tid)  # it may have been the loop's
            self._lowered.add(tid)


def _is_realtime(tid: int) -> bool:
    return os.sched_getscheduler(tid) & ~os.SCHED_RESET_ON_FORK == os.SCHED_FIFO


def set_policy(tid: int, policy: int) -> bool:
    """A class without priorities for a thread; whether that was permitted, and it is there."""
    try:
        os.sched_setscheduler(tid, policy, os.sched_param(0))
    except OSError:
        return False
    return True


def demote(pid: int, pidfd: int) -> bool:
    """For a reaper without a real-time class: the victim must not come between signal and reap. Whether that is so."""
    return not is_readable(pidfd) and set_policy(pid, os.SCHED_IDLE)

"""The reaper threads: the last signal and the reap are one motion.

After SIGKILL the woken victim may preempt us on our CPU and leave its memory map before process_mrelease finds it; the
call then says ESRCH
although the memory is still being freed, slowly, at the victim's own priority. Measured with small victims: 48–90 % of
the calls at nice 0, also
at nice -20; 0–5 % from a real-time thread; none when the victim was put into SCHED_IDLE just before. So: real-time
where permitted, else demote, kill,
reap, promote.
"""

from __future__ import annotations

import errno
import os
import threading
import time
from collections import deque
from dataclasses import replace
from queue import SimpleQueue

from oomd.kernel.pidfd import is_readable
from oomd.kernel.syscalls import pidfd_send_signal
from oomd.model.decision import ReapResult, Warrant

TYPE_CHECKING = False
if TYPE_CHECKING:
    from oomd.reap.base import Reaper

SIGKILL = 9
PRIORITY = 12
"""Real-time priority; above the loop's, so that the loop's own next step never comes between signal and reap."""
WORKERS = 4
"""Threads that kill and reap. process_mrelease may hang in the victim's mmap lock: the others go on."""
MOST_REALTIME_US = 5_000
"""A reap that lasts longer goes on at normal priority: 4 GiB take 200 ms, in which nobody else would run on this CPU.
"""


class ReaperPool:
    """Takes warrants, kills and reaps, several at once; results come through :attr:`fd` and :meth:`take_results`."""

    def __init__(self, reaper: Reaper, workers: int = WORKERS) -> None:
        self.reaper = reaper
        self.fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self.realtime = False
        """Whether the thread could get a real-time class."""
        self._work: SimpleQueue[Warrant | None] = SimpleQueue()
        self._results: deque[ReapResult] = deque(maxlen=256)
        self._threads = [threading.Thread(target=self._run, name=f"reaper-{n}", daemon=True) for n in range(workers)]
        self._ready = threading.Barrier(workers + 1)
        self._reaping_since_us: dict[int, int] = {}
        """Thread ids of the workers that reap right now with real-time priority, and since when."""

    def start(self) -> None:
        """Start the workers, and wait until they know their scheduling class."""
        for thread in self._threads:
            thread.start()
        self._ready.wait()

    def stop(self) -> None:
        """End the workers after the work in hand."""
        for _ in self._threads:
            self._work.put(None)

    def submit(self, warrant: Warrant) -> None:
        """Kill this one and reap it. The thread has its own copy of the pidfd: a number closed and given to another
        process's pidfd
        between the request and the signal would kill that one.
        """
        self._work.put(replace(warrant, pidfd=os.dup(warrant.pidfd)))

    def take_results(self) -> list[ReapResult]:
        """What was done since the last call."""
        try:
            os.eventfd_read(self.fd)
        except BlockingIOError:
            return []
        results = []
        while self._results:
            results.append(self._results.popleft())
        return results

    def tend(self, now_us: int) -> None:
        """Called by the loop while a kill is under way: ends real-time for a reap that takes long."""
        for tid, since_us in list(self._reaping_since_us.items()):
            if self.realtime and now_us - since_us > MOST_REALTIME_US:
                self._reaping_since_us.pop(tid, None)
                _set_policy(tid, os.SCHED_OTHER, 0)

    def _run(self) -> None:
        realtime = self._be_realtime()
        if realtime:
            self.realtime = True
        self._ready.wait()
        while (warrant := self._work.get()) is not None:
            if self.realtime:
                self._be_realtime()
            try:
                self._results.append(self._kill_and_reap(warrant))
            except OSError as error:  # no backend may end a worker
                failed = error.errno or errno.EIO
                self._results.append(ReapResult(warrant.id, 0, time.monotonic_ns() // 1000, "failed", failed, 0))
            finally:
                os.close(warrant.pidfd)
            os.eventfd_write(self.fd, 1)

    def _kill_and_reap(self, warrant: Warrant) -> ReapResult:
        pid, tid = warrant.id.pid, threading.get_native_id()
        demoted = not self.realtime and not is_readable(warrant.pidfd) and _set_policy(pid, os.SCHED_IDLE, 0)
        reap_errno, begin_us = errno.ESRCH, 0
        try:
            signal_errno = _kill(warrant.pidfd)
            begin_us = time.monotonic_ns() // 1000
            if signal_errno == 0:
                self._reaping_since_us[tid] = begin_us
                reap_errno = self.reaper.reap(warrant.pidfd)
        finally:
            self._reaping_since_us.pop(tid, None)
            if demoted and not is_readable(warrant.pidfd):
                _set_policy(
                    pid, os.SCHED_OTHER, 0
                )  # what is left of it should end quickly; to nice 0 and above everybody may return
        return ReapResult(
            id=warrant.id,
            signal_errno=signal_errno,
            signal_us=begin_us,
            backend=self.reaper.name,
            reap_errno=reap_errno,
            reap_us=time.monotonic_ns() // 1000 - begin_us,
            realtime=self.realtime,
        )

    def _be_realtime(self) -> bool:
        return _set_policy(0, os.SCHED_FIFO | os.SCHED_RESET_ON_FORK, PRIORITY)


def _kill(pidfd: int) -> int:
    try:
        pidfd_send_signal(pidfd, SIGKILL)
    except OSError as error:
        return error.errno or errno.EIO
    return 0


def _set_policy(tid: int, policy: int, priority: int) -> bool:
    try:
        os.sched_setscheduler(tid, policy, os.sched_param(priority))
    except OSError:
        return False
    return True

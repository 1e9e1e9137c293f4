"""The threads that wait for victims, each on an eventfd of its own, so that one wakes up, and at once.

Whoever lets go of a lock holds the interpreter still: the one that wakes up for it has to wait a second time. Writing
to an eventfd gives the interpreter up meanwhile, and a real-time worker on the writer's own CPU has it before the write
returns: 26 µs from asking to the signal where a queue takes 170, after 2 ms of sleep; 64 and 290 after 20 ms. On
another CPU, which idles, it takes twice that.
"""

from __future__ import annotations

import os

from oomd.kernel.sched import run_on
from oomd.kernel.syscalls import sched_getcpu
from oomd.kernel.threads import Thread, allocate_lock, deque

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from oomd.reap.crowd import Crowd
    from oomd.reap.motion import Motion

    Job = Motion | Crowd
    """What one of them does in one go."""


class Workers:
    """So many threads; jobs that find none free wait in turn."""

    def __init__(self, count: int, begin: Callable[[], None], work: Callable[[Job], None]) -> None:
        """Each thread calls ``begin`` once, and ``work``, which raises nothing, for every job."""
        self._begin = begin
        self._work = work
        self._cpus = os.sched_getaffinity(0)
        self._fds = [os.eventfd(0, os.EFD_CLOEXEC) for _ in range(count)]
        self._given: list[Job | None] = [None] * count
        self._near: list[int | None] = [None] * count
        """The CPU on which each of them was told to wake up."""
        self._free: list[int] = []
        """The last one that became free is the next to be woken: its caches are the warmest."""
        self._waiting: deque[Job | None] = deque()
        self._changing = allocate_lock()
        self.threads = [self._thread(number) for number in range(count)]

    def put(self, job: Job | None) -> None:
        """Have it done by one of them, as soon as one is free; None ends one."""
        with self._changing:
            if not self._free:
                self._waiting.append(job)
                return
            number = self._free.pop()
            self._given[number] = job
        os.eventfd_write(self._fds[number], 1)

    def come_near(self) -> None:
        """Have the next one wake up on the caller's CPU. Only for real-time threads, more urgent than the caller."""
        if len(self._cpus) < 2:
            return
        with self._changing:
            if not self._free:
                return
            number = self._free[-1]
            cpu = sched_getcpu()
            tid = self.threads[number].native_id
            if cpu == self._near[number] or not tid:
                return
            try:
                os.sched_setaffinity(tid, {cpu})
                self._near[number] = cpu
            except OSError:
                pass  # a cpuset has taken it meanwhile

    def close(self) -> None:
        """After all threads have ended."""
        for fd in self._fds:
            os.close(fd)

    def _thread(self, number: int) -> Thread:
        return Thread(lambda: self._run(number), name=f"reaper-{number}")

    def _run(self, number: int) -> None:
        self._begin()
        while (job := self._next(number)) is not None:
            self._work(job)
            if self._near[number] is not None:
                run_on(self._cpus)
                self._near[number] = None

    def _next(self, number: int) -> Job | None:
        with self._changing:
            if self._waiting:
                return self._waiting.popleft()
            self._free.append(number)
        os.eventfd_read(self._fds[number])
        return self._given[number]

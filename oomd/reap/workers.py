"""The threads that wait for victims, each on an eventfd of its own, so that one wakes up, and at once.

Whoever lets go of a lock holds the interpreter still: the one that wakes up for it has to wait a second time. Writing
to an eventfd gives the interpreter up meanwhile, and a real-time worker has it at once.

Faster yet is not to wait for anybody: whoever decides kills and reaps itself, and it is a worker that goes on with what
it was at, where the reap lasts (:class:`Turn`).
"""

from __future__ import annotations

import os

from oomd.kernel.sched import REAP_NICE, be_prompt
from oomd.kernel.threads import Thread, allocate_lock, deque
from oomd.model.values import dataclass

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from oomd.reap.crowd import Crowd
    from oomd.reap.motion import Motion


@dataclass(frozen=True, slots=True)
class Turn:
    """To go on with what another thread was at, which has something else to do. Lasts as long as it lasts."""

    go_on: Callable[[], None]
    """Raises nothing."""

    def take(self) -> None:
        """In that one's class."""
        be_prompt()
        try:
            self.go_on()
        finally:
            be_prompt(REAP_NICE)


if TYPE_CHECKING:
    Job = Motion | Crowd | Turn
    """What one of them does in one go."""


class Workers:
    """So many threads; jobs that find none free wait in turn."""

    def __init__(self, count: int, begin: Callable[[], None], work: Callable[[Job], None]) -> None:
        """Each thread calls ``begin`` once, and ``work``, which raises nothing, for every job."""
        self._begin = begin
        self._work = work
        self._fds = [os.eventfd(0, os.EFD_CLOEXEC) for _ in range(count)]
        self._given: list[Job | None] = [None] * count
        self._free = list(range(count))
        """The last one that became free is the next to be woken: its caches are the warmest. All of them are from the
        beginning: what is given to one that has not come to wait yet it finds then."""
        self._waiting: deque[Job | None] = deque()
        self._changing = allocate_lock()
        self.threads = [self._thread(number) for number in range(count)]

    @property
    def has_free(self) -> bool:
        """Whether one of them has nothing to do."""
        return bool(self._free)

    def put(self, job: Job | None) -> None:
        """Have it done by one of them, as soon as one is free; None ends one."""
        self.give(job, waits=True)

    def give(self, job: Job | None, *, waits: bool = False) -> bool:
        """The same at once; False where none is free, and nothing was done (``waits``: and it waits for one)."""
        with self._changing:
            if not self._free:
                if waits:
                    self._waiting.append(job)
                return False
            number = self._free.pop()
            self._given[number] = job
        os.eventfd_write(self._fds[number], 1)
        return True

    def close(self) -> None:
        """After all threads have ended."""
        for fd in self._fds:
            os.close(fd)

    def _thread(self, number: int) -> Thread:
        return Thread(lambda: self._run(number), name=f"reaper-{number}")

    def _run(self, number: int) -> None:
        self._begin()
        job = self._take(number)
        while job is not None:
            self._work(job)
            job = self._next(number)

    def _next(self, number: int) -> Job | None:
        with self._changing:
            if self._waiting:
                return self._waiting.popleft()
            self._free.append(number)
        return self._take(number)

    def _take(self, number: int) -> Job | None:
        """Wait until it is given one."""
        while True:
            try:
                os.eventfd_read(self._fds[number])
            except InterruptedError:  # by a signal that the main thread, with another pending, could not take
                continue
            return self._given[number]

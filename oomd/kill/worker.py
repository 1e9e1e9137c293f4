"""A thread for what may last: writes to a cgroup may reclaim memory in the writer's own time. The loop never waits."""

from __future__ import annotations

import os
from _queue import Empty, SimpleQueue

from oomd.kernel.sched import be_prompt
from oomd.kernel.threads import Thread

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections import deque
    from collections.abc import Callable

    from oomd.model.decision import StepResult
else:
    from _collections import deque  # the C module alone


class Results:
    """What the threads have to say, and a descriptor that tells that there is something."""

    def __init__(self) -> None:
        self.fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._results: deque[StepResult] = deque(maxlen=1024)

    def add(self, result: StepResult) -> None:
        """From any thread."""
        self._results.append(result)
        os.eventfd_write(self.fd, 1)

    def take(self) -> list[StepResult]:
        """All so far; for the loop."""
        try:
            os.eventfd_read(self.fd)
        except BlockingIOError:
            return []
        taken = []
        while self._results:
            taken.append(self._results.popleft())
        return taken


class Worker:
    """Does its jobs in their order; between them :meth:`tend` is called when it is due."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._jobs: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._thread = Thread(self._run, name=name)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def submit(self, job: Callable[[], None]) -> None:
        """Do this after all that was asked for before."""
        self._jobs.put(job)

    def stop(self, patience_s: float) -> None:
        """Do what was asked for, then :meth:`finish`; wait for that no longer than so long."""
        self._jobs.put(None)
        if self._thread.is_alive():
            self._thread.join(patience_s)

    def patience_s(self) -> float | None:
        """When :meth:`tend` is due; None for never."""
        return None

    def tend(self) -> None:
        """What is to be done in time."""

    def finish(self) -> None:
        """The last that the thread does."""

    def _run(self) -> None:
        be_prompt()
        while True:
            try:
                job = self._jobs.get(timeout=self.patience_s())
            except Empty:
                self.tend()
                continue
            if job is None:
                break
            job()
            if self.patience_s() == 0:
                self.tend()
        self.finish()

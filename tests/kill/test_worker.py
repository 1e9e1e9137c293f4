"""A thread that does its jobs in their order, and looks after things in time."""

from __future__ import annotations

import queue
from typing import TYPE_CHECKING

from oomd.kill.worker import Results, Worker
from oomd.model.decision import StepResult
from tests.ends import until_end
from tests.waiting import is_ready

if TYPE_CHECKING:
    from collections.abc import Callable


class Tending(Worker):
    """Has something to look after, as long as ``every_s`` is set."""

    def __init__(self) -> None:
        super().__init__("tending")
        self.every_s: float | None = None
        self.log: queue.SimpleQueue[str] = queue.SimpleQueue()

    def patience_s(self) -> float | None:
        """As the test says."""
        return self.every_s

    def tend(self) -> None:
        """Once is enough."""
        self.every_s = None
        self.log.put("tended")

    def finish(self) -> None:
        """The last word."""
        self.log.put("finished")

    def note(self, word: str) -> Callable[[], None]:
        """A job that says so."""
        return lambda: self.log.put(word)


def test_order_and_end() -> None:
    """What was asked for is done in its order, all of it before the end."""
    worker = Tending()
    worker.start()
    for word in ("one", "two", "three"):
        worker.submit(worker.note(word))
    worker.stop(90)
    assert [worker.log.get(timeout=120) for _ in range(4)] == ["one", "two", "three", "finished"]


def test_tended_in_time_and_beside_jobs() -> None:
    """When it is due, also where jobs keep coming."""
    worker = Tending()
    worker.every_s = 0.01
    worker.start()
    assert worker.log.get(timeout=120) == "tended"

    def due() -> None:
        worker.every_s = 0

    worker.submit(due)
    assert worker.log.get(timeout=120) == "tended"
    worker.stop(90)


def test_end_is_not_waited_for_without_end() -> None:
    """A job that hangs holds up nobody longer than asked."""
    worker = Tending()
    gate: queue.SimpleQueue[None] = queue.SimpleQueue()
    worker.start()
    worker.submit(lambda: gate.get(timeout=120))
    worker.stop(0.05)
    assert worker.log.empty()  # it hangs still
    gate.put(None)
    assert worker.log.get(timeout=120) == "finished"


def test_results_wake_whoever_waits() -> None:
    """Nothing is there until somebody has something to say; then all of it, once."""
    results = Results()
    until_end(results.fd)
    assert results.take() == []
    assert not is_ready(results.fd, 0)
    first, second = StepResult("1", "done"), StepResult("2", "impossible")
    results.add(first)
    results.add(second)
    assert is_ready(results.fd, 0)
    assert results.take() == [first, second]
    assert results.take() == []

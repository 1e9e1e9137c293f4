"""The threads that wait for victims: every job is done once, by one of them."""

from __future__ import annotations

import ctypes
import os
import signal
import threading
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

import pytest

from oomd.reap.workers import Turn, Workers
from tests.descriptors import open_descriptors, opened_since

if TYPE_CHECKING:
    from collections.abc import Iterator

PATIENCE_S = 90.0


class Rig:
    """So many workers, whose job is to say who they are and to wait until they are let go."""

    def __init__(self, count: int) -> None:
        self.done: SimpleQueue[tuple[Any, int]] = SimpleQueue()
        self.gate = threading.Semaphore(0)
        begun = threading.Semaphore(0)
        self.workers = Workers(count, begun.release, self.work)
        for thread in self.workers.threads:
            thread.start()
        for _ in self.workers.threads:
            assert begun.acquire(timeout=PATIENCE_S)

    def work(self, job: Any) -> None:
        self.done.put((job, threading.get_native_id()))
        assert self.gate.acquire(timeout=PATIENCE_S)

    def put(self, *jobs: Any) -> None:
        for job in jobs:
            self.workers.put(job)

    def taken(self, count: int) -> list[tuple[Any, int]]:
        return [self.done.get(timeout=PATIENCE_S) for _ in range(count)]

    def until_free(self, count: int) -> None:
        """So many wait."""
        while len(self.workers._free) < count:
            os.sched_yield()

    def close(self) -> None:
        for _ in self.workers.threads:
            self.workers.put(None)
            self.gate.release()
        for thread in self.workers.threads:
            thread.join(PATIENCE_S)
            assert not thread.is_alive()
        self.workers.close()


@pytest.fixture
def rig() -> Iterator[Rig]:
    """Two of them; nothing is left open."""
    before = open_descriptors()
    made = Rig(2)
    yield made
    made.close()
    assert not opened_since(before)


def test_every_job_is_done_once_and_by_whoever_is_free(rig: Rig) -> None:
    """Two at once, the others in turn."""
    rig.put(1, 2, 3, 4)
    first = rig.taken(2)
    assert [job for job, _ in first] in ([1, 2], [2, 1])
    assert len({tid for _, tid in first}) == 2
    assert rig.done.empty()
    rig.gate.release(2)
    assert sorted(job for job, _ in rig.taken(2)) == [3, 4]
    rig.gate.release(2)


def test_all_of_them_are_free_before_they_run() -> None:
    """What is given before is done all the same: nobody has to wait until they have begun."""
    done: SimpleQueue[Any] = SimpleQueue()
    workers = Workers(2, lambda: None, done.put)
    assert workers.give(Turn(lambda: None))
    assert workers.give(Turn(lambda: None))
    assert not workers.has_free
    for thread in workers.threads:
        workers.put(None)
        thread.start()
    for thread in workers.threads:
        thread.join(PATIENCE_S)
        assert not thread.is_alive()
    assert done.qsize() == 2
    workers.close()


def test_the_last_that_became_free_is_the_next(rig: Rig) -> None:
    """Whoever worked a moment ago has warm caches."""
    rig.until_free(2)
    rig.put(1)
    ((_, tid),) = rig.taken(1)
    for job in (2, 3, 4):
        rig.gate.release()
        rig.until_free(2)
        rig.put(job)
        assert [(each, who) for each, who in rig.taken(1)] == [(job, tid)]
    rig.gate.release()


def test_given_at_once_or_not_at_all(rig: Rig) -> None:
    """Where nobody is free the job does not wait."""
    rig.until_free(2)
    assert rig.workers.has_free
    rig.put(1)
    rig.put(2)
    rig.taken(2)
    assert not rig.workers.has_free
    assert not rig.workers.give(Turn(lambda: None))
    rig.gate.release(2)
    rig.until_free(2)
    assert rig.done.empty()


def signal_thread(tid: int) -> None:
    """A thread of ours, which no function of Python names by this number; tgkill(2)."""
    number = {"x86_64": 234, "aarch64": 131}[os.uname().machine]
    assert ctypes.CDLL(None).syscall(number, os.getpid(), tid, signal.SIGUSR1) == 0


def test_a_signal_ends_none_of_them(rig: Rig) -> None:
    """Whoever waits waits on; the system call that it waits in is one that Python does not begin again."""
    before = signal.signal(signal.SIGUSR1, lambda number, frame: None)
    try:
        rig.until_free(2)
        for thread in rig.workers.threads:
            signal_thread(thread.native_id)
        rig.put(1, 2)
        assert sorted(job for job, _ in rig.taken(2)) == [1, 2]
        rig.gate.release(2)
    finally:
        signal.signal(signal.SIGUSR1, before)

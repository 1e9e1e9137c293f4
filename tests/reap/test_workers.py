"""The threads that wait for victims: every job is done once, by one of them, on the CPU that was asked for."""

from __future__ import annotations

import os
import threading
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

import pytest

from oomd.kernel.syscalls import sched_getcpu
from oomd.reap.workers import Workers
from tests.descriptors import open_descriptors, opened_since

if TYPE_CHECKING:
    from collections.abc import Iterator

PATIENCE_S = 90.0


class Rig:
    """So many workers, whose job is to say who they are and to wait until they are let go."""

    def __init__(self, count: int) -> None:
        self.done: SimpleQueue[tuple[Any, int, int]] = SimpleQueue()
        self.gate = threading.Semaphore(0)
        self.workers = Workers(count, lambda: None, self.work)
        for thread in self.workers.threads:
            thread.start()

    def work(self, job: Any) -> None:
        self.done.put((job, threading.get_native_id(), sched_getcpu()))
        assert self.gate.acquire(timeout=PATIENCE_S)

    def put(self, *jobs: Any) -> None:
        for job in jobs:
            self.workers.put(job)

    def taken(self, count: int) -> list[tuple[Any, int, int]]:
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
    assert [job for job, _, _ in first] in ([1, 2], [2, 1])
    assert len({tid for _, tid, _ in first}) == 2
    assert rig.done.empty()
    rig.gate.release(2)
    assert sorted(job for job, _, _ in rig.taken(2)) == [3, 4]
    rig.gate.release(2)


def test_the_last_that_became_free_is_the_next(rig: Rig) -> None:
    """Whoever worked a moment ago has warm caches."""
    rig.until_free(2)
    rig.put(1)
    ((_, tid, _),) = rig.taken(1)
    for job in (2, 3, 4):
        rig.gate.release()
        rig.until_free(2)
        rig.put(job)
        assert [(each, who) for each, who, _ in rig.taken(1)] == [(job, tid)]
    rig.gate.release()


def test_it_wakes_up_where_it_was_called_to_and_is_free_to_go_afterwards(rig: Rig) -> None:
    """On the caller's CPU; once its work is done, on any."""
    cpus = os.sched_getaffinity(0)
    for cpu in cpus:
        os.sched_setaffinity(0, {cpu})
        try:
            rig.until_free(2)
            rig.workers.come_near()
            rig.put(cpu)
            ((_, tid, seen),) = rig.taken(1)
        finally:
            os.sched_setaffinity(0, cpus)
        assert seen == cpu
        rig.gate.release()
        rig.until_free(2)
        assert tid in {thread.native_id for thread in rig.workers.threads}
        assert os.sched_getaffinity(tid) == cpus


def test_nobody_is_called_where_nobody_is_free(rig: Rig) -> None:
    """All are at work, and stay where they are."""
    rig.put(1, 2)
    rig.taken(2)
    rig.workers.come_near()
    tids = [thread.native_id for thread in rig.workers.threads]
    assert [os.sched_getaffinity(tid or 0) for tid in tids] == [os.sched_getaffinity(0)] * 2
    rig.gate.release(2)

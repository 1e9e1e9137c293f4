"""The scheduling classes of the reapers' threads, on real threads: this needs the right to be real-time."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from typing import TYPE_CHECKING

import pytest

from oomd.kernel.sched import LOOP_PRIORITY
from oomd.reap.hindrance import Lifter
from oomd.reap.urgency import CROWD_PRIORITY, MOST_CROWDED_S, Urgency
from tests.reap.victims import hold

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PATIENCE_S = 90.0
Class = tuple[int, int]
"""Policy and priority of a thread."""


def class_of(tid: int = 0) -> Class:
    """Of a thread, the calling one by default."""
    return os.sched_getscheduler(tid) & ~os.SCHED_RESET_ON_FORK, os.sched_getparam(tid).sched_priority


ORDINARY = (os.SCHED_OTHER, 0)
REALTIME = (os.SCHED_FIFO, LOOP_PRIORITY)
CROWDED = (os.SCHED_FIFO, CROWD_PRIORITY)


@pytest.fixture
def urgency() -> Iterator[Urgency]:
    """With a lifter that ends what lasts too long."""
    proc_fd = os.open("/proc", os.O_RDONLY | os.O_DIRECTORY)
    lifter = Lifter(proc_fd)
    lifter.start()
    yield Urgency(lifter, proc_fd)
    lifter.stop()
    lifter.thread.join(PATIENCE_S)
    assert not lifter.thread.is_alive()
    os.close(proc_fd)


def work(urgency: Urgency, doing: Callable[[], object]) -> object:
    """What a worker of its own finds while it does this; it is real-time before and after."""
    found: list[object] = []

    def run() -> None:
        urgency.ask()
        if not urgency.permitted:
            found.append(None)
            return
        before, inside, after = class_of(), doing(), class_of()
        found.append(inside if before == after == REALTIME else (before, inside, after))

    worker = threading.Thread(target=run)
    worker.start()
    worker.join(PATIENCE_S)
    if found == [None]:
        pytest.skip("not permitted to be real-time")
    (inside,) = found
    return inside


@contextlib.contextmanager
def held_up(urgency: Urgency) -> Iterator[None]:
    """The lifter ends nobody's real-time meanwhile, however long a busy machine takes to look at it."""
    goes_on, lifter = threading.Event(), urgency._lifter
    assert lifter is not None

    def hold_up() -> None:
        goes_on.wait(PATIENCE_S)

    lifter.call_later(0.0, hold_up)  # before whatever falls due from here on
    try:
        yield
    finally:
        goes_on.set()
        lifter.wake()  # as whoever asks for the signal does after it


def wait_ordinary() -> Class:
    """Whoever calls lost its real-time class, which the lifter takes while it does something else."""
    until = time.monotonic() + PATIENCE_S
    while class_of() != ORDINARY and time.monotonic() < until:
        os.sched_yield()
    return class_of()


def test_a_long_reap_goes_on_as_an_ordinary_one(urgency: Urgency) -> None:
    """Some time in real-time, then as everybody else; real-time again for the next."""

    def reap() -> tuple[Class, Class]:
        with held_up(urgency):
            tid = urgency.enter()
            begun = class_of()
        ended = wait_ordinary()
        urgency.leave(tid)
        return begun, ended

    assert work(urgency, reap) == (REALTIME, ORDINARY)
    assert not urgency._reaping


def test_victim_and_reaper_are_parted_when_it_lasts(urgency: Urgency) -> None:
    """The end of real-time puts them on different CPUs; afterwards the worker may run everywhere."""
    victim = hold(1)
    pidfd = os.pidfd_open(victim.pid)
    everywhere = os.sched_getaffinity(0)

    def reap() -> tuple[set[int], set[int]]:
        tid = urgency.enter(victim.pid, pidfd)
        assert urgency._lifter is not None
        urgency._lifter.wake()  # whoever asks for the signal does that after it
        assert wait_ordinary() == ORDINARY
        ours = os.sched_getaffinity(0)
        urgency.leave(tid)
        return ours, os.sched_getaffinity(0)

    parted = work(urgency, reap)
    if len(everywhere) > 1:
        assert isinstance(parted, tuple)
        assert len(parted[0]) == 1
        assert parted[1] == everywhere
        assert not parted[0] & os.sched_getaffinity(victim.pid)
    victim.kill()
    victim.wait()
    os.close(pidfd)


def test_each_of_a_crowd_has_its_own_time(urgency: Urgency, monkeypatch: pytest.MonkeyPatch) -> None:
    """After the loop, before everybody else; whoever comes next renews it, one that lasts loses it, not the next."""
    monkeypatch.setattr("oomd.reap.urgency.MOST_CROWDED_S", PATIENCE_S * 3)

    def reap() -> list[Class]:
        found = []
        with held_up(urgency):
            tid = urgency.enter_next()
            found.append(class_of())
            urgency.enter_next()
            found.append(class_of())
        found.append(wait_ordinary())
        with held_up(urgency):
            urgency.enter_next()
            found.append(class_of())
        urgency.leave(tid)
        return found

    assert work(urgency, reap) == [CROWDED, CROWDED, ORDINARY, CROWDED]
    assert not urgency._reaping


def test_a_reap_that_was_renewed_is_not_ended(urgency: Urgency, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was due for the one before looks at when the last one has begun."""
    monkeypatch.setattr("oomd.reap.urgency.MOST_REALTIME_S", PATIENCE_S)
    now = time.monotonic()

    def reap() -> Class:
        tid = urgency.enter_next()
        reap = urgency._reaping[tid]
        reap.begun = now + PATIENCE_S
        urgency._end(tid, reap)
        found = class_of()
        urgency.leave(tid)
        return found

    assert work(urgency, reap) == CROWDED


def test_a_great_crowd_lets_others_run(urgency: Urgency) -> None:
    """After half a second of victims nobody is real-time any more, however small each of them is."""

    def reap() -> Class:
        tid = urgency.enter_next()
        urgency._crowded[tid] -= MOST_CROWDED_S
        wait_ordinary()
        urgency.enter_next()
        found = class_of()
        urgency.leave(tid)
        return found

    assert work(urgency, reap) == ORDINARY
    assert not urgency._crowded


def test_without_the_right_nothing_changes(urgency: Urgency, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who may not be real-time reaps in its own class."""
    monkeypatch.setattr("oomd.reap.urgency.be_realtime", lambda _: False)
    urgency.ask()
    before = class_of()
    for enter in (urgency.enter, urgency.enter_next):
        tid = enter()
        assert class_of() == before
        urgency.leave(tid)
    assert class_of() == before
    assert not urgency.permitted

"""Exits that somebody else caused: who is hastened, who is left alone. The trace is a pipe, the victims are real."""

from __future__ import annotations

import errno
import os
import select
import subprocess
import time
from pathlib import Path

import pytest

from oomd.kernel.scope import ScopeGuard
from oomd.kernel.threads import Semaphore
from oomd.kernel.trace_pipe import KillRecord
from oomd.kill.exits import NEWS, PIPE, WORTH_BYTES, ExitHastener, Hastened, look_at_dying
from oomd.kill.warrant import Gate
from oomd.model.ruleset import ALWAYS, PRESSURE
from oomd.model.scope import parse_scope
from oomd.monitor.waiter import Waiter
from oomd.reap.mrelease import MreleaseReaper
from oomd.reap.pool import ReaperPool
from tests.descriptors import open_descriptors, opened_since
from tests.kernel.test_trace_pipe import line_of, line_of_loss
from tests.kill.parked import anon_mib, parked, parked_thread, wait_parked
from tests.reap.victims import hold

PATIENCE_S = 90.0
LARGE, SMALL = 96, 16
"""MiB; either side of WORTH_BYTES."""


class Desk:
    """A hastener whose trace the test writes."""

    def __init__(self, mode: str = ALWAYS, scope: str = "", pipe_fd: int = -1) -> None:
        read_fd, self._trace = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        if pipe_fd >= 0:
            os.close(read_fd)
            read_fd = pipe_fd
        self._proc_fd = os.open("/proc", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        guard = ScopeGuard(parse_scope(scope or f"tree:{os.getpid()}"), self._proc_fd)
        self.waiter = Waiter()
        pool = ReaperPool(MreleaseReaper(), workers=1)
        self.hastener = ExitHastener(read_fd, mode, Gate(guard, self._proc_fd, frozenset()), pool, self.waiter)
        self.hastener.start()
        self.warm = mode == ALWAYS
        self.ours: frozenset[int] = frozenset()
        self.done: list[Hastened] = []

    def __enter__(self) -> Desk:
        return self

    def __exit__(self, *_: object) -> None:
        self.hastener.stop()
        self.hastener._thread.join(PATIENCE_S)
        assert not self.hastener._thread.is_alive()
        assert self.hastener._pool.close(PATIENCE_S)
        for fd in (self.hastener._news_fd, self.hastener._proc_fd, self.hastener._pipe_fd):
            if fd >= 0:  # the trace may have been given up
                os.close(fd)
        self.waiter.close()
        os.close(self._trace)
        os.close(self._proc_fd)

    def write(self, data: bytes) -> None:
        """The kernel tells."""
        os.write(self._trace, data)

    def told(self, *pids: int) -> None:
        """The kernel tells of SIGKILLs to these, in one batch."""
        self.write(b"".join(line_of(KillRecord(pid, b"x", True, 0)) for pid in pids))

    def wait(self, number: int = 1) -> list[Hastened]:
        """Until so many were hastened in all."""
        end = time.monotonic() + PATIENCE_S
        while len(self.done) < number or self.hastener._busy:
            assert time.monotonic() < end, self.hastener.counters()
            self.turn()
        return self.done

    def turn(self, timeout_us: int = 50_000) -> list[object]:
        """One wait of the loop; the keys that it woke for."""
        self.hastener.tend(warm=self.warm)
        keys = [key for key, _ in self.waiter.wait_ready(timeout_us)]
        for key in keys:
            if key == PIPE:
                assert self.hastener.read(self.ours) == ""
            elif key == NEWS:
                self.done += self.hastener.take(warm=self.warm)
        return list(keys)


def test_victim_that_cannot_run_is_stripped() -> None:
    """Killed by another process and held where its end begins, it loses its memory all the same; nobody signals it."""
    with Desk() as desk, parked(LARGE) as victim:
        subprocess.run(["kill", "-KILL", str(victim.pid)], check=True)
        wait_parked(victim.pid)
        assert anon_mib(victim.pid) >= LARGE
        desk.told(victim.pid)
        (hastened,) = desk.wait()
        assert (hastened.result.signal, hastened.result.reap_errno) == (0, 0)
        assert hastened.process.id.pid == victim.pid
        assert hastened.process.size_bytes >= LARGE << 20
        assert anon_mib(victim.pid) == 0
        assert desk.hastener.counters()["exits hastened"] == 1


def test_small_live_and_foreign_ones_are_left_alone() -> None:
    """Of one batch only the last is hastened: the others own too little, live, are gone, or are not in scope."""
    outsider = hold(LARGE)  # a child of ours, but not of the scope's
    with parked(SMALL) as small, parked(LARGE) as victim:
        live, gone = hold(LARGE), hold(1)
        gone.kill()
        gone.wait()
        with Desk(scope=f"tree:{victim.pid}") as desk:
            os.sched_setscheduler(live.pid, os.SCHED_IDLE, os.sched_param(0))
            for each in (small, victim):
                each.kill()
                wait_parked(each.pid)
            desk.told(small.pid, live.pid, gone.pid, outsider.pid, os.getpid(), 1, 1 << 30, victim.pid)
            assert [each.process.id.pid for each in desk.wait()] == [victim.pid]
            assert anon_mib(small.pid) >= SMALL - 1
            assert anon_mib(live.pid) >= LARGE
            assert os.sched_getscheduler(live.pid) == os.SCHED_IDLE
            assert live.poll() is None
            assert outsider.poll() is None
    for each in (live, outsider):
        each.kill()
        each.wait()


def test_out_of_scope_victim_keeps_its_memory() -> None:
    """A process that is dying and large, but lies outside the scope, is not touched, and that is counted."""
    with parked(LARGE) as inside, parked(LARGE) as outside, Desk(scope=f"tree:{inside.pid}") as desk:
        for each in (outside, inside):
            each.kill()
            wait_parked(each.pid)
        desk.told(outside.pid, inside.pid)
        assert [each.process.id.pid for each in desk.wait()] == [inside.pid]
        assert anon_mib(outside.pid) >= LARGE
        assert desk.hastener.passed_over == 1


def test_own_pids_and_own_victims_are_not_touched() -> None:
    """Oomd's own processes, and those that it killed itself and reaps already, are passed over."""
    with parked(LARGE) as own, parked(LARGE) as killed_by_us, parked(LARGE) as victim, Desk() as desk:
        desk.hastener.gate.own_pids = frozenset({own.pid})
        desk.ours = frozenset({killed_by_us.pid})
        for each in (own, killed_by_us, victim):
            each.kill()
            wait_parked(each.pid)
        desk.told(own.pid, killed_by_us.pid, victim.pid)
        assert [each.process.id.pid for each in desk.wait()] == [victim.pid]
        assert anon_mib(own.pid) >= LARGE
        assert anon_mib(killed_by_us.pid) >= LARGE


def test_one_process_told_twice_is_reaped_once() -> None:
    """Two records of one process in one batch, of two threads even, are one exit."""
    with Desk() as desk, parked(LARGE) as victim:
        victim.kill()
        wait_parked(victim.pid)
        desk.told(victim.pid, victim.pid)
        assert len(desk.wait()) == 1
        assert desk.hastener.seen == 2


def test_ignored_signals_are_not_looked_at() -> None:
    """What init ignored killed nobody."""
    with Desk() as desk, parked(LARGE) as victim, parked(LARGE) as other:
        for each in (victim, other):
            each.kill()
            wait_parked(each.pid)
        desk.write(line_of(KillRecord(other.pid, b"x", True, 1)) + line_of(KillRecord(victim.pid, b"x", True, 2)))
        assert [each.process.id.pid for each in desk.wait()] == [victim.pid]
        assert anon_mib(other.pid) >= LARGE


def test_losses_are_counted() -> None:
    """What the kernel says it has overwritten is added up."""
    with Desk() as desk:
        desk.write(line_of_loss(0, 17) + line_of_loss(1, None))
        desk.turn()
        assert desk.hastener.counters()["sigkills lost"] == 18


def test_loop_is_not_flooded() -> None:
    """However much stands in the trace, one read wakes the loop once, and the next only after the looks at what it
    gave; nothing is lost by that.
    """
    with Desk() as desk:
        for _ in range(3):
            desk.told(*range((1 << 30), (1 << 30) + 200))
        wakes: list[object] = []
        end = time.monotonic() + PATIENCE_S
        while desk.hastener.seen < 600 or desk.hastener._busy:
            assert time.monotonic() < end
            keys = desk.turn()
            assert keys.count(PIPE) <= 1
            wakes += keys
        assert wakes.count(PIPE) <= 600 * 90 // 4096 + 3
        assert not {PIPE} & set(desk.turn(0))


def test_pressure_looks_only_in_need() -> None:
    """In calm times the trace is left alone; when need begins, who was killed before and still holds is found."""
    with Desk(PRESSURE) as desk, parked(LARGE) as victim:
        victim.kill()
        wait_parked(victim.pid)
        desk.told(victim.pid)
        assert PIPE not in desk.turn(0)
        assert desk.hastener.seen == 0
        desk.warm = True
        assert [each.process.id.pid for each in desk.wait()] == [victim.pid]
        desk.warm = False
        desk.told(victim.pid)
        desk.turn(0)
        assert PIPE not in desk.turn(0)


def test_more_victims_than_warrants() -> None:
    """More than may be under warrant at a time are all hastened, one after the other."""
    with Desk() as desk, parked(LARGE) as one, parked(LARGE) as two, parked(LARGE) as three:
        desk.hastener._slots = Semaphore(1)
        victims = (one, two, three)
        for victim in victims:
            victim.kill()
            wait_parked(victim.pid)
        desk.told(*(victim.pid for victim in victims))
        assert [each.process.id.pid for each in desk.wait(3)] == [victim.pid for victim in victims]
        assert [anon_mib(victim.pid) for victim in victims] == [0, 0, 0]
        assert desk.hastener.passed_over == 0


def test_trace_that_fails_is_given_up() -> None:
    """A trace that can no longer be read is told once, closed and forgotten."""
    unreadable = os.open("/proc/self", os.O_RDONLY | os.O_DIRECTORY)
    with Desk(PRESSURE, pipe_fd=unreadable) as desk:
        assert desk.hastener.read(frozenset()) == os.strerror(errno.EISDIR)
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(unreadable)
        desk.hastener.tend(warm=True)
        assert PIPE not in desk.turn(0)


def test_main_thread_that_is_gone_hides_nobody() -> None:
    """A process whose main thread has ended shows its memory by another thread only; a record may name either, and both
    mean one process.
    """
    proc_fd = os.open("/proc", os.O_RDONLY | os.O_DIRECTORY)
    with parked_thread(LARGE) as (victim, tid), Desk() as desk:
        victim.kill()
        wait_parked(tid)
        while b"\nState:\tZ" not in Path(f"/proc/{victim.pid}/status").read_bytes():
            os.sched_yield()
        for number in (victim.pid, tid):
            process = look_at_dying(proc_fd, number)
            assert process is not None
            assert (process.id.pid, process.size_bytes >= LARGE << 20) == (victim.pid, True)
        desk.told(tid)
        (hastened,) = desk.wait()
        assert (hastened.process.id.pid, hastened.result.reap_errno) == (victim.pid, 0)
        assert anon_mib(tid) == 0
    os.close(proc_fd)


def test_look_at_the_dying() -> None:
    """The process with its name, its size and its start time, once it is dying; None while it lives."""
    proc_fd = os.open("/proc", os.O_RDONLY | os.O_DIRECTORY)
    with parked(LARGE) as victim:
        assert look_at_dying(proc_fd, victim.pid) is None
        victim.kill()
        wait_parked(victim.pid)
        process = look_at_dying(proc_fd, victim.pid)
        assert process is not None
        assert (process.comm, process.kill_pending) == ("victim", True)
        assert process.size_bytes >= WORTH_BYTES
        assert process.id.start_ticks == int(Path(f"/proc/{victim.pid}/stat").read_text("ascii").split()[21])
    assert look_at_dying(proc_fd, victim.pid) is None
    os.close(proc_fd)


def test_descriptors_stay_few() -> None:
    """After a hastened exit no descriptor of the victim is left open."""
    with Desk() as desk:
        before = open_descriptors()
        with parked(LARGE) as victim:
            victim.kill()
            wait_parked(victim.pid)
            desk.told(victim.pid)
            desk.wait()
        end = time.monotonic() + PATIENCE_S
        while opened_since(before):  # the lifter closes its copy in its own time
            assert time.monotonic() < end
            select.select([], [], [], 0.01)

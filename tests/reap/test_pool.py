"""The reaper thread, on real processes that the test started."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import sys
import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from oomd.kernel.pidfd import is_readable
from oomd.model.decision import ReapResult
from oomd.model.snapshot import ProcessId
from oomd.reap.backends import choose_reaper
from oomd.reap.expedite import ExpediteReaper
from oomd.reap.mrelease import MreleaseReaper
from oomd.reap.none import NoReaper
from oomd.reap.pool import ALONE_S, SOON_US, ReaperPool
from tests.descriptors import left_since, open_descriptors, opened_since
from tests.kill.parked import parked
from tests.reap.levers import control_group, find_mount
from tests.reap.victims import hold, warrant_of, warrants_of
from tests.waiting import is_ready

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from oomd.reap.base import Reaper
    from oomd.reap.hindrance import Lifter


@pytest.fixture(params=[MreleaseReaper, ExpediteReaper, NoReaper])
def reaper(request: pytest.FixtureRequest) -> Iterator[ReaperPool]:
    """A running reaper thread with each backend."""
    with pool_of(request.param()) as thread:
        yield thread


@contextlib.contextmanager
def pool_of(backend: Reaper, workers: int = 4) -> Iterator[ReaperPool]:
    """A running pool; nothing of it is left afterwards."""
    pool = ReaperPool(backend, workers)
    pool.start()
    yield pool
    assert pool.close(90)


def results_of(pool: ReaperPool, count: int) -> list[ReapResult]:
    """So many."""
    done: list[ReapResult] = []
    while len(done) < count:
        assert is_ready(pool.fd, 90)
        done += pool.take_results()
    assert len(done) == count
    return done


def scheduling() -> tuple[int, int, int]:
    """Of this thread: class, priority, nice."""
    return os.sched_getscheduler(0), os.sched_getparam(0).sched_priority, os.getpriority(os.PRIO_PROCESS, 0)


def result_of(reaper: ReaperPool) -> ReapResult:
    """The next result, told by the eventfd."""
    assert is_ready(reaper.fd, 90)
    results = reaper.take_results()
    assert len(results) == 1
    assert reaper.take_results() == []
    return results[0]


def test_kill_and_reap(reaper: ReaperPool) -> None:
    """The victim dies by SIGKILL, and the result says what the backend did; ESRCH means that it was quicker."""
    child = hold(64)
    warrant = warrant_of(child.pid)
    sent_us = reaper.submit(warrant)
    os.close(warrant.pidfd)  # the thread has its own
    result = result_of(reaper)
    assert sent_us is None or sent_us >= result.signal_us  # None: the worker had not come to it yet
    assert child.wait() == -signal.SIGKILL
    assert (result.id, result.signal_errno, result.backend) == (warrant.id, 0, reaper.reaper.name)
    expected = {errno.ENOSYS} if reaper.reaper.name == "none" else {0, errno.ESRCH}
    assert result.reap_errno in expected
    assert result.signal_us > 0


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_made_ready_before(reaper: ReaperPool, number: int) -> None:
    """What was made ready ahead ends in the same, by either signal, and leaves nothing open; the lifter's copy neither,
    which SIGTERM does not need.
    """
    before = open_descriptors()
    child = hold(16)
    with warrants_of(child) as (warrant,):
        motion = reaper.arm(warrant)
        sent_us = reaper.fire(motion, number)
        result = result_of(reaper)
        assert child.wait(90) == -number
    assert (result.id, result.signal, result.signal_errno) == (warrant.id, number, 0)
    assert sent_us in (None, result.signal_us)
    assert not left_since(before)


class Known(MreleaseReaper):
    """Remembers which thread kills and reaps; where that is slow, another one has sent the signal, and it reaps."""

    reaped_by = 0

    def strike(self, pidfd: int, signal: int, sent: Callable[[int], None]) -> tuple[int, int, int]:
        """As ever."""
        self.reaped_by = threading.get_native_id()
        return super().strike(pidfd, signal, sent)

    def reap(self, pidfd: int) -> int:
        """As ever."""
        self.reaped_by = threading.get_native_id()
        return super().reap(pidfd)


class Lasting(Known):
    """Strikes, and then reaps until it is let go."""

    def __init__(self) -> None:
        self.go = threading.Event()

    def strike(self, pidfd: int, signal: int, sent: Callable[[int], None]) -> tuple[int, int, int]:
        """Signals at once."""
        told = super().strike(pidfd, signal, sent)
        assert self.go.wait(90)
        return told

    def reap(self, pidfd: int) -> int:
        """The same for one that was signalled."""
        told = super().reap(pidfd)
        assert self.go.wait(90)
        return told


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_by_the_caller(number: int) -> None:
    """Whoever asks kills and reaps itself; its result is there before the call returns."""
    backend, passed, before = Known(), [], scheduling()
    with pool_of(backend) as pool:
        child = hold(1)
        with warrants_of(child) as (warrant,):
            motion = pool.arm(warrant)
            sent_us = pool.fire(motion, number, lambda: passed.append(pool.await_signal(motion)))
            (result,) = pool.take_results()
            assert child.wait(90) == -number
    assert (result.id, result.signal, result.signal_errno, result.signal_us) == (warrant.id, number, 0, sent_us)
    assert backend.reaped_by == threading.get_native_id()
    assert len(passed) == motion.is_passed  # which a busy machine may need
    assert set(passed) <= {None, sent_us}  # and where it is slow as well, the signal had not gone out yet
    assert scheduling() == before


@pytest.mark.parametrize("expected", [True, False])
def test_another_goes_on_where_the_reap_lasts(expected: bool) -> None:
    """With what the caller was at, once the signal is sent; the caller's reap goes on, and whoever went on can be told
    its result. Whether or not somebody was told to look after it before.
    """
    backend, before = Lasting(), scheduling()
    with pool_of(backend) as pool:
        child = hold(8)
        seen: list[tuple[int, int | None]] = []

        def go_on() -> None:
            seen.append((threading.get_native_id(), pool.await_signal(motion)))
            while pool.realtime and pool._urgency._reaping:  # until its real-time would have been over
                os.sched_yield()
            backend.go.set()

        with warrants_of(child) as (warrant,):
            motion = pool.arm(warrant)
            if expected:
                pool.expect(0)
            sent_us = pool.fire(motion, signal.SIGKILL, go_on)
            assert child.wait(90) == -signal.SIGKILL
        result = result_of(pool)
        ((other, other_sent_us),) = seen
        assert motion.is_passed
        assert backend.reaped_by == threading.get_native_id() != other
        assert sent_us == result.signal_us
        assert other_sent_us in (None, sent_us)  # a slow machine had not come to it yet
        assert sys.getswitchinterval() == pool._switch_interval_s
        assert scheduling() == before


class Slow(Known):
    """Reaps for longer than a caller waits where there is another CPU."""

    def strike(self, pidfd: int, signal: int, sent: Callable[[int], None]) -> tuple[int, int, int]:
        """As ever, and a while longer."""
        told = super().strike(pidfd, signal, sent)
        time.sleep(0.03)
        return told


@pytest.fixture
def only_cpu() -> Iterator[None]:
    """There is no other for what is started from here."""
    cpus = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cpus)})
    yield
    os.sched_setaffinity(0, cpus)


@pytest.mark.usefixtures("only_cpu")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_on_the_only_cpu_the_victim_goes_first(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """Nobody goes on with what the caller was at, and takes the CPU from the reap; when the caller does, it is dead."""
    monkeypatch.setattr("oomd.reap.pool.ALONE_S", 90.0)  # however busy the machine is
    monkeypatch.setattr("oomd.reap.pool.LAST_MS", 90_000)
    with pool_of(Slow()) as pool:
        child = hold(64)
        with warrants_of(child) as (warrant,):
            motion = pool.arm(warrant)
            pool.fire(motion, number, lambda: None)
            assert is_readable(warrant.pidfd)
        assert child.wait(90) == -number
        assert not motion.is_passed


@pytest.mark.usefixtures("only_cpu")
def test_on_the_only_cpu_another_goes_on_in_the_end() -> None:
    """Where a reap hangs."""
    backend, passed = Lasting(), list[int | None]()
    with pool_of(backend) as pool:
        child = hold(8)

        def go_on() -> None:
            passed.append(pool.await_signal(motion))
            backend.go.set()

        with warrants_of(child) as (warrant,):
            motion = pool.arm(warrant)
            begin = time.monotonic()
            sent_us = pool.fire(motion, signal.SIGKILL, go_on)
            assert time.monotonic() >= begin + ALONE_S
            assert child.wait(90) == -signal.SIGKILL
        result_of(pool)
    assert motion.is_passed
    assert passed in ([sent_us], [None])


class Watching(Known):
    """Reaps until the lifter has looked after whoever it was given."""

    lifter: Lifter
    pid = 0
    wakes_in_us = 0
    """When the lifter would wake up, seen from the signal."""

    def strike(self, pidfd: int, signal: int, sent: Callable[[int], None]) -> tuple[int, int, int]:
        """As ever."""
        self.wakes_in_us = self.lifter.wakes_us - time.monotonic_ns() // 1000
        told = super().strike(pidfd, signal, sent)
        self._watch()
        return told

    def reap(self, pidfd: int) -> int:
        """As ever."""
        told = super().reap(pidfd)
        self._watch()
        return told

    def _watch(self) -> None:
        deadline = time.monotonic() + 90
        while self.pid not in self.lifter._lifted and time.monotonic() < deadline:
            os.sched_yield()


def test_by_the_caller_where_something_hinders() -> None:
    """Which is lifted meanwhile."""
    backend, passed = Watching(), []
    with pool_of(backend) as pool:
        assert pool._lifter is not None
        backend.lifter = pool._lifter
        child = hold(8)
        backend.pid = child.pid
        with warrants_of(child) as (warrant,):
            motion = pool.arm(replace(warrant, hindrances=("SCHED_IDLE",)))
            pool.fire(motion, signal.SIGKILL, lambda: passed.append(pool.await_signal(motion)))
            assert child.pid in pool._lifter._lifted
            assert child.wait(90) == -signal.SIGKILL
        result_of(pool)
    assert backend.reaped_by == threading.get_native_id()
    assert backend.wakes_in_us <= SOON_US


def test_not_by_the_caller_where_nobody_could_go_on() -> None:
    """The reap might last for ever."""
    backend = Lasting()
    with pool_of(backend, workers=1) as pool:
        first, second = hold(8), hold(8)
        with warrants_of(first, second) as (held, warrant):
            pool.submit(held)
            assert first.wait(90) == -signal.SIGKILL
            assert not pool.workers.has_free
            motion = pool.arm(warrant)
            pool.fire(motion, signal.SIGKILL, lambda: pytest.fail("nobody was there to go on"))
            assert second.wait(90) == -signal.SIGKILL
            assert backend.reaped_by != threading.get_native_id()
            backend.go.set()
        results_of(pool, 2)


def test_made_ready_for_nothing(reaper: ReaperPool) -> None:
    """It lives, nothing is told, and nothing stays open."""
    child = hold(1)
    before = open_descriptors()
    with warrants_of(child) as (warrant,):
        reaper.disarm(reaper.arm(warrant))
    assert not opened_since(before)
    assert reaper.take_results() == []
    assert child.poll() is None
    child.kill()
    child.wait()


def test_number_given_to_another_before_the_kill(reaper: ReaperPool) -> None:
    """The caller may close its pidfd at once, and the number may become another process's: that one lives."""
    child, bystander = hold(8), hold(8)
    warrant = warrant_of(child.pid)
    reaper.submit(warrant)
    other = os.pidfd_open(bystander.pid)
    os.dup2(other, warrant.pidfd)
    result_of(reaper)
    assert child.wait() == -signal.SIGKILL
    assert bystander.poll() is None
    bystander.kill()
    bystander.wait()
    for fd in (other, warrant.pidfd):
        os.close(fd)


def test_victim_that_is_gone_already(reaper: ReaperPool) -> None:
    """A reaped process answers ESRCH, and nothing else happens."""
    child = hold(1)
    warrant = warrant_of(child.pid)
    child.kill()
    child.wait()
    reaper.submit(warrant)
    assert result_of(reaper).signal_errno == errno.ESRCH
    os.close(warrant.pidfd)


def test_several_victims_are_all_done(reaper: ReaperPool) -> None:
    """Requests queue; none is lost."""
    children = [hold(4) for _ in range(5)]
    warrants = [warrant_of(child.pid) for child in children]
    for warrant in warrants:
        reaper.submit(warrant)
    done = results_of(reaper, 5)
    assert {result.id for result in done} == {warrant.id for warrant in warrants}
    assert [child.wait() for child in children] == [-signal.SIGKILL] * 5
    for warrant in warrants:
        os.close(warrant.pidfd)


def test_starved_victim_is_stripped_while_it_cannot_run() -> None:
    """A stopped, SCHED_IDLE victim gives its memory back through the reaper."""
    child = hold(128)
    os.sched_setscheduler(child.pid, os.SCHED_IDLE, os.sched_param(0))
    child.send_signal(signal.SIGSTOP)
    with pool_of(MreleaseReaper()) as pool, warrants_of(child) as (warrant,):
        pool.submit(warrant)
        result = result_of(pool)
        assert result.reap_errno in {0, errno.ESRCH}
        assert child.wait() == -signal.SIGKILL


def test_live_process_is_not_reaped() -> None:
    """process_mrelease refuses a process that is not dying: EINVAL, and the process lives."""
    child = hold(1)
    pidfd = os.pidfd_open(child.pid)
    assert MreleaseReaper().reap(pidfd) == errno.EINVAL
    assert child.poll() is None
    child.kill()
    child.wait()
    assert MreleaseReaper().reap(pidfd) == errno.ESRCH
    os.close(pidfd)
    assert MreleaseReaper().reap(-1) == errno.EBADF


@pytest.mark.parametrize(
    ("backend", "there", "chosen"),
    [
        ("auto", True, "mrelease"),
        ("auto", False, "expedite"),
        ("expedite", True, "expedite"),
        ("none", True, "none"),
        ("mrelease", False, "mrelease"),
    ],
)
def test_choice_of_the_backend(backend: str, there: bool, chosen: str) -> None:
    """auto takes what the kernel has; a name is obeyed."""
    reaper: Reaper = choose_reaper(backend, kernel_has_mrelease=there)
    assert reaper.name == chosen


class Hanging:
    """Waits in every reap until it is let go."""

    name = "hanging"
    lifts = False

    def __init__(self) -> None:
        self.released = threading.Event()

    def reap(self, pidfd: int) -> int:  # noqa: ARG002 - the interface of a reaper
        """As where somebody holds the lock of the victim's memory map."""
        self.released.wait(90)
        return 0


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_workers_that_hang_hold_up_nobody(number: int) -> None:
    """A reap that waits in the kernel keeps one worker; once all of them hang the next victim is signalled all the
    same, and reaped when one is free. Nothing is lost.
    """
    reaper = Hanging()
    children = [hold(1) for _ in range(4)]
    with pool_of(reaper, workers=2) as pool, warrants_of(*children) as warrants:
        sent = [pool.submit(warrant, number) for warrant in warrants]
        assert [child.wait(timeout=120) for child in children] == [-number] * 4
        assert pool.take_results() == []
        reaper.released.set()
        done = results_of(pool, 4)
        sent_of = {result.id: result.signal_us for result in done}
        told = [
            (sent_of[warrant.id], at_us) for warrant, at_us in zip(warrants, sent, strict=True) if at_us is not None
        ]
        assert len(told) >= 2  # a worker may be too slow to have signalled by the time that the order returns
        assert {at_us - sent_us for sent_us, at_us in told} == {0}
        assert {(result.signal, result.signal_errno, result.reap_errno) for result in done} == {(number, 0, 0)}


def test_signal_that_fails_while_all_workers_hang() -> None:
    """Who is gone when nobody is free is told of with the signal's errno, and not reaped."""
    reaper = Hanging()
    busy, gone = hold(1), hold(1)
    with pool_of(reaper, workers=1) as pool, warrants_of(busy, gone) as (first, second):
        gone.kill()
        gone.wait()
        pool.submit(first)
        assert busy.wait(90) == -signal.SIGKILL
        pool.submit(second)
        reaper.released.set()
        told = {result.id: (result.signal_errno, result.reap_errno) for result in results_of(pool, 2)}
        assert told == {first.id: (0, 0), second.id: (errno.ESRCH, errno.ESRCH)}


def test_no_result_is_lost_however_many_wait() -> None:
    """Whoever asks for thousands and looks late hears of every one."""
    child = hold(1)
    with pool_of(MreleaseReaper(), workers=1) as pool, warrants_of(child) as (warrant,):
        child.kill()
        child.wait()
        many = tuple(replace(warrant, id=ProcessId(child.pid, number)) for number in range(6000))
        assert pool.kill_all(many) is None
        told = results_of(pool, 6000)
        assert [result.id.start_ticks for result in told] == list(range(6000))
        assert {result.signal_errno for result in told} == {errno.ESRCH}


def test_worker_outlives_what_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """A job that fails for want of a descriptor is told as failed, and the worker takes the next one."""

    def fail(*_: object) -> ReapResult:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    children = [hold(1), hold(1)]
    with pool_of(MreleaseReaper(), workers=1) as pool, warrants_of(*children) as warrants:
        with monkeypatch.context() as patched:
            patched.setattr(pool, "_move", fail)
            pool.submit(warrants[0])
            assert result_of(pool).reap_errno == errno.EMFILE
        pool.submit(warrants[1])
        assert result_of(pool).id == warrants[1].id
        assert children[1].wait(90) == -signal.SIGKILL
        children[0].kill()
        children[0].wait()


def test_several_at_once_are_signalled_before_the_first_is_reaped() -> None:
    """One request for three victims: all die, each is told of with what the reap took, and none is begun once enough
    is back.
    """
    children = [hold(mib) for mib in (4, 32, 8)]
    with pool_of(MreleaseReaper()) as pool, warrants_of(*children) as found:
        warrants = [replace(warrant, expected_bytes=n) for warrant, n in zip(found, (4, 32, 8), strict=True)]
        assert pool.kill_all(tuple(warrants), max_bytes=1)
        done = results_of(pool, 3)
        assert [child.wait(90) for child in children] == [-signal.SIGKILL] * 3
    assert {result.signal_errno for result in done} == {0}
    # The largest is taken first; once it is back the others are left to themselves (ENOSYS), if they were not quicker.
    assert {result.reap_errno for result in done} <= {0, errno.ESRCH, errno.ENOSYS}
    assert all(result.reaped_bytes == 0 for result in done if result.reap_errno)


def test_crowd_is_taken_by_size_and_counted() -> None:
    """Of several that cannot run the largest is reaped first; what came back was counted, not guessed."""
    mount = find_mount("freezer", 1)
    if mount is None:
        pytest.skip("no freezer hierarchy of version 1 to keep victims dying in")
    sizes = (8, 48, 24)
    children = [hold(mib) for mib in sizes]
    with control_group(mount) as group, pool_of(Unlifted(), workers=1) as pool, warrants_of(*children) as found:
        for child in children:
            (group / "cgroup.procs").write_text(str(child.pid), "ascii")
        (group / "freezer.state").write_text("FROZEN", "ascii")
        while (group / "freezer.state").read_text("ascii") != "FROZEN\n":
            os.sched_yield()
        warrants = [replace(warrant, expected_bytes=n) for warrant, n in zip(found, sizes, strict=True)]
        pool.kill_all(tuple(warrants))
        done = results_of(pool, 3)
        assert [result.id.pid for result in done] == [children[1].pid, children[2].pid, children[0].pid]
        assert {result.reap_errno for result in done} == {0}
        for result, mib in zip(done, (48, 24, 8), strict=True):
            assert result.reaped_bytes in range(mib << 20, (mib + 24) << 20)
        (group / "freezer.state").write_text("THAWED", "ascii")
        assert [child.wait(90) for child in children] == [-signal.SIGKILL] * 3


class Unlifted(MreleaseReaper):
    """Nothing thaws the victims meanwhile."""

    lifts = False


def test_without_a_descriptor_left_the_signals_go_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """EMFILE for the copies: every victim dies, and each is told of as not reaped for that reason."""
    children = [hold(1), hold(1)]
    with pool_of(MreleaseReaper()) as pool, warrants_of(*children) as warrants:

        def fail(_: int) -> int:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

        with monkeypatch.context() as patched:
            patched.setattr("oomd.reap.pool.os.dup", fail)
            pool.kill_all(warrants)
        assert {result.reap_errno for result in results_of(pool, 2)} == {errno.EMFILE}
        assert [child.wait(90) for child in children] == [-signal.SIGKILL] * 2


class Looking:
    """Notes the victim's class when it is reaped."""

    name = "looking"
    lifts = False

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.seen: list[int] = []

    def reap(self, pidfd: int) -> int:
        """As it is between the signal and the end of the motion."""
        self.seen.append(os.sched_getscheduler(self.pid))
        return MreleaseReaper().reap(pidfd)


def test_victim_is_demoted_where_real_time_is_not_permitted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Just before SIGKILL it goes to SCHED_IDLE, so that it does not come between signal and reap; whatever comes of
    the reap, it goes back to an ordinary class. SIGTERM, which it may catch, changes nothing.
    """
    monkeypatch.setattr("oomd.reap.urgency.be_realtime", lambda _: False)
    with parked(8) as child:
        looking = Looking(child.pid)
        with pool_of(looking) as pool, warrants_of(child) as (warrant,):
            assert not pool.realtime
            pool.submit(warrant, signal.SIGWINCH)
            result_of(pool)
            pool.submit(warrant)
            assert (result_of(pool).reap_errno, looking.seen) == (0, [os.SCHED_OTHER, os.SCHED_IDLE])
            assert os.sched_getscheduler(child.pid) == os.SCHED_OTHER


def test_the_switch_interval_is_put_back() -> None:
    """While a signal and its reap are asked for the interval is longer; afterwards it is what it was at the start."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(0.0003)
    try:
        victim = hold(1)
        with pool_of(MreleaseReaper()) as pool, warrants_of(victim) as (warrant,):
            pool.submit(warrant)
            assert sys.getswitchinterval() == pytest.approx(0.0003)
            victim.wait()
    finally:
        sys.setswitchinterval(before)


def test_ten_thousand_kills_leave_nothing() -> None:
    """Descriptors and threads are as many afterwards as before, though most victims are gone already (`make bench`
    kills ten thousand that are not).
    """
    children = [hold(1) for _ in range(20)]
    with pool_of(MreleaseReaper()) as pool, warrants_of(*children) as warrants:
        before = open_descriptors()
        for warrant in warrants[:10]:
            pool.submit(warrant)
        pool.kill_all(warrants[10:])
        results_of(pool, 20)
        assert {child.wait(90) for child in children} == {-signal.SIGKILL}
        assert left_since(before) == []
        threads = set(os.listdir("/proc/self/task"))
        for _ in range(100):  # a hundred kills each: one by one, and as a set
            for each in warrants * 2:
                pool.submit(each)
            pool.kill_all(warrants * 3)
            assert {result.signal_errno for result in results_of(pool, 100)} == {errno.ESRCH}
        assert left_since(before) == []
        assert set(os.listdir("/proc/self/task")) <= threads

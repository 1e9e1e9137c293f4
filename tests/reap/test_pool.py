"""The reaper thread, on real processes that the test started."""

from __future__ import annotations

import errno
import os
import select
import signal
import subprocess
import sys
import threading
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from oomd.model.decision import ReapResult, Warrant
from oomd.model.snapshot import ProcessId
from oomd.reap.backends import choose_reaper
from oomd.reap.expedite import ExpediteReaper
from oomd.reap.mrelease import MreleaseReaper
from oomd.reap.none import NoReaper
from oomd.reap.pool import ReaperPool
from tests.integration.harness import ACTORS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from oomd.reap.base import Reaper


@pytest.fixture(params=[MreleaseReaper, ExpediteReaper, NoReaper])
def reaper(request: pytest.FixtureRequest) -> Iterator[ReaperPool]:
    """A running reaper thread with each backend."""
    thread = ReaperPool(request.param())
    thread.start()
    yield thread
    thread.stop()


def hold(mib: int) -> subprocess.Popen[bytes]:
    """A child that owns memory."""
    child = subprocess.Popen([sys.executable, ACTORS, "hold", "victim", str(mib)], stdout=subprocess.PIPE)
    assert child.stdout is not None
    child.stdout.readline()
    child.stdout.close()
    return child


def warrant_of(pid: int) -> Warrant:
    """A warrant for a child of ours."""
    return Warrant(ProcessId(pid, 0), os.pidfd_open(pid), "victim", "test")


def result_of(reaper: ReaperPool) -> ReapResult:
    """The next result, told by the eventfd."""
    assert select.select([reaper.fd], [], [], 20)[0]
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
    done: list[ReapResult] = []
    while len(done) < 5:
        assert select.select([reaper.fd], [], [], 20)[0]
        done += reaper.take_results()
    assert {result.id for result in done} == {warrant.id for warrant in warrants}
    assert [child.wait() for child in children] == [-signal.SIGKILL] * 5
    for warrant in warrants:
        os.close(warrant.pidfd)


def test_starved_victim_is_stripped_while_it_cannot_run() -> None:
    """A stopped, SCHED_IDLE victim gives its memory back through the reaper."""
    child = hold(128)
    os.sched_setscheduler(child.pid, os.SCHED_IDLE, os.sched_param(0))
    child.send_signal(signal.SIGSTOP)
    thread = ReaperPool(MreleaseReaper())
    thread.start()
    warrant = warrant_of(child.pid)
    thread.submit(warrant)
    result = result_of(thread)
    assert result.reap_errno in {0, errno.ESRCH}
    assert child.wait() == -signal.SIGKILL
    os.close(warrant.pidfd)
    thread.stop()


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


def test_worker_that_hangs_does_not_hold_up_the_others() -> None:
    """A reap that waits in the kernel (a locked memory map) keeps one worker; the next victim dies all the same."""
    release = threading.Event()

    class Hanging:
        name = "hanging"
        lifts = False

        def reap(self, pidfd: int) -> int:  # noqa: ARG002 - the interface of a reaper
            release.wait(20)
            return 0

    thread = ReaperPool(Hanging(), workers=2)
    thread.start()
    children = [hold(1), hold(1)]
    warrants = [warrant_of(child.pid) for child in children]
    for warrant in warrants:
        thread.submit(warrant)
    assert [child.wait(timeout=10) for child in children] == [-signal.SIGKILL] * 2
    assert thread.take_results() == []
    release.set()
    done: list[ReapResult] = []
    while len(done) < 2:
        assert select.select([thread.fd], [], [], 20)[0]
        done += thread.take_results()
    thread.stop()
    for warrant in warrants:
        os.close(warrant.pidfd)


def test_worker_outlives_what_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """A job that fails for want of a descriptor is told as failed, and the worker takes the next one."""
    thread = ReaperPool(MreleaseReaper(), workers=1)
    thread.start()

    def fail(*_: object) -> ReapResult:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    children = [hold(1), hold(1)]
    warrants = [warrant_of(child.pid) for child in children]
    with monkeypatch.context() as patched:
        patched.setattr(thread, "_signal_and_reap", fail)
        thread.submit(warrants[0])
        assert result_of(thread).reap_errno == errno.EMFILE
    thread.submit(warrants[1])
    assert result_of(thread).id == warrants[1].id
    assert children[1].wait(20) == -signal.SIGKILL
    children[0].kill()
    children[0].wait()
    thread.stop()
    for warrant in warrants:
        os.close(warrant.pidfd)


def test_several_at_once_are_signalled_before_the_first_is_reaped() -> None:
    """One request for three victims: all die, each is told of with what the reap took, and none is begun once enough
    is back.
    """
    thread = ReaperPool(MreleaseReaper())
    thread.start()
    children = [hold(mib) for mib in (4, 32, 8)]
    warrants = [replace(warrant_of(child.pid), expected_bytes=n) for child, n in zip(children, (4, 32, 8), strict=True)]
    thread.submit_all(tuple(warrants), max_bytes=1)
    done: list[ReapResult] = []
    while len(done) < 3:
        assert select.select([thread.fd], [], [], 20)[0]
        done += thread.take_results()
    assert [child.wait(20) for child in children] == [-signal.SIGKILL] * 3
    assert {result.signal_errno for result in done} == {0}
    # The largest is taken first; once it is back the others are left to themselves (ENOSYS), if they were not quicker.
    assert {result.reap_errno for result in done} <= {0, errno.ESRCH, errno.ENOSYS}
    assert all(result.reaped_bytes == 0 for result in done if result.reap_errno)
    thread.stop()
    for warrant in warrants:
        os.close(warrant.pidfd)


def test_the_switch_interval_is_put_back() -> None:
    """While a signal and its reap are asked for the interval is longer; afterwards it is what it was at the start."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(0.0003)
    try:
        pool = ReaperPool(MreleaseReaper())
        pool.start()
        victim = hold(1)
        pidfd = os.pidfd_open(victim.pid)
        pool.submit(Warrant(ProcessId(victim.pid, 0), pidfd, "victim", "test"))
        assert sys.getswitchinterval() == pytest.approx(0.0003)
        victim.wait()
        os.close(pidfd)
        pool.stop()
    finally:
        sys.setswitchinterval(before)

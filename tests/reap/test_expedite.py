"""The simulated SS_EXPEDITE: the contract of the proposal, its asynchrony, and its effect without process_mrelease."""

from __future__ import annotations

import ctypes
import errno
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from oomd.kernel import syscalls
from oomd.kernel.files import find_kib
from oomd.reap.expedite import SS_EXPEDITE, TRIES, Expedited, Expediter, ExpediteReaper, may_expedite
from tests.reap.sharers import sharers
from tests.reap.victims import hold

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

INTEGRATION = Path(__file__).parents[1] / "integration"
ROOT = Path(__file__).parents[2]
CAP_SYS_NICE = 23
LINUX_CAPABILITY_VERSION_3 = 0x20080522


@pytest.fixture
def expediter() -> Iterator[Expediter]:
    """One with its worker running."""
    made = Expediter(ExpediteReaper())
    made.start()
    yield made
    made.stop()


def errno_of(call: Callable[[], object]) -> int:
    """What it fails with; 0 when it does not."""
    try:
        call()
    except OSError as error:
        return error.errno or 0
    return 0


def drop_nice() -> None:
    """The calling thread gives CAP_SYS_NICE up for good; capset(2)."""
    libc = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(LINUX_CAPABILITY_VERSION_3, 0)
    data = (ctypes.c_uint32 * 6)()
    assert libc.capget(header, data) == 0
    for index in (0, 1):  # effective and permitted of the first 32
        data[index] &= ~(1 << CAP_SYS_NICE)
    assert libc.capset(header, data) == 0


def test_errors_come_in_the_order_of_the_proposal(expediter: Expediter) -> None:
    """Unknown flag, flag with another signal, then what the signal call itself says; each with a descriptor that would
    fail later.
    """
    send = expediter.pidfd_send_signal
    assert errno_of(lambda: send(-1, signal.SIGKILL, 2)) == errno.EINVAL
    assert errno_of(lambda: send(-1, signal.SIGKILL, SS_EXPEDITE | 4)) == errno.EINVAL
    for number in (0, signal.SIGTERM):
        assert errno_of(lambda number=number: send(-1, number, SS_EXPEDITE)) == errno.EINVAL  # type: ignore[misc]
    if may_expedite():
        assert errno_of(lambda: send(-1, signal.SIGKILL, SS_EXPEDITE)) == errno.EBADF
    assert errno_of(lambda: send(-1, signal.SIGKILL)) == errno.EBADF
    with Path(__file__).open("rb") as file:
        assert errno_of(lambda: send(file.fileno(), 0)) == errno.EBADF


def test_capability_comes_before_the_descriptor(expediter: Expediter) -> None:
    """Without CAP_SYS_NICE the flag is EPERM even with a bad descriptor, a live victim is not touched, and without the
    flag the signal goes as ever. The capability is really dropped, in a thread of its own.
    """
    if not may_expedite():
        pytest.skip("we have no CAP_SYS_NICE in the initial user namespace")
    child = hold(1)
    pidfd = os.pidfd_open(child.pid)
    answers: list[int] = []

    def unprivileged() -> None:
        drop_nice()
        send = expediter.pidfd_send_signal
        answers.append(errno_of(lambda: send(-1, signal.SIGKILL, SS_EXPEDITE)))
        answers.append(errno_of(lambda: send(pidfd, signal.SIGKILL, SS_EXPEDITE)))
        answers.append(errno_of(lambda: send(pidfd, signal.SIGKILL, SS_EXPEDITE | 8)))
        answers.append(child.poll() or 0)
        answers.append(errno_of(lambda: send(pidfd, signal.SIGKILL)))

    thread = threading.Thread(target=unprivileged)
    thread.start()
    thread.join()
    assert answers == [errno.EPERM, errno.EPERM, errno.EINVAL, 0, 0]
    assert child.wait() == -signal.SIGKILL
    os.close(pidfd)


def test_gone_and_forbidden_processes(expediter: Expediter) -> None:
    """ESRCH once it was reaped; only the signal's own result is told."""
    child = hold(1)
    pidfd = os.pidfd_open(child.pid)
    expediter.pidfd_send_signal(pidfd, signal.SIGKILL, SS_EXPEDITE)
    assert child.wait() == -signal.SIGKILL
    assert errno_of(lambda: expediter.pidfd_send_signal(pidfd, signal.SIGKILL, SS_EXPEDITE)) == errno.ESRCH
    os.close(pidfd)


def test_flag_never_reaches_the_kernel(expediter: Expediter) -> None:
    """To kernels since 6.9 its value means PIDFD_SIGNAL_THREAD; the number that is sent has no flags at all."""
    source = Path(syscalls.__file__).read_text("utf-8")
    calls = {line.strip() for line in source.splitlines() if "_send_signal(_PIDFD_SEND_SIGNAL" in line}
    assert calls == {"if _send_signal(_PIDFD_SEND_SIGNAL, pidfd, signal, None, 0) < 0:"}


def test_last_in_is_first_out() -> None:
    """One worker, as the kernel's reaper list: while it is busy, the latest request waits on top."""
    begun, goes_on = threading.Event(), threading.Event()
    order: list[object] = []

    def note(done: Expedited) -> None:
        order.append(done.tag)
        if done.tag == 0:  # the first may be dead before anybody looks: the worker is held up afterwards
            begun.set()
            goes_on.wait(90)

    made = Expediter(ExpediteReaper(), on_done=note)
    made.start()
    children = [hold(1) for _ in range(3)]
    pidfds = [os.pidfd_open(child.pid) for child in children]
    made.pidfd_send_signal(pidfds[0], signal.SIGKILL, SS_EXPEDITE, tag=0)
    assert begun.wait(90)
    for number in (1, 2):
        made.pidfd_send_signal(pidfds[number], signal.SIGKILL, SS_EXPEDITE, tag=number)
    assert order == [0]  # the call does not wait for the worker
    goes_on.set()
    made.stop()
    made.thread.join(90)
    assert order == [0, 2, 1]
    assert [child.wait() for child in children] == [-signal.SIGKILL] * 3
    for pidfd in pidfds:
        os.close(pidfd)


def test_gives_up_after_ten_tries(monkeypatch: pytest.MonkeyPatch) -> None:
    """A part that stays held (EAGAIN, which takes a device that cannot be staged) is tried ten times, in silence."""
    tries: list[int] = []

    def busy(pidfd: int) -> None:
        tries.append(pidfd)
        raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    monkeypatch.setattr("oomd.reap.expedite.process_mrelease", busy)
    assert ExpediteReaper(pause_s=0.001).reap(5) == errno.EAGAIN
    assert tries == [5] * TRIES


def test_silent_when_a_sharer_of_the_memory_lives(tmp_path: Path) -> None:
    """A victim whose memory map another process shares is signalled, the sharer lives on with its memory, and the call
    says nothing of it.
    """
    done: list[Expedited] = []
    made = Expediter(ExpediteReaper(), on_done=done.append)
    made.start()
    with sharers(tmp_path) as (parent, child):
        pidfd = os.pidfd_open(parent.pid)
        made.pidfd_send_signal(pidfd, signal.SIGKILL, SS_EXPEDITE)
        made.stop()
        made.thread.join(90)
        assert parent.wait() == -signal.SIGKILL
        assert [each.reap_errno in (errno.ESRCH, errno.EINVAL) for each in done] == [True], done
        assert find_kib(Path(f"/proc/{child}/status").read_bytes(), b"\nRssAnon:", "status") > 8 << 20
        os.close(pidfd)


def kill_starved(backend: str, *, forbidden: bool) -> dict[str, Any]:
    """A starved victim killed in a process of its own, where process_mrelease may be forbidden."""
    argv = [sys.executable, str(INTEGRATION / "kill_starved.py"), backend]
    if forbidden:
        argv = [sys.executable, str(INTEGRATION / "forbid.py"), "process_mrelease", "ENOSYS", *argv]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(argv, capture_output=True, text=True, timeout=120, check=False, env=env)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


def test_kernel_without_mrelease_gets_the_memory_back_by_expedite() -> None:
    """Where process_mrelease is ENOSYS, auto is expedite, and a starved victim ends: what hinders it is lifted."""
    told = kill_starved("auto", forbidden=True)
    assert (told["mrelease"], told["backend"]) == (False, "expedite")
    assert (told["errno"], told["ended"]) == (errno.ENOSYS, -signal.SIGKILL)
    assert "SCHED_IDLE" in told["lifted"][0]


def test_backend_none_lifts_nothing() -> None:
    """Nothing helps the same victim where the backend is none: what the test above saw lifted is the backend's work."""
    told = kill_starved("none", forbidden=True)
    assert (told["backend"], told["lifted"], told["ended"]) == ("none", [], -signal.SIGKILL)


def test_mrelease_beneath() -> None:
    """Where the kernel has process_mrelease it serves beneath."""
    told = kill_starved("expedite", forbidden=False)
    assert told["errno"] == (0 if told["mrelease"] else errno.ENOSYS)

"""What the two system calls answer in every situation: the same cases against the kernel and against the fake that
other tests use. After mm/mrelease_test.c and pidfd_test.c of the kernel's selftests, and the cases of LTP.
"""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from oomd.kernel.syscalls import pidfd_send_signal, process_mrelease
from oomd.reap.mrelease import MreleaseReaper
from tests.fakes.dying import FakeProcesses, FakeVictim
from tests.kernel.children import DEAD_LEADER, child, said
from tests.reap.levers import control_group, find_mount
from tests.reap.sharers import sharers
from tests.reap.test_expedite import errno_of
from tests.reap.victims import hold

if TYPE_CHECKING:
    from collections.abc import Iterator

PIDFD_THREAD = os.O_EXCL


class Kernel:
    """Situations staged with processes of the test's own."""

    process_mrelease = staticmethod(process_mrelease)
    pidfd_send_signal = staticmethod(pidfd_send_signal)

    def __init__(self, stack: contextlib.ExitStack, folder: Path) -> None:
        self._stack = stack
        self._folder = folder

    def _opened(self, pid: int, flags: int = 0) -> int:
        pidfd = os.pidfd_open(pid, flags)
        self._stack.callback(os.close, pidfd)
        return pidfd

    def _held(self, mib: int = 4) -> tuple[int, int]:
        process = hold(mib)
        self._stack.callback(process.wait)
        self._stack.callback(process.kill)
        return process.pid, self._opened(process.pid)

    def _freeze(self, *pids: int, wholly: bool = True) -> None:
        mount = find_mount("freezer", 1)
        if mount is None:
            pytest.skip("no freezer hierarchy of version 1 to keep a victim dying in")
        group = self._stack.enter_context(control_group(mount))
        for pid in pids:
            (group / "cgroup.procs").write_text(str(pid), "ascii")
        (group / "freezer.state").write_text("FROZEN", "ascii")
        # A parent in vfork is frozen only when it wakes: its group stays FREEZING.
        while wholly and (group / "freezer.state").read_text("ascii") != "FROZEN\n":
            os.sched_yield()

    def live(self) -> int:
        """Alive and well."""
        return self._held()[1]

    def dying(self) -> int:
        """SIGKILL is pending and its memory still there."""
        pid, pidfd = self._held()
        self._freeze(pid)
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        return pidfd

    def reaped(self) -> int:
        """Waited for by its parent."""
        process = hold(1)
        pidfd = self._opened(process.pid)
        process.kill()
        process.wait()
        return pidfd

    def zombie(self) -> int:
        """Dead, not waited for."""
        process = hold(1)
        pidfd = self._opened(process.pid)
        self._stack.callback(process.wait)
        process.kill()
        os.waitid(os.P_PIDFD, pidfd, os.WEXITED | os.WNOWAIT)
        return pidfd

    def shared(self) -> int:
        """Dying, and a process with the same memory map lives."""
        parent, other = self._stack.enter_context(sharers(self._folder))
        self._freeze(parent.pid, other, wholly=False)
        pidfd = self._opened(parent.pid)
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        return pidfd

    def of_thread(self) -> int:
        """A pidfd of a thread that is no leader."""
        process = self._stack.enter_context(child(DEAD_LEADER))
        tid = int(said(process))
        try:
            return self._opened(tid, PIDFD_THREAD)
        except OSError as error:
            assert error.errno == errno.EINVAL  # noqa: PT017 - the kernel is older than 6.9
            pytest.skip("this kernel has no pidfds of threads")


class Fake:
    """The same situations of the fake."""

    def __init__(self) -> None:
        self._processes = FakeProcesses()
        self.process_mrelease = self._processes.process_mrelease
        self.pidfd_send_signal = self._processes.pidfd_send_signal

    def live(self) -> int:
        return self._processes.add(FakeVictim())

    def dying(self) -> int:
        return self._processes.add(FakeVictim(dying=True))

    def reaped(self) -> int:
        return self._processes.add(FakeVictim(dying=True, has_memory=False, reaped=True))

    def zombie(self) -> int:
        return self._processes.add(FakeVictim(dying=True, has_memory=False))

    def shared(self) -> int:
        return self._processes.add(FakeVictim(dying=True, sharer_lives=True))

    def of_thread(self) -> int:
        return self._processes.add(FakeVictim(of_thread=True))


@pytest.fixture(params=["kernel", "fake"])
def stage(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Kernel | Fake]:
    """Real processes, or none."""
    if request.param == "fake":
        yield Fake()
        return
    with contextlib.ExitStack() as stack:
        yield Kernel(stack, tmp_path)


class TestContract:
    """Of process_mrelease(2) and pidfd_send_signal(2)."""

    def test_flags_are_looked_at_first(self, stage: Kernel | Fake) -> None:
        """Unknown flags are EINVAL whatever the descriptor is."""
        assert errno_of(lambda: stage.process_mrelease(-1, 8)) == errno.EINVAL
        assert errno_of(lambda: stage.process_mrelease(stage.live(), 8)) == errno.EINVAL

    def test_no_descriptor(self, stage: Kernel | Fake) -> None:
        """-1 is EBADF to both, which makes it a safe probe."""
        assert errno_of(lambda: stage.process_mrelease(-1)) == errno.EBADF
        assert errno_of(lambda: stage.pidfd_send_signal(-1, 0)) == errno.EBADF

    def test_living_process(self, stage: Kernel | Fake) -> None:
        """EINVAL, and it can still be signalled."""
        pidfd = stage.live()
        assert errno_of(lambda: stage.process_mrelease(pidfd)) == errno.EINVAL
        assert errno_of(lambda: stage.pidfd_send_signal(pidfd, 0)) == 0

    def test_dying_process(self, stage: Kernel | Fake) -> None:
        """Success, also the second time."""
        pidfd = stage.dying()
        assert errno_of(lambda: stage.process_mrelease(pidfd)) == 0
        assert errno_of(lambda: stage.process_mrelease(pidfd)) == 0

    def test_dead_process(self, stage: Kernel | Fake) -> None:
        """ESRCH to release a zombie, which still takes signals; ESRCH to both once it was waited for."""
        zombie, gone = stage.zombie(), stage.reaped()
        assert errno_of(lambda: stage.process_mrelease(zombie)) == errno.ESRCH
        assert errno_of(lambda: stage.pidfd_send_signal(zombie, signal.SIGKILL)) == 0
        assert errno_of(lambda: stage.process_mrelease(gone)) == errno.ESRCH
        assert errno_of(lambda: stage.pidfd_send_signal(gone, signal.SIGKILL)) == errno.ESRCH

    def test_shared_memory_map(self, stage: Kernel | Fake) -> None:
        """A dying process whose map a live one shares: EINVAL, nothing is freed."""
        pidfd = stage.shared()
        assert errno_of(lambda: stage.process_mrelease(pidfd)) == errno.EINVAL

    def test_thread(self, stage: Kernel | Fake) -> None:
        """A pidfd of a thread is looked up as that of a process: ESRCH."""
        pidfd = stage.of_thread()
        assert errno_of(lambda: stage.process_mrelease(pidfd)) == errno.ESRCH

    def test_unknown_signal(self, stage: Kernel | Fake) -> None:
        """EINVAL, and the process lives."""
        pidfd = stage.live()
        assert errno_of(lambda: stage.pidfd_send_signal(pidfd, 65)) == errno.EINVAL
        assert errno_of(lambda: stage.pidfd_send_signal(pidfd, 0)) == 0


def test_killed_then_released_succeeds_in_the_end() -> None:
    """As the kernel's selftest has it: kill, then release; ESRCH means that the victim was quicker, and another one is
    tried.
    """
    end = time.monotonic() + 90
    answer = errno.ESRCH
    while answer == errno.ESRCH:
        assert time.monotonic() < end, "the victim was quicker every time"
        process = hold(1)
        pidfd = os.pidfd_open(process.pid)
        pidfd_send_signal(pidfd, signal.SIGKILL)
        answer = errno_of(lambda pidfd=pidfd: process_mrelease(pidfd))  # type: ignore[misc]
        process.wait()
        os.close(pidfd)
    assert answer == 0


def test_mlocked_memory_is_released_and_shared_memory_is_not() -> None:
    """Of a dying process that cannot run: locked private pages come back, shared ones wait for its end."""
    mount = find_mount("freezer", 1)
    if mount is None:
        pytest.skip("no freezer hierarchy of version 1 to keep a victim dying in")
    code = (
        "import ctypes, mmap\n"
        "private = mmap.mmap(-1, 16 << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)\n"
        "shared = mmap.mmap(-1, 16 << 20)\n"
        "private.write(b'x' * (16 << 20)); shared.write(b'x' * (16 << 20))\n"
        "assert ctypes.CDLL(None).mlockall(1) == 0\n"
        "print(flush=True); input()\n"
    )
    with child(code) as process, control_group(mount) as group:
        said(process)
        (group / "cgroup.procs").write_text(str(process.pid), "ascii")
        (group / "freezer.state").write_text("FROZEN", "ascii")
        while (group / "freezer.state").read_text("ascii") != "FROZEN\n":
            os.sched_yield()
        pidfd = os.pidfd_open(process.pid)
        pidfd_send_signal(pidfd, signal.SIGKILL)
        process_mrelease(pidfd)
        status = Path(f"/proc/{process.pid}/status").read_text("ascii")
        sizes = {line.split(":")[0]: line.split()[1] for line in status.splitlines() if line.startswith("Rss")}
        assert int(sizes["RssAnon"]) < 1024
        assert int(sizes["RssShmem"]) >= 16 * 1024
        os.close(pidfd)


@pytest.mark.parametrize(("held", "answer"), [(0, 0), (3, 0), (10_000, errno.EAGAIN)])
def test_held_parts_are_tried_again(held: int, answer: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """EAGAIN (a device's blocking notifier) is tried again with growing pauses, up to a limit."""
    fake = FakeProcesses()
    monkeypatch.setattr("oomd.reap.mrelease.process_mrelease", fake.process_mrelease)
    monkeypatch.setattr("oomd.reap.mrelease.GIVE_UP_S", 0.02 if answer else 60)
    assert MreleaseReaper().reap(fake.add(FakeVictim(dying=True, held_times=held))) == answer


def test_core_dump_is_not_disturbed(monkeypatch: pytest.MonkeyPatch) -> None:
    """EINVAL while it dumps core is the end of trying."""
    fake = FakeProcesses()
    monkeypatch.setattr("oomd.reap.mrelease.process_mrelease", fake.process_mrelease)
    assert MreleaseReaper().reap(fake.add(FakeVictim(dying=True, dumps_core=True))) == errno.EINVAL


def test_kernel_without_the_call() -> None:
    """ENOSYS where a filter forbids it; the probe says so, and no process is involved."""
    code = "from oomd.kernel.features import probe_features; print(probe_features().process_mrelease)"
    forbid = Path(__file__).parents[1] / "integration" / "forbid.py"
    argv = [sys.executable, str(forbid), "process_mrelease", "ENOSYS", sys.executable, "-c", code]
    done = subprocess.run(argv, capture_output=True, text=True, check=True, timeout=120, cwd=Path(__file__).parents[2])
    assert done.stdout == "False\n"

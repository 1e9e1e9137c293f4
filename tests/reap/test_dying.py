"""try_reap_dying_process: its errors, its count, its limit, on processes of the test's own."""

from __future__ import annotations

import errno
import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from oomd.reap.dying import read_pid_of, try_reap_dying_process
from tests.reap.levers import control_group, find_mount
from tests.reap.sharers import sharers
from tests.reap.test_expedite import errno_of
from tests.reap.victims import hold

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator

MIB = 1 << 20


@pytest.fixture
def frozen() -> Iterator[Path]:
    """A frozen control group of version 1: who is killed in it stays dying, with all its memory."""
    mount = find_mount("freezer", 1)
    if mount is None:
        pytest.skip("no freezer hierarchy of version 1 to keep a victim dying in")
    with control_group(mount) as group:
        yield group
        (group / "freezer.state").write_text("THAWED", "ascii")


def kill_frozen(group: Path, *sizes: int) -> list[tuple[subprocess.Popen[bytes], int]]:
    """Victims with SIGKILL pending that cannot run, and their pidfds."""
    victims = [(child := hold(size), os.pidfd_open(child.pid)) for size in sizes]
    for child, _ in victims:
        (group / "cgroup.procs").write_text(str(child.pid), "ascii")
    (group / "freezer.state").write_text("FROZEN", "ascii")
    while (group / "freezer.state").read_text("ascii") != "FROZEN\n":
        os.sched_yield()
    for _, pidfd in victims:
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    return victims


def test_bad_arguments() -> None:
    """Flags, a negative limit, and what is no pidfd: EINVAL."""
    assert errno_of(lambda: try_reap_dying_process(-1)) == errno.EINVAL
    with Path(__file__).open("rb") as file:
        assert errno_of(lambda: try_reap_dying_process(file.fileno())) == errno.EINVAL
    child = hold(1)
    pidfd = os.pidfd_open(child.pid)
    assert errno_of(lambda: try_reap_dying_process(pidfd, 1)) == errno.EINVAL
    assert errno_of(lambda: try_reap_dying_process(pidfd, 0, -1)) == errno.EINVAL
    assert child.poll() is None
    child.kill()
    child.wait()
    os.close(pidfd)


def test_living_process_is_not_permitted() -> None:
    """EPERM while no SIGKILL is pending, and the process keeps its memory."""
    child = hold(4)
    pidfd = os.pidfd_open(child.pid)
    assert errno_of(lambda: try_reap_dying_process(pidfd)) == errno.EPERM
    assert child.poll() is None
    child.kill()
    child.wait()
    assert errno_of(lambda: try_reap_dying_process(pidfd)) == errno.ESRCH
    os.close(pidfd)


def test_bytes_are_counted(frozen: Path) -> None:
    """What comes back is what the victim held; the second time there is nothing left."""
    ((child, pidfd),) = kill_frozen(frozen, 48)
    assert try_reap_dying_process(pidfd) in range(48 * MIB, 72 * MIB)
    assert try_reap_dying_process(pidfd) < MIB
    assert child.poll() is None  # it has not run one instruction
    os.close(pidfd)
    thaw(frozen, child)


def test_no_further_process_is_begun_once_enough_is_back(frozen: Path) -> None:
    """With 40 MiB wanted the first of two is taken whole and the second is left as it is."""
    (big, big_fd), (small, small_fd) = kill_frozen(frozen, 48, 16)
    assert try_reap_dying_process([big_fd, small_fd], 0, 40 * MIB) in range(48 * MIB, 72 * MIB)
    assert try_reap_dying_process(small_fd) in range(16 * MIB, 40 * MIB)
    assert try_reap_dying_process([small_fd], 0, 0) == 0
    for pidfd in (big_fd, small_fd):
        os.close(pidfd)
    thaw(frozen, big, small)


def test_shared_memory_map(tmp_path: Path) -> None:
    """A victim whose map a live process shares: EINVAL, or ESRCH where it has left the map already; never a count."""
    with sharers(tmp_path) as (parent, _):
        pidfd = os.pidfd_open(parent.pid)
        parent.kill()
        assert errno_of(lambda: try_reap_dying_process(pidfd)) in (errno.EINVAL, errno.ESRCH, errno.EPERM)
        os.close(pidfd)


def test_pid_of_a_pidfd() -> None:
    """The pid while it lives, 0 afterwards."""
    proc_fd = os.open("/proc", os.O_RDONLY | os.O_DIRECTORY)
    child = hold(1)
    pidfd = os.pidfd_open(child.pid)
    assert read_pid_of(pidfd, proc_fd) == child.pid
    child.kill()
    child.wait()
    assert read_pid_of(pidfd, proc_fd) == 0
    os.close(pidfd)
    os.close(proc_fd)


def thaw(group: Path, *children: subprocess.Popen[bytes]) -> None:
    """Let them run to their end."""
    (group / "freezer.state").write_text("THAWED", "ascii")
    assert [child.wait(90) for child in children] == [-signal.SIGKILL] * len(children)

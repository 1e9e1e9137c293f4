"""oom_score_adj, written with a warrant."""

from __future__ import annotations

import errno
import os
import subprocess
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from oomd.kernel.scope import ScopeGuard
from oomd.kill.importance import Admitted, DryImportance, Importance, write_oom_score_adj
from oomd.kill.warrant import GONE, Gate
from oomd.lmkd.processes import read_identity
from oomd.model.scope import parse_scope
from oomd.model.snapshot import ProcessId
from tests.descriptors import open_descriptors, opened_since
from tests.lmkd.served import read_adj

if TYPE_CHECKING:
    from collections.abc import Iterator

    from oomd.model.snapshot import Process

pytestmark = pytest.mark.integration


@pytest.fixture
def proc_fd() -> Iterator[int]:
    """The real procfs."""
    fd = os.open("/proc", os.O_RDONLY | os.O_DIRECTORY)
    yield fd
    os.close(fd)


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    """A child that does nothing."""
    child = subprocess.Popen(["sleep", "300"])
    yield child
    child.kill()
    child.wait()


def identity(proc_fd: int, pid: int) -> Process:
    """Who it is."""
    found = read_identity(proc_fd, pid)
    assert found is not None
    return found


def test_writes_and_hands_over_a_pidfd(proc_fd: int, sleeper: subprocess.Popen[bytes]) -> None:
    """The number is the kernel's own; without one nothing is written."""
    guard = ScopeGuard(parse_scope(f"tree:{os.getpid()}"), proc_fd)
    importance = Importance(Gate(guard, proc_fd, frozenset()), proc_fd)
    for adj, shown in ((700, 700), (None, 700), (800, 800)):
        admitted = importance.admit(identity(proc_fd, sleeper.pid), adj)
        assert isinstance(admitted, Admitted)
        assert admitted.write_errno == 0
        os.close(admitted.pidfd)
        assert read_adj(sleeper.pid) == shown


def test_another_process_of_that_pid_is_left_alone(proc_fd: int, sleeper: subprocess.Popen[bytes]) -> None:
    """The start time is another one: refused, nothing written, no descriptor left."""
    guard = ScopeGuard(parse_scope("machine"), proc_fd)
    process = identity(proc_fd, sleeper.pid)
    earlier = replace(process, id=ProcessId(sleeper.pid, process.id.start_ticks - 1))
    before, descriptors = read_adj(sleeper.pid), open_descriptors()
    assert Importance(Gate(guard, proc_fd, frozenset()), proc_fd).admit(earlier, 900) == GONE
    assert read_adj(sleeper.pid) == before
    assert opened_since(descriptors) == []


def test_process_that_ended_after_the_warrant(proc_fd: int) -> None:
    """Its pid may be anybody's by now: nothing is written to whoever has it."""
    child = subprocess.Popen(["sleep", "300"])
    gate = Gate(ScopeGuard(parse_scope(f"tree:{os.getpid()}"), proc_fd), proc_fd, frozenset())
    warrant = gate.grant(identity(proc_fd, child.pid))
    child.kill()
    child.wait()
    other = subprocess.Popen(["sleep", "300"])
    try:
        before = read_adj(other.pid)
        reused = replace(warrant, id=ProcessId(other.pid, 1))  # as though the kernel had handed the pid out again
        assert write_oom_score_adj(reused, 900, proc_fd) == errno.ESRCH
        assert write_oom_score_adj(warrant, 900, proc_fd) in (errno.ENOENT, errno.ESRCH)
        assert read_adj(other.pid) == before
    finally:
        other.kill()
        other.wait()
        os.close(warrant.pidfd)


def test_dry_run_writes_nothing(proc_fd: int, sleeper: subprocess.Popen[bytes]) -> None:
    """And knows the scope all the same."""
    before = read_adj(sleeper.pid)
    dry = DryImportance(ScopeGuard(parse_scope(f"tree:{os.getpid()}"), proc_fd))
    admitted = dry.admit(identity(proc_fd, sleeper.pid), 900)
    assert isinstance(admitted, Admitted)
    os.close(admitted.pidfd)
    assert read_adj(sleeper.pid) == before
    narrow = DryImportance(ScopeGuard(parse_scope(f"tree:{sleeper.pid}"), proc_fd))
    assert narrow.admit(identity(proc_fd, os.getpid()), 900) == f"is outside the tree of {sleeper.pid}"

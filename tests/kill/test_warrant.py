"""The gate, on real processes that the test started."""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from oomd.kernel.files import PAGE_BYTES
from oomd.kernel.scope import ScopeGuard
from oomd.kill.warrant import GONE, Gate, GateError, Refused
from oomd.model.scope import parse_scope
from oomd.monitor.rows import Row, read_row
from tests.descriptors import open_descriptors, opened_since
from tests.ends import at_end
from tests.fakes.builders import process
from tests.fakes.proc_tree import ProcTree

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from oomd.model.snapshot import Process


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


def row_of(proc_fd: int, pid: int) -> Row:
    """A row with its descriptors kept."""
    row = read_row(proc_fd, pid, PAGE_BYTES)
    assert row is not None
    assert row.read_status(proc_fd)
    row.keep(proc_fd)
    at_end(row.drop)
    return row


def gate(proc_fd: int, scope: str, own: frozenset[int] = frozenset()) -> Gate:
    """The gate for this scope."""
    return Gate(ScopeGuard(parse_scope(scope), proc_fd), proc_fd, own)


def refusal(one: Gate, chosen: Process, stat_fd: int = -1) -> str:
    """Why it refuses."""
    with pytest.raises(Refused) as verdict:
        one.grant(chosen, stat_fd)
    return str(verdict.value)


def test_warrant_for_a_process_in_scope(proc_fd: int, sleeper: subprocess.Popen[bytes]) -> None:
    """A child of ours within our tree gets a warrant whose pidfd is that child's, by kept descriptor or by path."""
    row = row_of(proc_fd, sleeper.pid)
    for stat_fd in (row.stat_fd, -1):
        warrant = gate(proc_fd, f"tree:{os.getpid()}").grant(row.value(0), stat_fd)
        assert warrant.id == row.id
        with open(f"/proc/self/fdinfo/{warrant.pidfd}", encoding="ascii") as info:
            assert f"Pid:\t{sleeper.pid}\n" in info.read()
        assert warrant.scope == f"tree:{os.getpid()}"
        os.close(warrant.pidfd)


def test_no_warrant_for_another_start_time(proc_fd: int, sleeper: subprocess.Popen[bytes]) -> None:
    """F11: the same pid with another start time is another process."""
    row = row_of(proc_fd, sleeper.pid)
    other = process(sleeper.pid, start_ticks=row.start_ticks - 1)
    assert refusal(gate(proc_fd, "machine"), other) == GONE
    assert refusal(gate(proc_fd, "machine"), other, row.stat_fd) == GONE


def test_kept_descriptor_of_another_process_proves_nothing(proc_fd: int, sleeper: subprocess.Popen[bytes]) -> None:
    """The descriptor must be of the chosen pid."""
    second = subprocess.Popen(["sleep", "300"])
    row, other = row_of(proc_fd, sleeper.pid), row_of(proc_fd, second.pid)
    assert refusal(gate(proc_fd, "machine"), row.value(0), other.stat_fd) == GONE
    second.kill()
    second.wait()


def test_no_warrant_outside_the_scope(proc_fd: int, sleeper: subprocess.Popen[bytes]) -> None:
    """The scope is proved by the kernel's own data, whatever the candidate says of itself."""
    chosen = row_of(proc_fd, sleeper.pid).value(0)
    assert refusal(gate(proc_fd, f"tree:{sleeper.pid},uid:{os.getuid() + 1}"), chosen).startswith("belongs to user")
    assert refusal(gate(proc_fd, "cgroup:/no/such/group"), chosen) == "is outside the cgroup /no/such/group"
    second = subprocess.Popen(["sleep", "300"])
    assert refusal(gate(proc_fd, f"tree:{second.pid}"), chosen) == f"is outside the tree of {second.pid}"
    second.kill()
    second.wait()


def test_never_pid_1_ourselves_or_what_started_us(proc_fd: int) -> None:
    """Even a candidate that slipped through the engine's rules is refused here."""
    one = gate(proc_fd, "machine", frozenset({os.getppid()}))
    for pid in (0, 1, os.getpid(), os.getppid()):
        assert refusal(one, process(pid)) == "is pid 1, oomd itself or what started it"


def test_gone_process(proc_fd: int) -> None:
    """A process that was reaped is gone; a zombie that was not reaped yet can be told by its start time only."""
    child = subprocess.Popen(["sleep", "300"])
    chosen = row_of(proc_fd, child.pid).value(0)
    child.kill()
    child.wait()
    assert refusal(gate(proc_fd, "machine"), chosen) == GONE


def test_refusing_leaks_no_descriptor(proc_fd: int, sleeper: subprocess.Popen[bytes]) -> None:
    """A hundred refusals leave as many descriptors open as before."""
    one, other = gate(proc_fd, "uid:4242"), row_of(proc_fd, sleeper.pid).value(0)
    before = open_descriptors()
    for _ in range(100):
        refusal(one, other)
    assert opened_since(before) == []


def test_procfs_that_is_not_ours_makes_no_gate(tmp_path: Path) -> None:
    """A tree of files, or the procfs of another namespace, is no ground for a kill."""
    ProcTree(tmp_path)
    shutil.rmtree(tmp_path / "self", ignore_errors=True)
    fd = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    with pytest.raises(GateError, match="cannot be read"):
        gate(fd, "machine")
    os.symlink("1", tmp_path / "self")
    with pytest.raises(GateError, match="another PID namespace"):
        gate(fd, "machine")
    os.close(fd)

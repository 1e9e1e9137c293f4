"""parse_last_pid."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given

from oomd.kernel.files import KernelFormatError
from oomd.kernel.loadavg import parse_last_pid, parse_runnable, parse_tasks
from tests.kernel.arbitrary import captured, mangled, survives
from tests.kernel.children import WAIT, child, said


def test_captured_file() -> None:
    """The last field is the pid."""
    assert parse_last_pid(captured("loadavg")) == int(captured("loadavg").split()[-1])


def test_a_new_process_moves_it() -> None:
    """The real file names the pid of a process that was just started, or of one that came after it."""
    with child(WAIT) as process:
        said(process)
        last = parse_last_pid(Path("/proc/loadavg").read_bytes())
        wrapped = last < process.pid - 1000
        assert last >= process.pid or wrapped


@pytest.mark.parametrize("data", [b"", b"0.00 0.00 0.00 1/83\n", b"0.00 0.00 0.00 1/83 x\n"])
def test_malformed(data: bytes) -> None:
    """A file without a fifth number is an error."""
    with pytest.raises(KernelFormatError, match="/proc/loadavg"):
        parse_last_pid(data)


@given(mangled("loadavg"))
def test_arbitrary_bytes(data: bytes) -> None:
    """F19: anything gives a value or KernelFormatError."""
    assert survives(parse_last_pid, data)
    assert survives(parse_tasks, data)
    assert survives(parse_runnable, data)


def test_tasks() -> None:
    """The second half of the fourth field; the machine has more tasks than this test."""
    assert parse_tasks(b"0.00 0.00 0.00 3/83 4711\n") == 83
    assert parse_tasks(Path("/proc/loadavg").read_bytes()) >= 1
    with pytest.raises(KernelFormatError, match="/proc/loadavg: tasks"):
        parse_tasks(b"0.00 0.00 0.00 3 4711\n")


def test_runnable() -> None:
    """The first half of it; whoever reads it runs."""
    assert parse_runnable(b"0.00 0.00 0.00 3/83 4711\n") == 3
    assert parse_runnable(Path("/proc/loadavg").read_bytes()) >= 1
    with pytest.raises(KernelFormatError, match="/proc/loadavg: runnable tasks"):
        parse_runnable(b"0.00 0.00 0.00 /83 4711\n")

"""Processes with one memory map, as the kernel tells them from others of the same size."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from oomd.kernel.files import PAGE_BYTES
from oomd.kernel.syscalls import kcmp_vm
from oomd.monitor.rows import Row, read_row
from oomd.monitor.sharers import find_sharers
from tests.reap.sharers import sharers
from tests.reap.victims import hold

if TYPE_CHECKING:
    from pathlib import Path


def row_of(proc_fd: int, pid: int) -> Row:
    """The row of a process of ours."""
    row = read_row(proc_fd, pid, PAGE_BYTES)
    assert row is not None
    row.read_status(proc_fd)
    return row


def test_sharers_are_found_and_twins_are_not(tmp_path: Path) -> None:
    """A vfork child has its parent's map; another process of the same size has not; one that is gone shares nothing."""
    proc_fd = os.open("/proc", os.O_RDONLY | os.O_DIRECTORY)
    twins = [hold(32), hold(32)]
    gone = row_of(proc_fd, twins[1].pid)
    twins[1].kill()
    twins[1].wait()
    with sharers(tmp_path, 32) as (parent, child):
        rows = [row_of(proc_fd, pid) for pid in (parent.pid, child, twins[0].pid)]
        assert kcmp_vm(parent.pid, child)
        assert not kcmp_vm(parent.pid, twins[0].pid)
        assert [row.pid for row in find_sharers(rows[0], [*rows, gone])] == [child]
        assert [row.pid for row in find_sharers(rows[1], rows)] == [parent.pid]
        assert find_sharers(rows[2], [*rows, gone]) == []
    twins[0].kill()
    twins[0].wait()
    os.close(proc_fd)

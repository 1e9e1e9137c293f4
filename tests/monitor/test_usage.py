"""What processes use together, each page once."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from oomd.kernel.files import PAGE_BYTES
from oomd.kernel.smaps import read_rollup
from oomd.model.units import GIB, MIB
from oomd.monitor.rows import Row, read_row
from oomd.monitor.usage import note_fork, sum_usage
from tests.fakes.proc_tree import ProcTree

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class Machine:
    """Rows read from a fake procfs."""

    def __init__(self, root: Path) -> None:
        self.tree = ProcTree(root)
        self.proc_fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY)

    def row(self, pid: int, *, measured: bool = False) -> Row:
        """The row of a process, with smaps_rollup read if wanted."""
        row = read_row(self.proc_fd, pid, PAGE_BYTES)
        assert row is not None
        assert row.read_status(self.proc_fd)
        if measured:
            rollup = read_rollup(self.proc_fd, pid)
            assert rollup is not None
            row.measured(rollup, 0)
        return row


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    """A fake machine."""
    machine = Machine(tmp_path)
    yield machine
    os.close(machine.proc_fd)


def about(amount: int, mib: int) -> bool:
    """Equal but for what rounding in smaps_rollup costs."""
    return abs(amount - mib * MIB) < MIB


def test_strangers_add_up(machine: Machine) -> None:
    """Processes that share nothing are summed, swap and shared memory included."""
    machine.tree.add_process(10, ppid=1, rss_anon=100 * MIB, swap=20 * MIB, rss_shmem=7 * MIB)
    machine.tree.add_process(11, ppid=2, rss_anon=50 * MIB)
    assert sum_usage([machine.row(10), machine.row(11)]) == 177 * MIB


def test_family_counts_its_memory_once_when_measured(machine: Machine) -> None:
    """F17: a server of 3 GiB with eight idle children uses 3 GiB and what the children own."""
    machine.tree.add_process(10, ppid=1, comm="server", rss_anon=3 * GIB, private=0)
    rows = [machine.row(10, measured=True)]
    for pid in range(20, 28):
        machine.tree.add_process(pid, ppid=10, comm="worker", rss_anon=3 * GIB, private=2 * MIB)
        rows.append(machine.row(pid, measured=True))
    assert about(sum_usage(rows), 3 * 1024 + 16)
    assert about(sum_usage(rows[1:]), 3 * 1024 + 14)  # the server is gone, its orphans still share


def test_family_counts_once_at_the_instant_of_the_fork(machine: Machine) -> None:
    """Before anything is measured a child counts as sharing what its parent has."""
    machine.tree.add_process(10, ppid=1, comm="server", rss_anon=3 * GIB)
    server = machine.row(10, measured=True)
    assert about(sum_usage([server]), 3 * 1024)
    machine.tree.add_process(20, ppid=10, comm="server", rss_anon=3 * GIB)
    child = machine.row(20)
    note_fork(child, server)
    assert about(sum_usage([server, child]), 3 * 1024)
    child.anon_bytes += 100 * MIB
    assert about(sum_usage([server, child]), 3 * 1024 + 100)


def test_new_program_is_no_copy(machine: Machine) -> None:
    """A child that has replaced its image shares nothing: small beside its parent, it counts in full."""
    machine.tree.add_process(10, ppid=1, rss_anon=100 * MIB)
    machine.tree.add_process(20, ppid=10, rss_anon=20 * MIB)
    parent, child = machine.row(10), machine.row(20)
    note_fork(child, parent)
    note_fork(child, None)
    assert sum_usage([parent, child]) == 120 * MIB


def test_measurement_is_carried_forward(machine: Machine) -> None:
    """What a process grows after it was measured is its own."""
    machine.tree.add_process(10, rss_anon=100 * MIB, private=10 * MIB)
    row = machine.row(10, measured=True)
    assert about(row.private_estimate_bytes(), 10)
    machine.tree.change_process(10, rss_anon=130 * MIB)
    row.read_status(machine.proc_fd)
    assert about(row.private_estimate_bytes(), 40)
    value = row.value(5_000_000)
    assert value.private_bytes is not None
    assert (about(value.private_bytes, 40), value.private_age_us) == (True, 5_000_000)
    assert row.value(31_000_000).private_bytes is None  # too old to say anything

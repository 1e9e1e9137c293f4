"""The background meter, on real processes."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from oomd.kernel.files import PAGE_BYTES
from oomd.model.units import MIB
from oomd.monitor.rows import Row, read_row
from oomd.monitor.sharing import SharingMeter, has_twin
from tests.integration.harness import ACTORS

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def proc_fd() -> Iterator[int]:
    """The real procfs."""
    fd = os.open("/proc", os.O_RDONLY | os.O_DIRECTORY)
    yield fd
    os.close(fd)


@pytest.fixture
def family() -> Iterator[int]:
    """A server of 64 MiB with two idle children; the server's pid."""
    command = [sys.executable, ACTORS, "family", "64", "2"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as server:
        assert server.stdout is not None
        server.stdout.readline()
        yield server.pid
        server.kill()


def rows_of(proc_fd: int, pids: list[int]) -> list[Row]:
    """Rows with their sizes."""
    rows = []
    for pid in pids:
        row = read_row(proc_fd, pid, PAGE_BYTES)
        assert row is not None
        assert row.read_status(proc_fd)
        rows.append(row)
    return rows


def collected(meter: SharingMeter, rows: list[Row]) -> None:
    """Wait for the meter's answers."""
    end = time.monotonic() + 20
    while any(row.measured_us is None for row in rows):
        assert time.monotonic() < end
        meter.collect({row.pid: row for row in rows})
        os.sched_yield()


def test_shared_memory_is_told_from_private(proc_fd: int, family: int) -> None:
    """F17: all three show 64 MiB; the meter finds that hardly any of it is anybody's own."""
    import psutil

    rows = rows_of(proc_fd, [family, *(child.pid for child in psutil.Process(family).children())])
    assert len(rows) == 3
    assert all(row.size_bytes > 60 * MIB for row in rows)
    assert all(has_twin(row, rows) for row in rows)
    meter = SharingMeter(proc_fd)
    meter.start()
    meter.ask(rows, 0)
    assert meter.awaits(rows)
    collected(meter, rows)
    assert not meter.awaits(rows)
    assert all(row.private_estimate_bytes() < 16 * MIB for row in rows)
    meter.stop()


def test_fresh_and_condemned_are_not_measured(proc_fd: int) -> None:
    """A measurement is repeated only when it is old; nobody looks at a condemned process."""
    rows = rows_of(proc_fd, [os.getpid()])
    rows[0].anon_bytes = 100 * MIB
    meter = SharingMeter(proc_fd)
    meter.start()
    meter.ask(rows, 0)
    collected(meter, rows)
    meter.ask(rows, rows[0].measured_us or 0)
    assert not meter._pending
    rows[0].measured_us = None
    meter.condemn(rows[0].id)
    meter.ask(rows, 0)
    assert not meter._pending
    meter.stop()


def test_gone_process_is_forgotten(proc_fd: int) -> None:
    """A process that ends before it is looked at is no error, and is not asked for again."""
    sleeper = subprocess.Popen(["sleep", "60"])
    rows = rows_of(proc_fd, [sleeper.pid])
    rows[0].anon_bytes = 100 * MIB
    sleeper.kill()
    sleeper.wait()
    meter = SharingMeter(proc_fd)
    meter.start()
    meter.ask(rows, 0)
    end = time.monotonic() + 20
    while meter._pending:
        assert time.monotonic() < end
        meter.collect({rows[0].pid: rows[0]})
        os.sched_yield()
    assert rows[0].measured_us is None
    meter.ask(rows, 0)
    assert not meter._pending
    meter.stop()


def test_memory_of_condemned_is_bounded(proc_fd: int) -> None:
    """The oldest condemned are forgotten first."""
    from oomd.model.snapshot import ProcessId
    from oomd.monitor.sharing import MOST_REMEMBERED

    meter = SharingMeter(proc_fd)
    for pid in range(2 * MOST_REMEMBERED):
        meter.condemn(ProcessId(pid + 10, 0))
    assert len(meter._condemned) == MOST_REMEMBERED

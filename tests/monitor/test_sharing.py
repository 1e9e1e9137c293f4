"""The background meter, on real processes."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from oomd.kernel.files import PAGE_BYTES
from oomd.model.units import MIB
from oomd.monitor.rows import Row, read_row
from oomd.monitor.sharing import FORGET_US, FRESH_US, LASTING_US, MOST, SharingMeter, has_twin
from tests.ends import stop_at_end, until_end
from tests.integration.harness import ACTORS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from oomd.model.snapshot import ProcessId


@pytest.fixture
def proc_fd() -> int:
    """The real procfs."""
    return until_end(os.open("/proc", os.O_RDONLY | os.O_DIRECTORY))


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
    end = time.monotonic() + 90
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
    stop_at_end(meter)
    meter.ask(rows, 0)
    assert meter.awaits(rows)
    collected(meter, rows)
    assert not meter.awaits(rows)
    assert all(row.private_estimate_bytes() < 16 * MIB for row in rows)


def test_fresh_and_condemned_are_not_measured(proc_fd: int) -> None:
    """A measurement is repeated only when it is old; nobody looks at a condemned process."""
    rows = rows_of(proc_fd, [os.getpid()])
    rows[0].anon_bytes = 100 * MIB
    meter = SharingMeter(proc_fd)
    meter.start()
    stop_at_end(meter)
    meter.ask(rows, 0)
    collected(meter, rows)
    meter.ask(rows, rows[0].measured_us or 0)
    assert not meter._pending
    rows[0].measured_us = None
    meter.condemn(rows[0].id)
    meter.ask(rows, 0)
    assert not meter._pending


def test_while_memory_stands_still_who_has_not_changed_can_wait(proc_fd: int) -> None:
    """A measurement lasts ten times as long, unless its process has grown or shrunk since."""
    rows = rows_of(proc_fd, [os.getpid()])
    rows[0].anon_bytes = 100 * MIB
    meter = SharingMeter(proc_fd)
    meter.start()
    stop_at_end(meter)
    meter.ask(rows, 0, calm=True)
    assert meter.is_busy
    collected(meter, rows)
    assert not meter.is_busy
    meter._rest_until_us = 0
    measured_us = rows[0].measured_us
    assert measured_us is not None
    rows[0].anon_bytes = rows[0].measured_size_bytes = 100 * MIB
    meter.ask(rows, measured_us + FRESH_US, calm=True)
    assert not meter._pending
    rows[0].anon_bytes = 104 * MIB
    meter.ask(rows, measured_us + FRESH_US, calm=True)
    assert meter._pending
    assert not meter.is_busy  # it is not the first time
    meter._pending.clear()
    rows[0].anon_bytes = 100 * MIB
    meter.ask(rows, measured_us + FRESH_US)
    assert meter._pending
    meter._pending.clear()
    meter.ask(rows, measured_us + LASTING_US, calm=True)
    assert meter._pending


def test_busy_until_everybody_was_measured_once(proc_fd: int) -> None:
    """Who did not fit among those that are asked for at a time counts."""
    meter = SharingMeter(proc_fd)
    (row,) = rows_of(proc_fd, [os.getpid()])
    row.anon_bytes = 100 * MIB
    meter._pending = {replace(row.id, pid=-number) for number in range(1, MOST + 1)}
    meter.ask([row], 0)
    assert meter.is_busy
    meter._pending.clear()
    row.measured_us = 0
    meter.ask([row], 1)
    assert not meter.is_busy


def test_gone_process_is_forgotten(proc_fd: int) -> None:
    """A process that ends before it is looked at is no error, and is not asked for again."""
    sleeper = subprocess.Popen(["sleep", "300"])
    rows = rows_of(proc_fd, [sleeper.pid])
    rows[0].anon_bytes = 100 * MIB
    sleeper.kill()
    sleeper.wait()
    meter = SharingMeter(proc_fd)
    meter.start()
    stop_at_end(meter)
    meter.ask(rows, 0)
    end = time.monotonic() + 90
    while meter._pending:
        assert time.monotonic() < end
        meter.collect({rows[0].pid: rows[0]})
        os.sched_yield()
    assert rows[0].measured_us is None
    meter.ask(rows, 0)
    assert not meter._pending


class Forgetful:
    """Stands for what makes the kernel forget: notes what is done with it."""

    def __init__(self, errno: int = 0) -> None:
        self.done: list[str] = []
        self._errno = errno

    def carry_out(self) -> int:
        self.done.append("carried out")
        return self._errno

    def let_go(self) -> None:
        self.done.append("let go")


def asked_until(meter: SharingMeter, row: Row, now_us: int, watched: frozenset[ProcessId]) -> None:
    """Ask, and wait for the answer."""
    meter._rest_until_us = 0
    meter.ask([row], now_us, watched)
    end = time.monotonic() + 90
    while meter._pending:
        assert time.monotonic() < end
        meter.collect({row.pid: row})
        os.sched_yield()


def test_who_is_watched_is_made_forgotten_now_and_then(proc_fd: int) -> None:
    """Only who is to be watched, at once and then every half minute; in between it is only read."""
    (row,) = rows_of(proc_fd, [os.getpid()])
    row.anon_bytes = 100 * MIB
    meter, forgetful = SharingMeter(proc_fd), Forgetful()
    meter.forgets = lambda process, stat_fd: forgetful
    meter.start()
    stop_at_end(meter)
    asked_until(meter, row, 0, frozenset())
    assert (forgetful.done, row.touches.forgot_us) == ([], None)
    watched = frozenset({row.id})
    asked_until(meter, row, (row.measured_us or 0) + FRESH_US, watched)
    assert forgetful.done == ["carried out", "let go"]
    forgot_us = row.touches.forgot_us
    assert forgot_us is not None
    asked_until(meter, row, forgot_us + FORGET_US - 1, watched)
    assert len(forgetful.done) == 2
    asked_until(meter, row, forgot_us + FORGET_US, watched)
    assert len(forgetful.done) == 4


def test_condemned_process_is_not_made_forgotten(proc_fd: int) -> None:
    """It was condemned while its question waited: the warrant is let go unused, nothing is read."""
    (row,) = rows_of(proc_fd, [os.getpid()])
    row.anon_bytes = 100 * MIB
    meter, forgetful = SharingMeter(proc_fd), Forgetful()
    meter.forgets = lambda process, stat_fd: forgetful
    meter.ask([row], 0, frozenset({row.id}))
    meter.condemn(row.id)
    meter.start()
    stop_at_end(meter)
    end = time.monotonic() + 90
    while meter._pending:
        assert time.monotonic() < end
        meter.collect({row.pid: row})
        os.sched_yield()
    assert forgetful.done == ["let go"]
    assert row.measured_us is None


def test_nobody_may_be_made_forgotten(proc_fd: int) -> None:
    """In a dry run, or where no warrant is granted, the process is read as it is."""
    (row,) = rows_of(proc_fd, [os.getpid()])
    row.anon_bytes = 100 * MIB
    meter = SharingMeter(proc_fd)
    meter.start()
    stop_at_end(meter)
    asked_until(meter, row, 0, frozenset({row.id}))
    meter.forgets = lambda process, stat_fd: None
    asked_until(meter, row, (row.measured_us or 0) + FRESH_US, frozenset({row.id}))
    assert row.measured_us is not None
    assert row.touches.forgot_us is None


def test_memory_of_condemned_is_bounded(proc_fd: int) -> None:
    """The oldest condemned are forgotten first."""
    from oomd.model.snapshot import ProcessId
    from oomd.monitor.sharing import MOST_REMEMBERED

    meter = SharingMeter(proc_fd)
    for pid in range(2 * MOST_REMEMBERED):
        meter.condemn(ProcessId(pid + 10, 0))
    assert len(meter._condemned) == MOST_REMEMBERED

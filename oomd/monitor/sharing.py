"""How much of a leader's memory is really its own, and how much of it was touched lately: smaps_rollup, read in the
background.

Reading it walks page tables (16–24 ms per GiB) and holds the process's mmap lock for reading, so it never happens on
the way to a kill and never
for a condemned process: its memory would stay as long as somebody reads.
"""

from __future__ import annotations

import errno
import time
from _queue import Empty, SimpleQueue

from oomd.kernel.sched import be_prompt
from oomd.kernel.smaps import read_rollup
from oomd.kernel.threads import Thread
from oomd.monitor.own_shmem import WORTH_BYTES as SHMEM_BYTES
from oomd.monitor.own_shmem import kin_of, read_own_shmem
from oomd.monitor.rows import Row

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Protocol

    from oomd.kernel.smaps import Rollup
    from oomd.model.snapshot import Process, ProcessId

    class Forget(Protocol):
        """Makes the kernel forget what a process touched (oomd/kill/forgetting.py)."""

        def carry_out(self) -> int:
            """0, or the errno."""

        def let_go(self) -> None:
            """Done with, carried out or not."""

    Question = tuple[ProcessId, Forget | None, tuple[int, ...] | None]
    """Of whom, whether the kernel is to forget before, and the relatives who may map the same shared memory (None:
    there is little of it).
    """
    Measured = tuple[ProcessId, Rollup | None, int, int, int | None, int]
    """Of whom, what, begin and end of the reading; where the kernel was to forget before it, the errno of that; and the
    shared memory that is its own.
    """

WORTH_BYTES = 16 << 20
"""Below this the difference decides nothing."""

MOST = 8
"""Measurements asked for at a time."""

MOST_REMEMBERED = 1024
"""Condemned or unreadable processes that are remembered, oldest dropped first."""

FRESH_US = 2_000_000
"""A measurement younger than this is not repeated."""

LASTING_US = 20_000_000
"""While memory does not fall: of one that owns as much as it did then, younger than this."""
CHANGED_SHARE = 32
"""More or less by one part in so many is not as much."""

OVERHEAD = 20
"""Measuring takes at most one part in so many of the time."""

FORGET_US = 30_000_000
"""How long what a process touches is watched before the kernel is made to forget it again."""


class SharingMeter:
    """One thread that measures; requests and results pass through queues, so the loop never waits for it."""

    def __init__(self, proc_fd: int) -> None:
        self._proc_fd = proc_fd
        self.forgets: Callable[[Process, int], Forget | None] | None = None
        """Prepares (from a process and its kept stat), on the caller's thread, what makes the kernel forget its
        touches; None where nobody may.
        """
        self._asked: SimpleQueue[Question | None] = SimpleQueue()
        self._answers: SimpleQueue[Measured] = SimpleQueue()
        self._pending: set[ProcessId] = set()
        self._first: set[ProcessId] = set()
        """Those of them that were never measured before."""
        self._left_over = False
        """Whether there are more of those than were asked for."""
        self._condemned: dict[ProcessId, None] = {}
        self._rest_until_us = 0
        self._thread = Thread(self._run, name="sharing")

    @property
    def is_busy(self) -> bool:
        """Whether somebody is measured for the first time, or is still to be."""
        return self._left_over or bool(self._first)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread after the reading in hand."""
        self._asked.put(None)

    def ask(
        self,
        leaders: list[Row],
        now_us: int,
        watched: frozenset[ProcessId] = frozenset(),
        rows: Iterable[Row] = (),
        *,
        calm: bool = False,
    ) -> None:
        """Have the foremost leaders measured that were not of late; never more often than the overhead allows, but a
        first time at once. Of those that are to be ``watched`` the kernel forgets now and then what they touched.
        ``rows``: everybody, relatives among them. ``calm``: memory does not fall, so those that have not changed can
        wait.
        """
        self._left_over = False
        for row in sorted(leaders, key=_longest_unmeasured):
            process_id = row.id
            if not _is_worth_it(row) or process_id in self._pending or process_id in self._condemned:
                continue
            if len(self._pending) >= MOST:
                self._left_over = row.measured_us is None
                return
            if row.measured_us is None:
                self._first.add(process_id)
            elif now_us < self._rest_until_us or _is_fresh(row, now_us, calm=calm and process_id not in watched):
                continue
            self._pending.add(process_id)
            forgot_us = row.touches.forgot_us
            due = process_id in watched and (forgot_us is None or now_us - forgot_us >= FORGET_US)
            forget = self.forgets(row.value(now_us), row.stat_fd) if due and self.forgets is not None else None
            kin = kin_of(row, rows) if row.shmem_bytes >= SHMEM_BYTES else None
            self._asked.put((process_id, forget, kin))

    def collect(self, rows: dict[int, Row]) -> None:
        """Put what was measured since into the rows."""
        while True:
            try:
                process_id, rollup, begin_us, end_us, forgot, own_shmem = self._answers.get_nowait()
            except Empty:
                return
            self._pending.discard(process_id)
            self._first.discard(process_id)
            self._rest_until_us = max(self._rest_until_us, end_us + OVERHEAD * (end_us - begin_us))
            row = rows.get(process_id.pid)
            if rollup is None:
                self.condemn(process_id)  # gone, or not ours to look into: never asked again
            elif row is not None and row.start_ticks == process_id.start_ticks:
                row.measured(rollup, end_us, forgot=forgot, own_shmem_bytes=own_shmem)

    def awaits(self, leaders: list[Row]) -> bool:
        """Whether a foremost leader is being measured for the first time whose size may be mostly its relatives', or
        somebody whose shared memory may be his own and as much as that.
        """
        return _may_share([row for row in leaders if row.measured_us is None and row.id in self._pending], leaders)

    def wants_first(self, leaders: list[Row]) -> bool:
        """Whether the same would hold of somebody who was never asked for, once he is."""
        fresh = [row for row in leaders if row.measured_us is None and _is_worth_it(row)]
        return _may_share([row for row in fresh if row.id not in self._condemned], leaders)

    def condemn(self, process_id: ProcessId) -> None:
        """Never look at this process again."""
        if len(self._condemned) >= MOST_REMEMBERED:
            del self._condemned[next(iter(self._condemned))]
        self._condemned[process_id] = None

    def _run(self) -> None:
        be_prompt()
        while (question := self._asked.get()) is not None:
            process_id, forget, kin = question
            begin_us = time.monotonic_ns() // 1000
            rollup, forgot, own_shmem = None, None, 0
            if forget is not None:
                forgot = errno.ESRCH if process_id in self._condemned else forget.carry_out()
                forget.let_go()
            if process_id not in self._condemned:
                rollup = read_rollup(self._proc_fd, process_id.pid)
            if rollup is not None and kin is not None:
                own_shmem = read_own_shmem(self._proc_fd, process_id.pid, kin, rollup)
            self._answers.put((process_id, rollup, begin_us, time.monotonic_ns() // 1000, forgot, own_shmem))


def _longest_unmeasured(row: Row) -> tuple[int, int]:
    return (-1 if row.measured_us is None else row.measured_us, -row.size_bytes - row.shmem_bytes)


def _is_fresh(row: Row, now_us: int, *, calm: bool) -> bool:
    age_us = now_us - (row.measured_us or 0)
    changed_bytes = abs(row.anon_bytes + row.swap_bytes - row.measured_size_bytes)
    return age_us < FRESH_US or (
        calm and age_us < LASTING_US and changed_bytes * CHANGED_SHARE <= row.measured_size_bytes
    )


def _is_worth_it(row: Row) -> bool:
    return row.size_bytes >= WORTH_BYTES or row.shmem_bytes >= SHMEM_BYTES


def _may_share(fresh: list[Row], leaders: list[Row]) -> bool:
    """Whether one of these is a foremost leader whose size may be mostly its relatives', or has shared memory that may
    be its own and as much as the foremost owns.
    """
    if not fresh:
        return False
    foremost = leaders[0].size_bytes
    return any(row.shmem_bytes >= max(SHMEM_BYTES, foremost // 2) for row in fresh) or any(
        has_twin(row, leaders) for row in leaders[:3] if row in fresh
    )


def has_twin(row: Row, leaders: list[Row]) -> bool:
    """Whether a parent, child or sibling of about its size stands beside it: then fork may have made one memory look
    like several.
    """
    for other in leaders:
        if other is row:
            continue
        kin = other.pid == row.ppid or other.ppid == row.pid or (other.ppid == row.ppid and other.comm == row.comm)
        if kin and 2 * min(other.size_bytes, row.size_bytes) > max(other.size_bytes, row.size_bytes):
            return True
    return False

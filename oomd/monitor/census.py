"""Everybody at once: sizes alone where only the largest matter, whole rows where everybody counts.

A size is two numbers in one (pages and pid), so that ten thousand processes take 80 KiB and are sorted by size as they
are; not in an ``array``, which brings collections and functools. One file is read of each: statm, and status only while
the machine swaps, which statm does not show.
"""

from __future__ import annotations

import os
from sys import byteorder

from oomd.kernel.files import KernelFormatError
from oomd.kernel.process import list_pids, parse_owned_bytes, parse_statm
from oomd.monitor.own_shmem import WORTH_BYTES as SHMEM_BYTES
from oomd.monitor.rows import read_row

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable, Iterator, Mapping

    from oomd.kernel.scope import ScopeGuard
    from oomd.monitor.rows import Row

PID_BITS = 22
"""PID_MAX_LIMIT is 2^22; include/linux/threads.h."""
_PID_MASK = (1 << PID_BITS) - 1
_WIDTH = 8
_OPEN = os.O_RDONLY | os.O_CLOEXEC
_STATM_BYTES = 128
_STATUS_BYTES = 4096


class Sizes:
    """The anonymous memory and swap of every process, as of one scan."""

    def __init__(self, page_bytes: int) -> None:
        self._page_bytes = page_bytes
        self._packed = bytearray()
        """Eight bytes each: pid - (pages << PID_BITS), so that the largest comes first, of equal ones the lower pid."""
        self.complete = True
        """Whether everybody was read."""
        self.sharers: list[tuple[int, int]] = []
        """Pids that map much that is not anonymous, and how much; it may be shared memory of their own."""

    def __len__(self) -> int:
        return len(self._packed) // _WIDTH

    def add(self, pid: int, size_bytes: int, shared_bytes: int = 0) -> None:
        """One more, if it owns anything; ``shared_bytes`` is what it maps besides."""
        if size_bytes:
            number = pid - (size_bytes // self._page_bytes << PID_BITS)
            self._packed += number.to_bytes(_WIDTH, byteorder, signed=True)
        if shared_bytes >= SHMEM_BYTES:
            self.sharers.append((shared_bytes, pid))

    def largest_first(self) -> Iterator[tuple[int, int]]:
        """Pid and size of each, largest first; of equal ones the lower pid."""
        for packed in sorted(self._numbers()):
            yield packed & _PID_MASK, -(packed >> PID_BITS) * self._page_bytes

    def of(self, pids: Container[int]) -> dict[int, int]:
        """The sizes of these; who is not among them was not there, or owned nothing."""
        return {
            packed & _PID_MASK: -(packed >> PID_BITS) * self._page_bytes
            for packed in self._numbers()
            if packed & _PID_MASK in pids
        }

    def _numbers(self) -> memoryview[int]:
        return memoryview(self._packed).cast("q")


class SizeReader:
    """Reads everybody's size; remembers kernel threads, so as not to ask again who they are."""

    def __init__(self, proc_fd: int, page_bytes: int) -> None:
        self._proc_fd = proc_fd
        self._page_bytes = page_bytes
        self._kernel_threads: set[int] = set()
        self.most: int | None = None
        """Of how many, the newest; None: of all."""

    def read(self, skip: Container[int], *, swapped: bool, enough: Callable[[int, int], bool] | None = None) -> Sizes:
        """The sizes of all processes but these, the newest first. ``swapped``: some of it may lie in swap. ``enough``
        is told each pid and size; as soon as it says that nobody else matters, the others are not read.
        """
        sizes = Sizes(self._page_bytes)
        empty = []
        read_size = self._read_size
        for pid in sorted(list_pids(self._proc_fd), reverse=True)[: self.most]:
            if pid in skip:
                continue
            seen = read_size(pid, swapped=swapped)
            if seen is None:
                continue
            size, shared = seen
            sizes.add(pid, size, shared)
            if not size and not shared:
                empty.append(pid)
            elif enough is not None and enough(pid, size):
                sizes.complete = False
                return sizes
        for pid, size in self._ask_the_empty(empty, sizes):
            if enough is not None:
                enough(pid, size)  # these are few, and were read as it is
        return sizes

    def read_one(self, pid: int, *, swapped: bool) -> int | None:
        """The size of this process, or of the one that this thread belongs to; None when there is none."""
        seen = self._read_size(pid, swapped=swapped)
        return None if seen is None else seen[0]

    def _read_size(self, pid: int, *, swapped: bool) -> tuple[int, int] | None:
        """Anonymous memory and swap, and what is shared (by statm: mapped files too)."""
        try:
            fd = os.open(f"{pid}/status" if swapped else f"{pid}/statm", _OPEN, dir_fd=self._proc_fd)
            try:
                data = os.read(fd, _STATUS_BYTES if swapped else _STATM_BYTES)
            finally:
                os.close(fd)
            if swapped:
                return parse_owned_bytes(data)
            resident, shared = parse_statm(data)
        except (OSError, KernelFormatError):
            return None
        page_bytes = self._page_bytes
        return (resident - shared) * page_bytes if resident > shared else 0, shared * page_bytes

    def _ask_the_empty(self, empty: list[int], sizes: Sizes) -> list[tuple[int, int]]:
        """Of those that show no memory some have it all the same: a main thread has ended, others live. Who, and how
        much.
        """
        found = []
        known = self._kernel_threads
        self._kernel_threads = set()
        for pid in empty:
            row = None if pid in known else read_row(self._proc_fd, pid, self._page_bytes)
            if pid in known or (row is not None and row.is_kernel_thread):
                self._kernel_threads.add(pid)
            elif row is not None and row.has_dead_leader and row.read_status(self._proc_fd):
                sizes.add(pid, row.size_bytes, row.shmem_bytes)
                found.append((pid, row.size_bytes))
        return found


def read_rows(proc_fd: int, pids: Iterable[int], known: Mapping[int, Row], page_bytes: int) -> dict[int, Row]:
    """The rows of these, those that were known brought up to date; who vanishes meanwhile is skipped."""
    rows = {}
    for pid in pids:
        row = read_row(proc_fd, pid, page_bytes)
        if row is None:
            continue
        old = known.get(pid)
        if old is not None and old.start_ticks == row.start_ticks:
            old.update_from(row)
            row = old
        rows[pid] = row
    return rows


def read_able(proc_fd: int, pid: int, row: Row | None, page_bytes: int) -> Row | None:
    """The row of one that could be taken, with all that is known of it then; None for those that never are. ``row``:
    what was known of it before.
    """
    if row is None:
        row = read_row(proc_fd, pid, page_bytes)
    if row is None or row.is_kernel_thread or row.out_of_scope or not (row.exact or row.read_status(proc_fd)):
        return None
    row.read_details(proc_fd)
    return row


def read_whole(
    proc_fd: int, known: Mapping[int, Row], skip: Container[int], guard: ScopeGuard, *, page_bytes: int
) -> tuple[dict[int, Row], Sizes]:
    """The rows of all processes but these, with their exact sizes and whether they are in scope; those that are gone
    are dropped.
    """
    rows = read_rows(proc_fd, (pid for pid in list_pids(proc_fd) if pid not in skip), known, page_bytes)
    for row in known.values():
        if rows.get(row.pid) is not row:
            row.drop()
    guard.note_members(rows)
    sizes = Sizes(page_bytes)
    for row in rows.values():
        if not row.is_kernel_thread and (row.state != "Z" or row.has_dead_leader):
            row.read_status(proc_fd)
        if not guard.scope.is_machine:
            row.out_of_scope = guard.why_outside(row.pid, row.start_ticks, row.uid if row.exact else None)
        if row.exact:
            sizes.add(row.pid, row.size_bytes, row.shmem_bytes)
    return rows, sizes


def complete(proc_fd: int, rows: Iterable[Row]) -> None:
    """Read what is not known yet of these."""
    for row in rows:
        if row.is_kernel_thread:
            continue
        if not row.exact:
            row.read_status(proc_fd)
        if not row.detailed:
            row.read_details(proc_fd)


def find_moved(proc_fd: int, rows: Iterable[Row]) -> list[Row]:
    """Those who are in another cgroup now than was known."""
    moved = []
    for row in rows:
        before = row.cgroup
        row.read_details(proc_fd)
        if row.cgroup != before:
            moved.append(row)
    return moved

"""Everybody at once: sizes alone where only the largest matter, whole rows where everybody counts.

A size is two numbers in one (pages and pid), so that ten thousand processes take 80 KiB and are sorted by size as they
are; not in an ``array``, which brings collections and functools. One file is read of each: statm, and status only while
the machine swaps, which statm does not show.
"""

from __future__ import annotations

import os
from sys import byteorder

from oomd.kernel.files import KernelFormatError
from oomd.kernel.pids import PID_LIMIT
from oomd.kernel.process import list_pids, parse_owned_bytes, parse_statm
from oomd.monitor.own_shmem import WORTH_BYTES as SHMEM_BYTES
from oomd.monitor.podium import WORTH_BYTES
from oomd.monitor.rows import read_row

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable, Iterator, Mapping
    from collections.abc import Set as AbstractSet

    from oomd.kernel.pids import PidRange
    from oomd.kernel.scope import ScopeGuard
    from oomd.monitor.rows import Row

PID_BITS = 22
"""PID_MAX_LIMIT is 2^22; include/linux/threads.h."""
_PID_MASK = (1 << PID_BITS) - 1
_WIDTH = 8
_OPEN = os.O_RDONLY | os.O_CLOEXEC
_STATM_BYTES = 128
_STATUS_BYTES = 4096
SOUGHT = 512
"""So many of the largest are found without sorting everybody."""
KTHREADD = 2
"""The parent of kernel threads. A few of them, and others, are about to execute a program (kernel/umh.c): they are met
as newcomers then, and no kernel threads any more."""
LIKELY = 128
"""So many of the largest are asked first whether they have grown."""


class Sizes:
    """The anonymous memory and swap of every process, as of one scan."""

    def __init__(self, page_bytes: int) -> None:
        self._page_bytes = page_bytes
        self.packed = bytearray()
        """Eight bytes each: pid - (pages << PID_BITS), so that the largest comes first, of equal ones the lower pid."""
        self.complete = True
        """Whether everybody was read."""
        self.sharers: list[tuple[int, int]] = []
        """Pids that map much that is not anonymous, and how much; it may be shared memory of their own."""
        self._likely: list[int] | None = None

    def __len__(self) -> int:
        return len(self.packed) // _WIDTH

    def add(self, pid: int, size_bytes: int, shared_bytes: int = 0) -> None:
        """One more, if it owns anything; ``shared_bytes`` is what it maps besides."""
        if size_bytes:
            number = pid - (size_bytes // self._page_bytes << PID_BITS)
            self.packed += number.to_bytes(_WIDTH, byteorder, signed=True)
        if shared_bytes >= SHMEM_BYTES:
            self.sharers.append((shared_bytes, pid))

    def largest_first(self) -> Iterator[tuple[int, int]]:
        """Pid and size of each, largest first; of equal ones the lower pid."""
        first = self._first()
        self._likely = [packed & _PID_MASK for packed in first[:LIKELY]]
        for packed in first:
            yield packed & _PID_MASK, -(packed >> PID_BITS) * self._page_bytes
        if len(first) < len(self):
            least = first[-1]
            for packed in sorted(each for each in self._numbers() if each > least):
                yield packed & _PID_MASK, -(packed >> PID_BITS) * self._page_bytes

    def likely(self) -> list[int]:
        """The pids of the largest few; known since they were asked for by their size, or else found now."""
        if self._likely is None:
            self._likely = [packed & _PID_MASK for packed in self._first()[:LIKELY]]
        return self._likely

    def _first(self) -> list[int]:
        """The largest few hundred, which are all that is asked for nearly always: all as numbers would take 40 bytes
        each.
        """
        first: list[int] = []
        least = 1 << PID_BITS  # every number is below
        for packed in self._numbers():
            if packed < least:
                first.append(packed)
                if len(first) >= 2 * SOUGHT:
                    first.sort()
                    del first[SOUGHT:]
                    least = first[-1]
        first.sort()
        return first

    def of(self, pids: Container[int]) -> dict[int, int]:
        """The sizes of these; who is not among them was not there, or owned nothing."""
        return {
            packed & _PID_MASK: -(packed >> PID_BITS) * self._page_bytes
            for packed in self._numbers()
            if packed & _PID_MASK in pids
        }

    def _numbers(self) -> memoryview[int]:
        return memoryview(self.packed).cast("q")


class SizeReader:
    """Reads everybody's size; remembers kernel threads, so as not to ask again who they are."""

    def __init__(self, proc_fd: int, page_bytes: int, pids: PidRange | None = None) -> None:
        """Without ``pids`` everybody is listed before the first is read."""
        self._proc_fd = proc_fd
        self._page_bytes = page_bytes
        self._pids = pids
        self._kernel_threads: set[int] = set()
        self._newest_pid = 0
        """The highest when all were listed last."""
        self.most: int | None = None
        """Of how many, the newest; None: of all."""

    def read(self, skip: Container[int], *, swapped: bool) -> Sizes:
        """The sizes of all processes but these, the newest first. ``swapped``: some of it may lie in swap."""
        sizes = Sizes(self._page_bytes)
        empty: list[int] = []
        read = self._read_swapped if swapped else self._read_resident
        for pids in self._newest_first():
            read(pids, skip, sizes, empty, None)
        self._kernel_threads, known = set(), self._kernel_threads
        self._ask_the_empty(empty, sizes, known)
        return sizes

    def seek(
        self,
        before: Sizes,
        born: range,
        skip: AbstractSet[int],
        *,
        swapped: bool,
        enough: Callable[[int, int], bool],
        read_kept: Callable[[Sizes, set[int]], bool] | None = None,
    ) -> Sizes:
        """The same in search of one that has grown since all were read, ``before``; ``born``: the pids that were handed
        out since. ``enough`` is told the pid and the size of each that owns more than is worth a look; as soon as it
        says that nobody else matters, the others are not read. It must not conclude anything from the order, which is a
        guess; if it never says so, everybody was read once, apart from those who are known to be kernel threads.
        ``read_kept``, if any, reads some in its own way, after those born: it adds to the sizes and to those who need
        not be asked, and answers whether ``enough`` was never said.
        """
        sizes = Sizes(self._page_bytes)
        empty: list[int] = []
        read = self._read_swapped if swapped else self._read_resident
        asked = {*skip, *self._kernel_threads}
        for number, pids in enumerate(self._likely_first(before, born, asked)):
            sizes.complete = read(pids, skip, sizes, empty, enough)
            if sizes.complete and not number and read_kept is not None:
                asked.update(pids)
                sizes.complete = read_kept(sizes, asked)
            if not sizes.complete:
                return sizes
        for pid, size in self._ask_the_empty(empty, sizes, ()):
            enough(pid, size)  # these are few, and were read as it is
        return sizes

    def forget(self, pid: int | None = None) -> None:
        """This pid was handed out anew, or any may have been (None): whoever had it was no kernel thread that lasts."""
        if pid is None:
            self._kernel_threads.clear()
        else:
            self._kernel_threads.discard(pid)

    def _likely_first(self, before: Sizes, born: range, asked: set[int]) -> Iterator[list[int]]:
        """All pids but those who need not be ``asked``, each in one piece: those born since, of whom nothing is known;
        the largest there were, for programs that take much at once are seldom the smallest before; and everybody else,
        the newest first.
        """
        every = self.most is None
        for pids in (self._those_of(born) if every else [], before.likely() if every else []):
            yield [pid for pid in pids if pid not in asked]
            asked.update(pids)
        for pids in self._newest_first(self._newest_pid if self.most is None else 0):
            yield [pid for pid in pids if pid not in asked]

    def _those_of(self, born: range) -> list[int]:
        """Those that there are of these pids, the newest first; nobody where procfs cannot tell."""
        if not born or self._pids is None or not self._pids.can_tell:
            return []
        try:
            return self._pids.processes(born[0], born[-1])[::-1]
        except (OSError, ValueError):
            return []  # they come with all the others

    def _newest_first(self, newest: int = 0) -> Iterator[list[int]]:
        """All pids, a piece at a time where procfs can do that. ``newest``: who may be so, if that is known."""
        if self._pids is None or not self._pids.can_tell:
            yield sorted(list_pids(self._proc_fd), reverse=True)[: self.most]
            return
        left = PID_LIMIT if self.most is None else self.most
        for number, pids in enumerate(self._pids.newest_first(newest)):
            if not number and pids:
                self._newest_pid = pids[0]
            yield pids[:left]
            left -= len(pids)
            if left <= 0:
                return

    def _read_resident(
        self,
        pids: list[int],
        skip: Container[int],
        sizes: Sizes,
        empty: list[int],
        enough: Callable[[int, int], bool] | None,
    ) -> bool:
        """From statm; whether all were read. Ten thousand times what is said here, so calls are spared."""
        proc_fd, page_bytes, packed = self._proc_fd, self._page_bytes, sizes.packed
        worth, mapping = WORTH_BYTES // page_bytes, SHMEM_BYTES // page_bytes
        open_file, read_file, close_file = os.open, os.read, os.close
        for pid in pids:
            if pid in skip:
                continue
            try:
                fd = open_file(b"%d/statm" % pid, _OPEN, dir_fd=proc_fd)
                try:
                    _, resident, mapped, _ = read_file(fd, _STATM_BYTES).split(b" ", 3)
                finally:
                    close_file(fd)
                shared = int(mapped)
                pages = int(resident) - shared
            except (OSError, ValueError):
                continue
            if pages > 0:
                packed += (pid - (pages << PID_BITS)).to_bytes(_WIDTH, byteorder, signed=True)
                if pages > worth and enough is not None and enough(pid, pages * page_bytes):
                    return False
            elif not shared:
                empty.append(pid)
            if shared >= mapping:
                sizes.sharers.append((shared * page_bytes, pid))
        return True

    def _read_swapped(
        self,
        pids: list[int],
        skip: Container[int],
        sizes: Sizes,
        empty: list[int],
        enough: Callable[[int, int], bool] | None,
    ) -> bool:
        """The same from status, which shows swap."""
        for pid in pids:
            seen = None if pid in skip else self._read_size(pid, swapped=True)
            if seen is None:
                continue
            size, shared = seen
            sizes.add(pid, size, shared)
            if not size and not shared:
                empty.append(pid)
            elif size > WORTH_BYTES and enough is not None and enough(pid, size):
                return False
        return True

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

    def _ask_the_empty(self, empty: list[int], sizes: Sizes, known: Container[int]) -> list[tuple[int, int]]:
        """Of those that show no memory some have it all the same: a main thread has ended, others live. Who, and how
        much. ``known``: who are kernel threads.
        """
        found = []
        for pid in empty:
            row = None if pid in known else read_row(self._proc_fd, pid, self._page_bytes)
            if pid in known or (row is not None and row.is_kernel_thread and KTHREADD in (row.pid, row.ppid)):
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

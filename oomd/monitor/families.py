"""Who forks much: a parent whose faults, and those of the children it has outlived, are known to be nobody else's.

A shell that runs a thousand programs a second has them fault some hundred megabytes a second, and all of that could be,
as far as the machine's counters tell, the growth of one process that nobody looks at. What a process has faulted itself
is told by its stat file, and what its children had faulted is added there as it waits for them. So of a parent that is
read again (whose size is known, therefore) its own faults come off; and of those it took over, what was not faulted
before by its descendants that lived when counting began, for they may have died since. Whoever is not dead, nor read
again, keeps its faults in the bound.

No fault is taken off twice. A parent that descends from another one is read after it: who lives then had not been
reaped before. Leaders explain growth beside that if they are still there after all parents were read, or are apart
(:attr:`oomd.monitor.bound.Rise.apart`): were there before and are no kin of any parent. Nobody becomes a descendant
later, but of the first process of a PID namespace, which is no parent here.

Read: at each measurement two kept files of each parent; where counting begins the children besides, and theirs.
"""

from __future__ import annotations

import os
import time

from oomd.kernel.kin import UnclearError, count_descendants, parse_faults
from oomd.monitor.rows import UNREADABLE, read_row

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable

    from oomd.monitor.rows import Row

MOST_FAMILIES = 4
MOST_KIN, MOST_KIN_AT_LOOK = 64, 8
"""Larger families than this are none, or not since the last look."""
GENERATIONS = 6
"""So far up a newcomer's parents are followed to one that was there before."""
UNDER_WAY = 64
"""So many faults of each family may be counted in its stat and not yet in vmstat: those under way as both are read."""
USEFUL_SHARE = 32
"""A family that has faulted less since the last scan than one part in so many of all is let go."""
IDLE_LOOKS, IDLE_FAULTS = 16, 64
"""One that has faulted less at each of so many looks is let go too."""
TICK_NS = 1_000_000_000 // os.sysconf("SC_CLK_TCK")


def ticks_since_boot() -> int:
    """As start times are counted."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // TICK_NS


Mark = tuple[int, int, int | None]
"""Where counting began: what a parent had faulted itself, what it had taken over, and what descendants that lived then
had faulted (None where that is not known).
"""


class Family:
    """One parent, kept."""

    __slots__ = ("begun", "idle", "kin", "look", "own", "reaped", "row", "scan")

    def __init__(self, row: Row, mark: Mark, kin: Iterable[int]) -> None:
        self.row = row
        self.scan = self.look = self.begun = mark
        self.own, self.reaped, _ = mark
        self.kin = frozenset(kin)
        """Those who descended from it at the last scan, or when it was found."""
        self.idle = 0

    def faults_since(self, mark: Mark, *, own: bool) -> int:
        """What comes off; ``own``: with those of the parent itself."""
        own_before, reaped_before, kin = mark
        reaped = 0 if kin is None else max(0, self.reaped - reaped_before - kin)
        return max(0, reaped + (self.own - own_before if own else 0) - UNDER_WAY)


class Families:
    """Those that are known, ancestors first."""

    def __init__(self, proc_fd: int, page_bytes: int, ticks: Callable[[], int] = ticks_since_boot) -> None:
        """``ticks``: the time, as start times are counted."""
        self._proc_fd = proc_fd
        self._page_bytes = page_bytes
        self._ticks = ticks
        self.known: list[Family] = []
        self._scan_ticks = 0
        self._refused: set[int] = set()

    def begin(self, *, scan: bool, swapped: bool) -> None:
        """Counting begins here, after the machine's counters were read. ``swapped``: something may lie in swap."""
        if scan:
            self._scan_ticks = self._ticks()
            self._refused.clear()
            self._let_go_useless()
        for family in list(self.known):
            if not self._begin(family, scan=scan, swapped=swapped):
                self._let_go(family)

    def scanned(self) -> None:
        """What began is the scan's, and the look's."""
        for family in self.known:
            family.scan = family.look = family.begun

    def looked(self) -> None:
        """What began is the look's. Who has done nothing for a while is let go."""
        for family in list(self.known):
            few = sum(family.begun[:2]) - IDLE_FAULTS < sum(family.look[:2])
            family.idle = family.idle + 1 if few else 0
            family.look = family.begun
            if family.idle >= IDLE_LOOKS:
                self._let_go(family)

    def read(self, *, swapped: bool) -> None:
        """All parents, before the machine's counters are read."""
        for family in list(self.known):
            try:
                family.own, family.reaped = self._read(family.row, swapped=swapped)
            except UNREADABLE:
                self._let_go(family)

    def since_scan(self, leading: Container[int]) -> int:
        """Faults that come off since the last scan. Of parents that lead their children's alone: their own growth is
        looked at as that of all leaders is.
        """
        return sum(each.faults_since(each.scan, own=each.row.pid not in leading) for each in self.known)

    def since_look(self, leading: Container[int]) -> int:
        """The same since the last look."""
        return sum(each.faults_since(each.look, own=each.row.pid not in leading) for each in self.known)

    def largest_bytes(self, leading: Container[int]) -> int:
        """What the largest parent owns that does not lead."""
        return max((each.row.size_bytes for each in self.known if each.row.pid not in leading), default=0)

    def is_apart(self, row: Row) -> bool:
        """Whether this process was there at the last scan and cannot be reaped by a parent that is known."""
        return row.start_ticks < self._scan_ticks and all(row.pid not in each.kin for each in self.known)

    def find(self, pid: int, *, swapped: bool) -> bool:
        """Know the family of this newcomer from now on: its nearest ancestor that was there at the last scan is the
        parent. Whether there is one that was not known before.
        """
        if len(self.known) >= MOST_FAMILIES:
            return False
        for _ in range(GENERATIONS):
            if pid in self._refused or any(each.row.pid == pid for each in self.known):
                return False
            row = read_row(self._proc_fd, pid, self._page_bytes)
            if row is None:
                return False
            if row.start_ticks < self._scan_ticks:
                return self._adopt(row, swapped=swapped)
            pid = row.ppid
        return False

    def forget(self, pid: int) -> None:
        """This one is condemned: nobody reads it any more."""
        for family in [each for each in self.known if each.row.pid == pid]:
            self._let_go(family)

    def close(self) -> None:
        """Close what is kept."""
        for family in list(self.known):
            self._let_go(family)

    def _adopt(self, row: Row, *, swapped: bool) -> bool:
        try:
            family = self._make(row, swapped=swapped)
        except (*UNREADABLE, UnclearError):
            family = None
        if family is None:
            row.drop()
            self._refused.add(row.pid)
            return False
        self.known.append(family)
        self.known.sort(key=lambda each: (each.row.start_ticks, each.row.pid))
        return True

    def _make(self, row: Row, *, swapped: bool) -> Family | None:
        if row.is_kernel_thread or row.has_dead_leader or self._is_first(row.pid) or not row.read_status(self._proc_fd):
            return None
        row.keep(self._proc_fd)
        if not row.is_kept:
            return None
        kin = count_descendants(self._proc_fd, row.pid, MOST_KIN)
        return Family(row, (*self._read(row, swapped=swapped), sum(kin.values())), kin)

    def _is_first(self, pid: int) -> bool:
        """Whether it is the first of a PID namespace: others than its descendants become its children."""
        fd = os.open(f"{pid}/status", os.O_RDONLY | os.O_CLOEXEC, dir_fd=self._proc_fd)
        try:
            data = os.read(fd, 4096)
        finally:
            os.close(fd)
        numbers = data[data.find(b"\nNSpid:") + 7 :].partition(b"\n")[0].split() if b"\nNSpid:" in data else ()
        return pid == 1 or numbers[-1:] == [b"1"]

    def _begin(self, family: Family, *, scan: bool, swapped: bool) -> bool:
        """Whether it is still there. The descendants are counted before the parent is read: whom it reaps meanwhile
        it had before.
        """
        kin: dict[int, int] | None = None
        try:
            kin = count_descendants(self._proc_fd, family.row.pid, MOST_KIN if scan else MOST_KIN_AT_LOOK)
        except UnclearError:
            if scan:
                return False
        try:
            faulted = None if kin is None else sum(kin.values())
            family.begun = (*self._read(family.row, swapped=swapped), faulted)
        except UNREADABLE:
            return False
        if scan:
            family.kin = frozenset(kin or ())
        return True

    def _read(self, row: Row, *, swapped: bool) -> tuple[int, int]:
        """What it has faulted and taken over, and (in the row) how much it owns. Raises OSError or KernelFormatError
        when it is gone.
        """
        own, reaped, _, ended = parse_faults(os.pread(row.stat_fd, 1024, 0))
        readable = row.reread(self._proc_fd) if swapped else row.reread_size(self._proc_fd, self._page_bytes)
        if ended or not readable:
            raise ProcessLookupError
        return own, reaped

    def _let_go_useless(self) -> None:
        faults = {each: each.faults_since(each.scan, own=True) for each in self.known}
        least = sum(faults.values()) // USEFUL_SHARE
        for family, count in faults.items():
            if count < least:
                self._let_go(family)

    def _let_go(self, family: Family) -> None:
        family.row.drop()
        self.known.remove(family)

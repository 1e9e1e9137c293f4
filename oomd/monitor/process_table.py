"""The process table: a full scan when it begins to matter, kept descriptors for the leaders, and a proof that nobody
else could be chosen.

Two tiers. Of the leaders, the largest that may be taken, stat and status stay open and everything is known. Of
everybody else only the size is read, and the largest of them kept: the rest. As long as rest + growth (oomd.monitor.
bound) stays below the chosen victim, looking at the leaders alone gives the answer of a full scan. New processes are
found by the last pid that /proc/loadavg tells. Where every process counts (a budget that is their sum, a scope that is
less than the machine) every row is kept, but only the leaders' descriptors.

Size is anonymous memory and swap. Shared memory counts where it is a process's own (oomd/monitor/own_shmem.py); the few
that map the most are leaders for that, whatever their size; one beyond them whose own shared memory grew since the last
scan is found by the next.
"""

from __future__ import annotations

from oomd.kernel.pids import PidRange
from oomd.kernel.process import list_pids
from oomd.model.snapshot import MemoryStatus, Snapshot
from oomd.monitor.census import SizeReader, complete, find_moved, read_able, read_rows, read_whole
from oomd.monitor.newcomers import Newcomers
from oomd.monitor.podium import (
    LEADERS,
    MOST_LEADING,
    WORTH_BYTES,
    begin_rises,
    choose_leaders,
    judge_nothing,
    largest_first,
    lead,
    remember,
)
from oomd.monitor.ration import LOOK_US, Ration
from oomd.monitor.rest import Rest
from oomd.monitor.rows import Row, read_row
from oomd.monitor.usage import note_forks, sum_usage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from oomd.kernel.files import KernelFile
    from oomd.kernel.scope import ScopeGuard
    from oomd.monitor.bound import GrowthBound
    from oomd.monitor.census import Sizes
    from oomd.monitor.podium import Podium


class ProcessTable:
    """All processes behind one procfs, as far as the decision needs them."""

    def __init__(
        self,
        proc_fd: int,
        guard: ScopeGuard,
        own_pids: frozenset[int],
        *,
        bound: GrowthBound,
        loadavg: KernelFile | None,
        page_bytes: int,
        account_all: bool = False,
    ) -> None:
        """Without ``loadavg`` (recorded trees may lack it) every look is a full scan. ``account_all`` reads the exact
        size of every process in scope, for a budget that is their sum.
        """
        self._proc_fd = proc_fd
        self._guard = guard
        self.own_pids = own_pids
        """oomd's own processes and their ancestors, never taken."""
        self.own_uid = 0
        """Whose processes the embedded names protect, besides root's."""
        self.last_pids: frozenset[int] = frozenset(guard.roots)
        """Taken last."""
        self.judge: Callable[[Row], str] = judge_nothing
        self.prefers = False
        """What the preferences make of a process (oomd.engine.marks), and whether they name anybody who goes first."""
        self.bound = bound
        self._newcomers = Newcomers(loadavg, pids := PidRange(proc_fd))
        self._page_bytes = page_bytes
        self._account_all = account_all
        self._whole, self._everybody = account_all or not guard.scope.is_machine, False
        """Whether a row of everybody is kept; whether there are such rows although only the leaders' are kept."""
        self.rows: dict[int, Row] = {}
        """The leaders by pid; everybody where everybody counts, or was read just now."""
        self.leaders: list[Row] = []
        """The largest processes that could be taken, largest first as of the last look."""
        self.reader, self._rest = SizeReader(proc_fd, page_bytes, pids), Rest(proc_fd, page_bytes)
        self._condemned: dict[int, int] = {}
        """Killed and not known to be dead: nobody reads them any more. What they last used, by pid."""
        self.ration = Ration()
        """When everybody was read, and what that took."""
        self.scans, self.looked_us, self._read_us, self._noted_us = 0, 0, 0, -1
        """How often everybody was read or sought through; when the leaders' sizes were last read, and all of them."""
        self.sized: list[Row] = []
        """Of whom the last look has read the size only."""

    def scan(self, status: MemoryStatus, clock_us: Callable[[], int]) -> None:
        """Read every process; what vanishes meanwhile is skipped."""
        begin_us = clock_us()
        self.scans += 1
        self.bound.swapped = status.swap_free_bytes < status.swap_total_bytes
        self.bound.begin_scan()
        self.sized = []
        self._newcomers.begin()
        if self._whole:
            self._scan_rows()
        else:
            known = [row for row in self.leaders if row.reread(self._proc_fd)]
            self._scan_sizes({row.pid: row for row in (*known, *self._rest.read_again())})
        self._everybody = False
        self.looked_us = begin_us
        self.note_sizes()
        self.ration.note(begin_us, clock_us())

    def seek(self, status: MemoryStatus, clock_us: Callable[[], int]) -> bool:
        """Right after a look: find out whose the growth was that nobody explains. Everybody is read until it is clear
        that nobody else owns more than the largest; whoever has overtaken the rest leads from now on. Whether it is,
        and the kernel's counters were read after the last of them.
        """
        begin_us = clock_us()
        if self.looked_us == self.ration.read_us:
            return False  # everybody was read just now
        if self._whole:
            self.scan(status, clock_us)
            return False
        self.scans += 1
        led, born = {row.pid: row for row in self.leaders}, self._newcomers.since_scan
        skip = {*led, *self._condemned, *self.own_pids}
        rest, enough, swapped, self._rest.passed_bytes = self._rest, self._is_clear, self.bound.swapped, 0
        read_kept = lambda sizes, asked: rest.seek(sizes, asked, enough, swapped=swapped)  # noqa: E731 - once
        sizes = self.reader.seek(rest.sizes, born, skip, swapped=swapped, enough=enough, read_kept=read_kept)
        if sizes.complete:
            for row in led.values():
                sizes.add(row.pid, row.size_bytes, row.shmem_bytes)
            if self.prefers or len(self.leaders) > MOST_LEADING:
                self._choose_leaders(sizes, led | {row.pid: row for row in rest.read_again()})
            else:
                self._rest.settle(sizes)  # whoever had overtaken them leads already; nobody else's place is another
                begin_rises(self.leaders, self.leaders, self.bound)
            self.bound.scanned()
            self.looked_us = begin_us
            self.note_sizes()
            self.ration.note_sought(begin_us, clock_us())
        self.leaders.sort(key=largest_first)
        return not sizes.complete

    def wants_scan(self, now_us: int) -> bool:
        """Whether the picture is too old, or so much was allocated that the leaders may be others by now."""
        if self.ration.is_due(now_us, sums=self._account_all):
            return True
        if self._account_all or not self.ration.allows(now_us):
            return False
        best = self.leaders[0].size_bytes if self.leaders else 0
        return self.rest_bound_bytes() > (best + self._rest.most_bytes) // 2

    def wants_look(self, now_us: int, fresh_us: int = LOOK_US) -> bool:
        """Whether what is known of the leaders is older than it may be."""
        return now_us - self.looked_us >= fresh_us

    def look(
        self, status: MemoryStatus, clock_us: Callable[[], int], *, sizes_only: bool = False, but_from: int = 0
    ) -> None:
        """Bring the leaders up to date and find newcomers; a full scan where there was none or too much is new. With
        ``sizes_only`` the rest of what is known may be :data:`LOOK_US` old, but of those who own ``but_from``: then
        somebody is about to be chosen, and :meth:`note_sizes` is for afterwards.
        """
        self.bound.swapped = status.swap_free_bytes < status.swap_total_bytes
        if self.ration.scanned_us is None or self.find_newcomers(urgent=but_from > 0) is None:
            self.scan(status, clock_us)
            return
        begin_us = clock_us()
        if self._everybody:
            self.rows = {row.pid: row for row in self.leaders}
            self._everybody = False
        self.bound.begin_look()
        sizes_only = sizes_only and not self.bound.swapped and begin_us - self._read_us < LOOK_US
        if not sizes_only:
            self._read_us = begin_us
        self.sized = []
        for row in list(self.leaders):
            size_only = sizes_only and not 0 < but_from <= row.size_bytes
            if self.reread(row, size_only=size_only):
                row.keep(self._proc_fd)
                if size_only:
                    self.sized.append(row)
                elif not but_from:
                    row.note_statm(self._page_bytes)
        self.bound.end_look()
        self.leaders.sort(key=largest_first)
        self.looked_us = begin_us
        if not but_from:
            self.note_sizes()

    def reread(self, row: Row, *, size_only: bool = False) -> bool:
        """Bring one leader up to date; False when it is gone."""
        if not (row.reread_size(self._proc_fd, self._page_bytes) if size_only else row.reread(self._proc_fd)):
            self.forget(row.pid)
            return False
        if row.rise is not None:
            self.bound.explain(row.rise, row.size_bytes)
        return True

    def verify(self, row: Row) -> bool:
        """Who a leader is, where only its size was read; what it has gained since explains nothing yet."""
        return not row.statm or row.reread(self._proc_fd)

    def find_newcomers(self, *, urgent: bool = False) -> list[Row] | None:
        """Those large enough to be told apart that appeared since the last look. None when that cannot be told, or they
        are too many: a full scan is needed. If nothing is ``urgent`` a parent may become known besides.
        """
        pids = self._newcomers.new_pids()
        if pids is None or len(self.leaders) > 4 * LEADERS:
            self.reader.forget()
            return None
        found = []
        for pid in pids:
            if pid in self.rows or pid in self._condemned or pid in self.own_pids:
                continue
            if (row := self._meet(pid)) is not None:
                found.append(row)
        if not urgent:
            self.bound.find_family(self._newcomers.living)
        return found

    def rest_bound_bytes(self) -> int:
        """The most that any process but the leaders can own by now; UNKNOWN_BYTES and more: that cannot be told."""
        self.bound.measure()
        return self.rest_seen_bytes()

    def rest_seen_bytes(self) -> int:
        """The same as of the last reading of the kernel's counters."""
        return self.bound.most_since_scan_bytes(self._rest.most_bytes)

    def unexamined_bound_bytes(self) -> int:
        """The same of those of whom it is not known that nothing prefers them; after :meth:`rest_bound_bytes`."""
        return self.bound.most_since_scan_bytes(self._rest.unexamined_bytes)

    def most_bytes(self) -> int:
        """The most that the leaders can use together, if they share nothing."""
        return sum(row.size_bytes + row.shmem_bytes for row in self.leaders)

    def usage_bytes(self) -> int:
        """Anonymous memory, shared memory and swap of everything in scope, where everybody counts."""
        rows = (row for row in self.rows.values() if row.pid not in self.own_pids)
        return sum(self._condemned.values()) + sum_usage(rows)

    def read_everybody(self) -> None:
        """Have in :attr:`rows` all that can be known of everybody, until the next look."""
        if not self._whole:
            self.scans += 1
            pids = (pid for pid in list_pids(self._proc_fd) if pid not in self._condemned)
            self.rows = read_rows(self._proc_fd, pids, self.rows, self._page_bytes)
            self._everybody = True
        complete(self._proc_fd, self.rows.values())

    def snapshot(self, status: MemoryStatus, now_us: int, *, everybody: bool = False) -> Snapshot:
        """The leaders as values; with ``everybody`` all that :meth:`read_everybody` has found."""
        rows = sorted(self.rows.values(), key=largest_first) if everybody else self.leaders
        return Snapshot(
            status=status,
            processes=tuple(row.value(now_us) for row in rows),
            own_pids=self.own_pids,
            own_uid=self.own_uid,
            tree_roots=self.last_pids,
            complete=everybody,
        )

    def note_cgroups(self, pids: Iterable[int]) -> bool:
        """Read again in which cgroup these are. Whether one of them was moved."""
        return bool(find_moved(self._proc_fd, (self.rows[pid] for pid in pids if pid in self.rows)))

    def forget(self, pid: int) -> None:
        """Drop what is kept of a process that is condemned or gone."""
        self._rest.forget(pid)
        row = self.rows.pop(pid, None)
        if row is not None:
            row.drop()
            if row in self.leaders:
                self.leaders.remove(row)

    def condemn(self, pid: int) -> None:
        """Stop reading a process that was killed; what it used counts until :meth:`bury`."""
        if pid in self._condemned:
            return
        row = self.rows.get(pid)
        self._condemned[pid] = row.private_estimate_bytes() if row is not None and row.exact else 0
        self.forget(pid)
        self.bound.forget(pid)

    def bury(self, pid: int) -> None:
        """It is dead, or given up."""
        self._condemned.pop(pid, None)

    def close(self) -> None:
        """Close every kept descriptor."""
        self._newcomers.close()
        self.bound.close()
        self._rest.close()
        for row in self.rows.values():
            row.drop()

    def _scan_sizes(self, known: dict[int, Row]) -> None:
        """Sizes of everybody, rows of the leaders; ``known`` was read just now."""
        sizes = self.reader.read({*known, *self._condemned, *self.own_pids}, swapped=self.bound.swapped)
        for row in known.values():
            sizes.add(row.pid, row.size_bytes, row.shmem_bytes)
        self._choose_leaders(sizes, known)

    def _choose_leaders(self, sizes: Sizes, known: dict[int, Row]) -> None:
        """Who leads by these sizes of everybody."""
        again = self.ration.scanned_us is not None
        former, self._rest.sizes = self._rest.sizes, sizes
        known |= self.rows
        podium = choose_leaders(sizes, lambda pid: self._admit(pid, known.get(pid)), self.judge)
        before = former.of({row.pid for row in podium.leaders})
        self.rows = {row.pid: row for row in podium.leaders}
        note_forks(self.rows, self.rows.keys() - before.keys() if again else ())
        self._crown(podium, before)
        self._rest.keep(self.rows, lambda pid: self._admit(pid, known.get(pid)))

    def _is_clear(self, pid: int, size_bytes: int) -> bool:
        """Whether this one, just read, explains what was open; he leads then, or with those who do so together."""
        if size_bytes <= max(self._rest.most_bytes, WORTH_BYTES) or len(self.leaders) > MOST_LEADING:
            self._rest.pass_by(size_bytes)
            return False
        row = self._admit(pid, self._rest.take(pid))
        if row is None:
            return False
        former_bytes = self._rest.sizes.of((pid,)).get(pid, row.size_bytes)
        row.history.begin(self.ration.read_us or 0, former_bytes, 0)
        self.rows[pid] = row  # the next look keeps it
        lead(row, self.leaders, former_bytes, self.bound)
        if row.rise is not None:
            self.bound.explain(row.rise, row.size_bytes)
        best = max(each.size_bytes for each in self.leaders)
        return self.rest_seen_bytes() <= best and self.rest_bound_bytes() <= best

    def _scan_rows(self) -> None:
        """Rows of everybody."""
        known, former = self.rows, self._rest.sizes
        self.rows, self._rest.sizes = read_whole(
            self._proc_fd, known, self._condemned, self._guard, page_bytes=self._page_bytes
        )
        note_forks(self.rows, self.rows.keys() - known.keys() if known else ())
        podium = choose_leaders(self._rest.sizes, lambda pid: self._admit(pid, self.rows.get(pid)), self.judge)
        self._crown(podium, former.of(self.rows))

    def _admit(self, pid: int, row: Row | None = None) -> Row | None:
        """The row of one that could lead; None for those that never do."""
        return None if pid in self.own_pids else read_able(self._proc_fd, pid, row, self._page_bytes)

    def _crown(self, podium: Podium, before: dict[int, int]) -> None:
        """These lead from now on. ``before``: the sizes of the scan before, which tell who has grown."""
        former, self.leaders = self.leaders, podium.leaders
        self._rest.stand_behind(podium)
        for row in former:
            if row not in podium.leaders:
                row.drop()
        self.leaders.sort(key=largest_first)
        if self.ration.read_us is not None:
            remember(self.rows.values(), before, self.ration.read_us)
        for row in self.leaders:
            row.keep(self._proc_fd)
            row.note_statm(self._page_bytes)
        begin_rises(self.leaders, former, self.bound)

    def _meet(self, pid: int) -> Row | None:
        """A pid that was not there before. None for threads, and for those that are small: they join the rest."""
        self.reader.forget(pid)
        if not self._whole:
            size = self.reader.read_one(pid, swapped=self.bound.swapped)
            if size is None:
                self._newcomers.miss(pid)
                return None
            if size <= max(self._rest.most_bytes, WORTH_BYTES):
                self._newcomers.living = pid
                self._rest.join(size)
                return None
        row = read_row(self._proc_fd, pid, self._page_bytes)
        if row is None or not row.read_status(self._proc_fd):
            self._newcomers.miss(pid)
            return None
        self._guard.note_member(row)
        row.read_details(self._proc_fd)
        row.out_of_scope = self._guard.why_outside(row.pid, row.start_ticks, row.uid)
        self._rest.forget(pid)
        self.rows[row.pid] = row
        note_forks(self.rows, (row.pid,))
        row.history.begin(self.looked_us, 0, 0)
        if row.out_of_scope or not row.size_bytes:
            return None
        lead(row, self.leaders, row.size_bytes, self.bound)
        return row

    def note_sizes(self) -> None:
        """Remember the leaders' sizes as of the last look: who grew is asked when memory is short."""
        if self._noted_us != self.looked_us:
            self._noted_us = self.looked_us
            for row in self.leaders:
                row.note_size(self.looked_us)

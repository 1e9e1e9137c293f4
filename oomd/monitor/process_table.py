"""The process table: a full scan when it begins to matter, kept descriptors for the leaders, and a proof that nobody
else could be chosen.

Between two scans no process can have grown by more than g = min(ΔA, ΔF) pages, where A counts pages allocated
(pgalloc_* of /proc/vmstat) and
F page faults (huge ones as 512). Growth that re-read leaders explain comes off g. So while (largest of the rest) + g
stays below the chosen
victim, looking at the leaders alone gives the answer of a full scan. New processes are found by the last pid that
/proc/loadavg tells.

Size is anonymous memory and swap. Shared memory counts where it is a process's own (oomd/monitor/own_shmem.py); the few
that map the most are leaders for that, whatever their size; one beyond them whose own shared memory grew since the last
scan is found by the next.
"""

from __future__ import annotations

from oomd.kernel.loadavg import parse_last_pid
from oomd.kernel.process import list_pids
from oomd.kernel.vmstat import growth_pages, parse_vmstat
from oomd.model.snapshot import MemoryStatus, Snapshot
from oomd.monitor.own_shmem import WORTH_BYTES as SHMEM_BYTES
from oomd.monitor.rows import Row, read_row
from oomd.monitor.usage import note_fork, sum_usage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from oomd.kernel.files import KernelFile
    from oomd.kernel.scope import ScopeGuard
    from oomd.kernel.vmstat import Vmstat

LEADERS = 48
"""Processes with kept descriptors: 6 KiB of kernel memory for each of two files, 0.6 MiB in all."""

SHARERS = 4
"""Beside them those with the most shared memory, which may be their own."""

MOST_NEW_PIDS = 2000
"""More new pids than this since the last look are read faster by listing /proc."""

STAT_SLACK_BYTES = 4 << 20
"""Field 24 of stat is counted in per-CPU batches and may lie by some hundred pages; status is exact."""

REFRESH_US = 5_000_000
"""A scan older than this is refreshed while memory is short."""

BUDGET_REFRESH_US = 1_000_000
"""The same where the sum of all is what counts."""

LOOK_US = 1_000_000
"""How often the leaders are looked at while memory is short, for the sake of their growth alone."""

WORTH_BYTES = 1 << 20
"""Below this nobody's growth matters."""

OVERHEAD = 20
"""Scanning takes at most one part in so many of the time while memory is short."""


class ProcessTable:
    """All processes behind one procfs, as far as the decision needs them."""

    def __init__(
        self,
        proc_fd: int,
        guard: ScopeGuard,
        own_pids: frozenset[int],
        *,
        vmstat: KernelFile | None,
        loadavg: KernelFile | None,
        page_bytes: int,
        fault_pages: int = 1,
        account_all: bool = False,
    ) -> None:
        """Without ``vmstat`` or ``loadavg`` (recorded trees may lack them) every look is a full scan. ``fault_pages``:
        the most pages that one fault may bring (kernel/vmstat.py). ``account_all`` reads the exact size of every
        process in scope, for a budget that is their sum.
        """
        self._proc_fd = proc_fd
        self._guard = guard
        self.own_pids = own_pids
        """oomd's own processes and their ancestors, never taken."""
        self.own_uid = 0
        """Whose processes the embedded names protect, besides root's."""
        self.last_pids: frozenset[int] = frozenset(guard.roots)
        """Taken last."""
        self._vmstat = vmstat
        self._loadavg = loadavg
        self._page_bytes = page_bytes
        self._fault_pages = fault_pages
        self._account_all = account_all
        self._rows: dict[int, Row] = {}
        self._leaders: list[Row] = []
        self._condemned: dict[int, int] = {}
        """Killed and not known to be dead: nobody reads them any more. What they last used, by pid."""
        self._rest_bytes = 0
        self._base: Vmstat | None = None
        self._last_pid = 0
        self._scanned_us: int | None = None
        self._looked_us = 0
        self._scan_cost_us = 0
        self._explained_bytes = 0

    @property
    def leaders(self) -> list[Row]:
        """The largest processes that could be taken, largest first as of the last scan."""
        return self._leaders

    @property
    def rows(self) -> dict[int, Row]:
        """Every process of the last scan and those found since, by pid."""
        return self._rows

    @property
    def scan_cost_us(self) -> int:
        """How long the last scan took."""
        return self._scan_cost_us

    def scan(self, status: MemoryStatus, clock_us: Callable[[], int]) -> None:
        """Read every process; what vanishes meanwhile is skipped."""
        begin_us = clock_us()
        self._base = None if self._vmstat is None else parse_vmstat(self._vmstat.read())
        self._last_pid = 0 if self._loadavg is None else parse_last_pid(self._loadavg.read())
        known, self._rows = self._rows, {}
        for pid in list_pids(self._proc_fd):
            row = None if pid in self._condemned else self._fresh_row(pid, known)
            if row is not None:
                self._rows[pid] = row
        for row in known.values():
            if self._rows.get(row.pid) is not row:
                row.drop()
        self._guard.note_members(self._rows)
        swapping = status.swap_free_bytes < status.swap_total_bytes
        self._measure(everyone=swapping or self._account_all or not self._guard.scope.is_machine)
        if known:
            for pid in self._rows.keys() - known.keys():
                note_fork(self._rows[pid], self._rows.get(self._rows[pid].ppid))
        self._choose_leaders(self._scanned_us)
        self._scanned_us = begin_us
        self._note_sizes(begin_us)
        self._explained_bytes = 0
        self._scan_cost_us = clock_us() - begin_us

    def wants_scan(self, now_us: int) -> bool:
        """Whether the picture is too old, or so much was allocated that the leaders may be others by now."""
        if self._scanned_us is None:
            return True
        age = now_us - self._scanned_us
        if age < OVERHEAD * self._scan_cost_us:
            return False
        best = self._leaders[0].size_bytes if self._leaders else 0
        return (
            age >= (BUDGET_REFRESH_US if self._account_all else REFRESH_US)
            or self.rest_bound_bytes() > (best + self._rest_bytes) // 2
        )

    def wants_look(self, now_us: int) -> bool:
        """Whether the leaders' sizes are worth another place in their past."""
        return now_us - self._looked_us >= LOOK_US

    def look(self, status: MemoryStatus, clock_us: Callable[[], int]) -> None:
        """Bring the leaders up to date and find newcomers; a full scan where there was none or too much is new."""
        if self._scanned_us is None or not self._find_newcomers():
            self.scan(status, clock_us)
            return
        explained = 0
        for row in list(self._leaders):
            if row.reread(self._proc_fd):
                explained += max(0, row.size_bytes - row.base_size_bytes)
            else:
                self.forget(row.pid)
        self._explained_bytes = explained
        self._leaders.sort(key=_by_size)
        self._note_sizes(clock_us())

    def _note_sizes(self, now_us: int) -> None:
        """Remember the leaders' sizes: who grew is asked when memory is short."""
        self._looked_us = now_us
        for row in self._leaders:
            row.note_size(now_us)

    def rest_bound_bytes(self) -> int:
        """The most that any process other than the leaders can own by now; infinite (the largest int) where that cannot
        be told.
        """
        if self._base is None or self._vmstat is None or not self._base.pgalloc:
            return 1 << 62
        now = parse_vmstat(self._vmstat.read())
        grown = growth_pages(self._base, now, fault_pages=self._fault_pages) * self._page_bytes
        return self._rest_bytes + max(0, grown - self._explained_bytes)

    def most_bytes(self) -> int:
        """The most that the leaders can use together, if they share nothing."""
        return sum(row.size_bytes + row.shmem_bytes for row in self._leaders)

    def usage_bytes(self) -> int:
        """Anonymous memory, shared memory and swap of everything in scope."""
        return sum(self._condemned.values()) + sum_usage(
            row
            for row in self._rows.values()
            if row.exact and not row.out_of_scope and row.pid not in self.own_pids and not row.is_kernel_thread
        )

    def snapshot(self, status: MemoryStatus, now_us: int, *, everybody: bool = False) -> Snapshot:
        """The leaders (or everybody) as values."""
        rows = sorted(self._rows.values(), key=_by_size) if everybody else self._leaders
        for row in rows if everybody else ():
            if row.is_kernel_thread:
                continue
            if not row.exact:
                row.read_status(self._proc_fd)
            if not row.detailed:
                row.read_details(self._proc_fd)
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
        moved = False
        for pid in pids:
            row = self._rows.get(pid)
            if row is not None:
                before = row.cgroup
                row.read_details(self._proc_fd)
                moved = moved or row.cgroup != before
        return moved

    def forget(self, pid: int) -> None:
        """Drop what is kept of a process that is condemned or gone."""
        row = self._rows.pop(pid, None)
        if row is not None:
            row.drop()
            if row in self._leaders:
                self._leaders.remove(row)

    def condemn(self, pid: int) -> None:
        """Stop reading a process that was killed; what it used counts until :meth:`bury`."""
        if pid in self._condemned:
            return
        row = self._rows.get(pid)
        self._condemned[pid] = row.private_estimate_bytes() if row is not None and row.exact else 0
        self.forget(pid)

    def bury(self, pid: int) -> None:
        """It is dead, or given up."""
        self._condemned.pop(pid, None)

    def close(self) -> None:
        """Close every kept descriptor."""
        for row in self._rows.values():
            row.drop()

    def _fresh_row(self, pid: int, known: dict[int, Row]) -> Row | None:
        row = read_row(self._proc_fd, pid, self._page_bytes)
        if row is None:
            return None
        old = known.get(pid)
        if old is None or old.start_ticks != row.start_ticks:
            return row
        old.update_from(row)
        return old

    def _measure(self, *, everyone: bool) -> None:
        """Read the exact sizes: of everyone, or only as far down by resident size as a leader could stand."""
        exact: list[int] = []
        for row in sorted(self._rows.values(), key=_by_rss):
            hidden = row.has_dead_leader
            if row.is_kernel_thread or (row.state == "Z" and not hidden):
                continue
            full = len(exact) >= LEADERS and row.rss_bytes + STAT_SLACK_BYTES < min(exact)
            if full and not everyone and not hidden:
                continue
            if row.read_status(self._proc_fd):
                exact.append(row.size_bytes)
                exact.sort(reverse=True)
                del exact[LEADERS:]

    def _choose_leaders(self, before_us: int | None) -> None:
        """``before_us``: when the scan before this one was made."""
        former = self._leaders
        if not self._guard.scope.is_machine:
            for row in self._rows.values():
                row.out_of_scope = self._guard.why_outside(row.pid, row.start_ticks, row.uid if row.exact else None)
        able = self._able(before_us)
        self._leaders, self._rest_bytes = [], 0
        for row in able:
            if len(self._leaders) >= LEADERS:
                self._rest_bytes = row.size_bytes
                break
            self._lead(row)
        sharers = [row for row in self._rows.values() if row.shmem_bytes >= SHMEM_BYTES and row not in self._leaders]
        most = len(self._leaders) + SHARERS
        for row in sorted(sharers, key=lambda row: -row.shmem_bytes):
            if len(self._leaders) < most:
                self._lead(row)
        for row in former:
            if row not in self._leaders:
                row.drop()

    def _lead(self, row: Row) -> None:
        """One of the leaders, if it may be taken at all."""
        if row.pid in self.own_pids or row.out_of_scope or not (row.exact or row.read_status(self._proc_fd)):
            return
        row.read_details(self._proc_fd)
        row.keep(self._proc_fd)
        self._leaders.append(row)

    def _able(self, before_us: int | None) -> list[Row]:
        """Every process that owns memory, largest first, with its size as the base of its growth from now on."""
        able = []
        for row in sorted(self._rows.values(), key=_by_size):
            before_bytes, row.base_size_bytes = row.base_size_bytes, row.size_bytes
            if before_us is not None and not row.history and row.size_bytes >= WORTH_BYTES:
                # 0 for those that are new: all that they have has grown.
                row.history.append((before_us, before_bytes, row.shmem_bytes if before_bytes else 0))
            if not row.is_kernel_thread and row.size_bytes:
                able.append(row)
        return able

    def _find_newcomers(self) -> bool:
        """Rows for pids handed out since the last look. False when there are too many, or the counter wrapped: scan
        instead.
        """
        if self._loadavg is None:
            return False
        last = parse_last_pid(self._loadavg.read())
        if last < self._last_pid or last - self._last_pid > MOST_NEW_PIDS or len(self._leaders) > 4 * LEADERS:
            return False
        for pid in range(self._last_pid + 1, last + 1):
            row = (
                None if pid in self._rows or pid in self._condemned else read_row(self._proc_fd, pid, self._page_bytes)
            )
            if row is not None and row.read_status(self._proc_fd):
                self._add_newcomer(row)
        self._last_pid = last
        return True

    def _add_newcomer(self, row: Row) -> None:
        self._guard.note_member(row)
        row.read_details(self._proc_fd)
        row.out_of_scope = self._guard.why_outside(row.pid, row.start_ticks, row.uid)
        note_fork(row, self._rows.get(row.ppid))
        self._rows[row.pid] = row
        row.history.append((self._looked_us, 0, 0))
        if not row.out_of_scope and row.pid not in self.own_pids and row.size_bytes:
            row.base_size_bytes = row.size_bytes  # a fork gives a size without allocating: only later growth explains
            self._leaders.append(row)


def _by_size(row: Row) -> tuple[int, int]:
    return -row.size_bytes, row.pid


def _by_rss(row: Row) -> tuple[int, int]:
    return -row.rss_bytes, row.pid

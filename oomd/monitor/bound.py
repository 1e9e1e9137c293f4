"""How much anybody can have grown who was not looked at: the bound that makes a look at a few as good as a scan of all.

Between two readings of /proc/vmstat no process gains more than g anonymous pages (oomd.kernel.vmstat.Growth). What
those who *were* read again have gained is theirs, so it comes off g. Counted is anonymous memory and swap together:
swapping in allocates pages, but moves the sum by nothing.

Where processes fork much there is a second bound beside this one, and the lower counts: the faults alone, without those
of parents and of their dead children (oomd.monitor.families), and without what those leaders have gained who are not
among these: they never can be, or live still.

Not covered, and what covers it instead:

- fork gives a child its parent's size without allocating: new pids are probed at every look (oomd.monitor.newcomers);
- pids that were set out of order (clone3 with set_tid) and what another PID namespace's procfs does not count: the
  periodic scan;
- folio sizes between one page and a huge page (mTHP) bring several pages by one fault: the largest that is switched
  on counts for every fault, as of the last scan;
- a main thread that has ended while others live shows no memory: the scan asks its threads, and leaders are asked
  again;
- two processes with one memory map gain once what both show: one of them explains nothing (where kcmp is permitted);
- a parent, or a child that has died, that had written by ptrace(2), process_vm_writev(2) or /proc/PID/mem to untouched
  memory of another process, faulted there and is told as its own: the periodic scan;
- so is one that was made with CLONE_VM, is no thread and executed nothing, while another lives on with its memory map
  (after vfork(2) it is the parent that reaps): the periodic scan;
- userfaultfd(2) fills memory without a fault: pgalloc alone counts that, so it is not bound: the periodic scan.
"""

from __future__ import annotations

import os

from oomd.kernel.vmstat import PLACES, parse_growth

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from oomd.kernel.files import KernelFile
    from oomd.kernel.vmstat import Growth
    from oomd.monitor.families import Families
    from oomd.monitor.rows import Row

UNKNOWN_BYTES = 1 << 62
"""Where nothing can be told."""
UNEXPLAINED_BYTES = 8 << 20
"""From here on it is worth knowing whose it is."""


class Rise:
    """What one process is known to have gained, from readings of its size that may be off by ``slack``.

    A process that shrinks and grows again has allocated again: each rise counts, less the slack; what sways within the
    slack is none.
    """

    __slots__ = ("_counted_bytes", "_low_bytes", "_peak_bytes", "apart", "since_look_bytes", "since_scan_bytes")

    def __init__(self, size_bytes: int) -> None:
        self.apart = False
        """Whether no family can ever count its faults too."""
        self.since_scan_bytes = self.since_look_bytes = 0
        """What it has explained otherwise."""
        self._low_bytes = self._peak_bytes = size_bytes
        self._counted_bytes = 0

    def note(self, size_bytes: int, slack_bytes: int) -> int:
        """Another reading. What it proves that was not proved before, in bytes."""
        if size_bytes < self._peak_bytes - slack_bytes:
            self._low_bytes = self._peak_bytes = size_bytes
            self._counted_bytes = 0
            return 0
        self._low_bytes = min(self._low_bytes, size_bytes)
        self._peak_bytes = max(self._peak_bytes, size_bytes)
        proved = max(0, self._peak_bytes - self._low_bytes - slack_bytes)
        news = max(0, proved - self._counted_bytes)
        self._counted_bytes += news
        return news


def _is_there(row: Row) -> bool:
    """Whether nobody has reaped this leader."""
    try:
        return bool(os.pread(row.statm_fd, 1, 0))
    except OSError:
        return False


class GrowthBound:
    """g since the last scan and since the last look, less what was explained since then."""

    def __init__(
        self,
        vmstat: KernelFile | None,
        page_bytes: int,
        read_fault_pages: Callable[[], int] = lambda: 1,
        slack_bytes: int = 0,
        families: Families | None = None,
    ) -> None:
        """Without ``vmstat`` (recorded trees may lack it) nothing is bound. ``read_fault_pages``: the most pages that
        one fault may bring (kernel/vmstat.py). ``slack_bytes``: by how much two readings of a size may differ without
        growth (kernel/features.py). ``families``: where those are to be known.
        """
        self.families = families
        self.leaders: list[Row] = []
        """Who leads: the table's own list."""
        self.swapped = False
        """Whether anything may lie in swap, which not all files show."""
        self._vmstat = vmstat
        self._page_bytes = page_bytes
        self._read_fault_pages = read_fault_pages
        self._fault_pages = 1
        self._places = dict(PLACES)
        self.slack_bytes = slack_bytes
        self._scan: Growth | None = None
        self._look: Growth | None = None
        self._begun: Growth | None = None
        self._now: Growth | None = None
        self._explained_since_scan = self._apart_since_scan = 0
        self._explained_since_look = self._apart_since_look = 0
        self._alive: list[Rise] = []
        """Of those leaders that a family may count: who was still there after all families were read."""

    def begin_scan(self) -> None:
        """Before everybody is read: all growth counts from here."""
        self._fault_pages = self._read_fault_pages()
        self._begun = self._read()
        if self.families is not None:
            self.families.begin(scan=True, swapped=self.swapped)
        self.scanned()

    def scanned(self) -> None:
        """Everybody was read since :meth:`begin_scan` or :meth:`begin_look`: all growth counts from there."""
        self._scan = self._look = self._now = self._begun
        self._explained_since_scan = self._explained_since_look = 0
        self._apart_since_scan = self._apart_since_look = 0
        self._alive = []
        if self.families is not None:
            self.families.scanned()

    def begin_look(self) -> None:
        """Before the leaders are read."""
        self._read_families()
        self._begun = self._read()
        if self.families is not None:
            self.families.begin(scan=False, swapped=self.swapped)

    def end_look(self) -> None:
        """After it: theirs counts from its beginning, and what the look itself has explained lay before that."""
        self._look = self._now = self._begun
        self._explained_since_look = self._apart_since_look = 0
        if self.families is not None:
            self.families.looked()
        for row in self.leaders:
            if row.rise is not None:
                row.rise.since_look_bytes = 0

    def tell_apart(self, rows: Iterable[Row]) -> None:
        """Of these leaders: whose growth no family can ever count too."""
        for row in rows:
            if row.rise is not None:
                row.rise.apart = self.families is not None and self.families.is_apart(row)

    def find_family(self, newcomer: int) -> None:
        """Of this newcomer (0: there is none), if much was allocated by nobody knows whom."""
        families = self.families
        if not newcomer or families is None or self.most_since_scan_bytes(0) < UNEXPLAINED_BYTES:
            return
        if families.find(newcomer, swapped=self.swapped):
            self.tell_apart([row for row in self.leaders if row.rise is not None and row.rise.apart])

    def forget(self, pid: int) -> None:
        """This process is condemned: nobody reads it any more."""
        if self.families is not None:
            self.families.forget(pid)

    def close(self) -> None:
        """Let go of the families."""
        if self.families is not None:
            self.families.close()

    def explain(self, rise: Rise, size_bytes: int) -> None:
        """A process was read again: its growth is nobody else's."""
        news = rise.note(size_bytes, self.slack_bytes)
        self._explained_since_scan += news
        self._explained_since_look += news
        if rise.apart:
            self._apart_since_scan += news
            self._apart_since_look += news
        else:
            rise.since_scan_bytes += news
            rise.since_look_bytes += news
            if rise.since_scan_bytes and rise not in self._alive:
                self._alive.append(rise)

    def measure(self) -> None:
        """After the last of those that explain growth was read: what they gained since must be in g."""
        self._read_families()
        if self.families is not None and self.families.known:
            for row in self.leaders:
                if row.rise is not None and row.rise.since_scan_bytes and _is_there(row):
                    self._alive.append(row.rise)
        self._now = self._read()

    def since_scan_bytes(self) -> int:
        """How much anybody can have gained who was not read since the last scan."""
        return self._since(self._scan, self._explained_since_scan)

    def most_since_scan_bytes(self, owned_bytes: int) -> int:
        """The most that anybody owns who was not read since the last scan, and owned no more than this then."""
        most = owned_bytes + self.since_scan_bytes()
        families, scan, now = self.families, self._scan, self._now
        if families is None or not families.known or scan is None or now is None:
            return most
        leading = [row.pid for row in self.leaders]
        explained = self._apart_since_scan + sum(rise.since_scan_bytes for rise in self._alive)
        faulted = self._faulted(scan, now, families.since_scan(leading), explained)
        parent_bytes = families.largest_bytes(leading) + self.slack_bytes
        return min(most, max(owned_bytes, parent_bytes) + faulted)

    def since_look_bytes(self) -> int:
        """How much any of those can have gained who were read at the last look, whose readings may be off."""
        gained = self._since(self._look, self._explained_since_look)
        families, look, now = self.families, self._look, self._now
        if families is not None and families.known and look is not None and now is not None:
            known = families.since_look([row.pid for row in self.leaders])
            explained = self._apart_since_look + sum(rise.since_look_bytes for rise in self._alive)
            gained = min(gained, self._faulted(look, now, known, explained))
        return gained + self.slack_bytes

    def _read_families(self) -> None:
        """Before the machine's counters, so that all they have faulted is in these."""
        self._alive = []
        if self.families is not None:
            self.families.read(swapped=self.swapped)

    def _faulted(self, earlier: Growth, now: Growth, family_faults: int, explained_bytes: int) -> int:
        """What can have been gained by faults that are nobody's we know."""
        pages = now.faulted_pages - earlier.faulted_pages - family_faults * self._fault_pages
        return max(0, pages * self._page_bytes - explained_bytes)

    def _since(self, earlier: Growth | None, explained_bytes: int) -> int:
        if earlier is None or self._now is None:
            return UNKNOWN_BYTES
        return max(0, self._now.pages_since(earlier) * self._page_bytes - explained_bytes)

    def _read(self) -> Growth | None:
        if self._vmstat is None:
            return None
        return parse_growth(self._vmstat.read(), fault_pages=self._fault_pages, places=self._places)

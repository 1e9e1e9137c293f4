"""How much anybody can have grown who was not looked at: the bound that makes a look at a few as good as a scan of all.

Between two readings of /proc/vmstat no process gains more than g anonymous pages (oomd.kernel.vmstat.Growth). What
those who *were* read again have gained is theirs, so it comes off g. Counted is anonymous memory and swap together:
swapping in allocates pages, but moves the sum by nothing.

Not covered, and what covers it instead:

- fork gives a child its parent's size without allocating: new pids are probed at every look (oomd.monitor.newcomers);
- pids that were set out of order (clone3 with set_tid) and what another PID namespace's procfs does not count: the
  periodic scan;
- folio sizes between one page and a huge page (mTHP) bring several pages by one fault: the largest that is switched
  on counts for every fault, as of the last scan;
- a main thread that has ended while others live shows no memory: the scan asks its threads, and leaders are asked
  again;
- two processes with one memory map gain once what both show: one of them explains nothing (where kcmp is permitted).
"""

from __future__ import annotations

from oomd.kernel.vmstat import parse_growth

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from oomd.kernel.files import KernelFile
    from oomd.kernel.vmstat import Growth

UNKNOWN_BYTES = 1 << 62
"""Where nothing can be told."""


class Rise:
    """What one process is known to have gained, from readings of its size that may be off by ``slack``.

    A process that shrinks and grows again has allocated again: each rise counts, less the slack; what sways within the
    slack is none.
    """

    __slots__ = ("_counted_bytes", "_low_bytes", "_peak_bytes")

    def __init__(self, size_bytes: int) -> None:
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


class GrowthBound:
    """g since the last scan and since the last look, less what was explained since then."""

    def __init__(
        self,
        vmstat: KernelFile | None,
        page_bytes: int,
        read_fault_pages: Callable[[], int] = lambda: 1,
        slack_bytes: int = 0,
    ) -> None:
        """Without ``vmstat`` (recorded trees may lack it) nothing is bound. ``read_fault_pages``: the most pages that
        one fault may bring (kernel/vmstat.py). ``slack_bytes``: by how much two readings of a size may differ without
        growth (kernel/features.py).
        """
        self._vmstat = vmstat
        self._page_bytes = page_bytes
        self._read_fault_pages = read_fault_pages
        self._fault_pages = 1
        self.slack_bytes = slack_bytes
        self._scan: Growth | None = None
        self._look: Growth | None = None
        self._begun: Growth | None = None
        self._now: Growth | None = None
        self._explained_since_scan = 0
        self._explained_since_look = 0

    def begin_scan(self) -> None:
        """Before everybody is read: all growth counts from here."""
        self._fault_pages = self._read_fault_pages()
        self._begun = self._read()
        self.scanned()

    def scanned(self) -> None:
        """Everybody was read since :meth:`begin_scan` or :meth:`begin_look`: all growth counts from there."""
        self._scan = self._look = self._now = self._begun
        self._explained_since_scan = self._explained_since_look = 0

    def begin_look(self) -> None:
        """Before the leaders are read."""
        self._begun = self._read()

    def end_look(self) -> None:
        """After it: theirs counts from its beginning, and what the look itself has explained lay before that."""
        self._look = self._now = self._begun
        self._explained_since_look = 0

    def explain(self, rise: Rise, size_bytes: int) -> None:
        """A process was read again: its growth is nobody else's."""
        news = rise.note(size_bytes, self.slack_bytes)
        self._explained_since_scan += news
        self._explained_since_look += news

    def measure(self) -> None:
        """After the last of those that explain growth was read: what they gained since must be in g."""
        self._now = self._read()

    def since_scan_bytes(self) -> int:
        """How much anybody can have gained who was not read since the last scan."""
        return self._since(self._scan, self._explained_since_scan)

    def since_look_bytes(self) -> int:
        """The same of those who were read at the last look, whose readings may be off."""
        return self._since(self._look, self._explained_since_look) + self.slack_bytes

    def _since(self, earlier: Growth | None, explained_bytes: int) -> int:
        if earlier is None or self._now is None:
            return UNKNOWN_BYTES
        return max(0, self._now.pages_since(earlier) * self._page_bytes - explained_bytes)

    def _read(self) -> Growth | None:
        return None if self._vmstat is None else parse_growth(self._vmstat.read(), fault_pages=self._fault_pages)

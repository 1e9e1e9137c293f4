"""Processes that appeared since the last look: the pids that were handed out meanwhile, which /proc/loadavg tells for
the PID namespace of its procfs. Thread ids are handed out from the same range, and have folders too.
"""

from __future__ import annotations

from oomd.kernel.loadavg import parse_last_pid

TYPE_CHECKING = False
if TYPE_CHECKING:
    from oomd.kernel.files import KernelFile

MOST_NEW_PIDS = 2000
"""More new pids than this since the last look are read faster by listing /proc."""


class Newcomers:
    """Remembers the last pid."""

    def __init__(self, loadavg: KernelFile | None) -> None:
        """Without ``loadavg`` (recorded trees may lack it) nobody can tell."""
        self._loadavg = loadavg
        self._last_pid = 0

    def begin(self) -> None:
        """Everybody is read now: newcomers come from here on."""
        self._last_pid = 0 if self._loadavg is None else parse_last_pid(self._loadavg.read())

    def new_pids(self) -> range | None:
        """Those handed out since the last call. None when there are too many, or the counter wrapped, or there is
        none: everybody is to be read.
        """
        if self._loadavg is None:
            return None
        last = parse_last_pid(self._loadavg.read())
        first = self._last_pid + 1
        if last + 1 < first or last - first >= MOST_NEW_PIDS:
            return None
        self._last_pid = last
        return range(first, last + 1)

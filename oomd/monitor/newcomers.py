"""Processes that appeared since the last look: the pids that were handed out meanwhile, which /proc/loadavg tells for
the PID namespace of its procfs. Thread ids are handed out from the same range, and have folders too.

A pid is handed out a moment before its process can be seen (copy_process() of kernel/fork.c does much in between, and
may lose its CPU there), so whoever is not there yet is looked for once more at the next look. Where there are
more than a few, procfs is asked which of them there are, so that those that have ended already cost nothing.
"""

from __future__ import annotations

from oomd.kernel.loadavg import parse_last_pid

TYPE_CHECKING = False
if TYPE_CHECKING:
    from oomd.kernel.files import KernelFile
    from oomd.kernel.pids import PidRange

MOST_NEW_PIDS = 2000
"""More new pids than this since the last look are read faster by listing /proc."""
HALF_BORN = 8
"""So many of the pids that were handed out last before everybody was read may have been missed by that."""


FEW = 4
"""So many are asked for one by one."""


class Newcomers:
    """Remembers the last pid."""

    def __init__(self, loadavg: KernelFile | None, pids: PidRange | None = None) -> None:
        """Without ``loadavg`` (recorded trees may lack it) nobody can tell. ``pids``: who there is."""
        self._loadavg = loadavg
        self._pids = pids if pids is not None and pids.can_tell else None
        self._last_pid = self._first_pid = self._scanned_pid = 0
        self._again: list[int] = []
        self.living = 0
        """One that was there at the last call; 0 where none was."""

    def begin(self) -> None:
        """Everybody is read now: newcomers come from here on."""
        if self._loadavg is not None:
            self._last_pid = self._scanned_pid = parse_last_pid(self._loadavg.read())
            self._again = [*range(max(1, self._last_pid - HALF_BORN + 1), self._last_pid + 1)]

    @property
    def since_scan(self) -> range:
        """The pids that were handed out since :meth:`begin`, as of the last call."""
        return range(self._scanned_pid + 1, self._last_pid + 1)

    def new_pids(self) -> list[int] | None:
        """Those handed out since the last call, after those that are looked for once more. None when there are too
        many, or the counter wrapped, or there is none: everybody is to be read.
        """
        if self._loadavg is None:
            return None
        last = parse_last_pid(self._loadavg.read())
        first = self._last_pid + 1
        if last + 1 < first or last - first >= MOST_NEW_PIDS:
            return None
        self._last_pid, self._first_pid, self.living = last, first, 0
        pids, self._again = [*self._again, *range(first, last + 1)], []
        return pids if self._pids is None or len(pids) <= FEW else self._living(pids)

    def _living(self, pids: list[int]) -> list[int]:
        """Those of them that there are. The others are missed."""
        assert self._pids is not None
        try:
            there = set(self._pids.processes(min(pids), max(pids)))
        except (OSError, ValueError):
            return pids
        self._again = [pid for pid in pids if pid >= self._first_pid and pid not in there]
        return [pid for pid in pids if pid in there]

    def miss(self, pid: int) -> None:
        """This one of the last call was not there. If it was handed out since the call before, it may yet come."""
        if pid >= self._first_pid:
            self._again.append(pid)

    def close(self) -> None:
        """Let go of the directory of processes."""
        if self._pids is not None:
            self._pids.close()
            self._pids = None

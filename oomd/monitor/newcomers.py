"""Processes that appeared since the last look: the pids that were handed out meanwhile, which /proc/loadavg tells for
the PID namespace of its procfs. Thread ids are handed out from the same range, and have folders too.

A pid is handed out a moment before its process can be seen (copy_process() of kernel/fork.c does much in between, and
may lose its CPU there), so whoever is not there yet is looked for once more at the next look.
"""

from __future__ import annotations

from oomd.kernel.loadavg import parse_last_pid

TYPE_CHECKING = False
if TYPE_CHECKING:
    from oomd.kernel.files import KernelFile

MOST_NEW_PIDS = 2000
"""More new pids than this since the last look are read faster by listing /proc."""
HALF_BORN = 8
"""So many of the pids that were handed out last before everybody was read may have been missed by that."""


class Newcomers:
    """Remembers the last pid."""

    def __init__(self, loadavg: KernelFile | None) -> None:
        """Without ``loadavg`` (recorded trees may lack it) nobody can tell."""
        self._loadavg = loadavg
        self._last_pid = self._first_pid = 0
        self._again: list[int] = []

    def begin(self) -> None:
        """Everybody is read now: newcomers come from here on."""
        if self._loadavg is not None:
            self._last_pid = parse_last_pid(self._loadavg.read())
            self._again = [*range(max(1, self._last_pid - HALF_BORN + 1), self._last_pid + 1)]

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
        self._last_pid, self._first_pid = last, first
        pids, self._again = [*self._again, *range(first, last + 1)], []
        return pids

    def miss(self, pid: int) -> None:
        """This one of the last call was not there. If it was handed out since the call before, it may yet come."""
        if pid >= self._first_pid:
            self._again.append(pid)

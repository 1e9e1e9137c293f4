"""Command lines, as Android's processes name themselves there, read by a thread of its own.

Reading one takes the lock of the process's memory map, and may wait for a page that its owner withholds: so neither on
the way to a kill nor for a line of the log. Who hangs there leaves names unknown, and holds up nothing else.
"""

from __future__ import annotations

from _queue import SimpleQueue

from oomd.kernel.sched import be_prompt
from oomd.kernel.threads import Thread
from oomd.lmkd.processes import read_cmdline, read_identity

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

MOST_WAITING = 1024
"""Names that may wait for the thread; of more processes it is read at their next registration."""
MOST_ASKED = 16_384
"""Twice as many as may be registered; clients can speak in any number of names."""
AGAIN_US = 1_000_000
"""A name younger than this is not read again: processes take theirs when they are a few milliseconds old."""


class Names:
    """Names by pid; whoever is told apart by its start time only, is."""

    def __init__(self, proc_fd: int, clock_us: Callable[[], int]) -> None:
        self._proc_fd = proc_fd
        self._clock_us = clock_us
        self._asked: SimpleQueue[int | None] = SimpleQueue()
        self._known: dict[int, tuple[int, str]] = {}
        """Start time and name. Written by the thread, one item at a time."""
        self._asked_us: dict[int, int] = {}
        self._thread = Thread(self._run, name="names")

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def ask(self, pid: int) -> None:
        """Have it read, unless it was a moment ago."""
        now_us, asked_us = self._clock_us(), self._asked_us.get(pid)
        if asked_us is not None and now_us - asked_us < AGAIN_US:
            return
        if self._asked.qsize() < MOST_WAITING and (asked_us is not None or len(self._asked_us) < MOST_ASKED):
            self._asked_us[pid] = now_us
            self._asked.put(pid)

    def of(self, pid: int, start_ticks: int | None = None) -> str:
        """The name; empty where none is known, or the process is another one by now."""
        start, name = self._known.get(pid, (0, ""))
        return name if start_ticks in (None, start) else ""

    def forget(self, pid: int) -> None:
        """This process does not matter any more."""
        self._asked_us.pop(pid, None)
        self._known.pop(pid, None)

    def stop(self) -> None:
        """End the thread after the reading in hand."""
        self._asked.put(None)

    def wait_end(self) -> None:
        """Until the thread has ended; the killer itself never waits for it."""
        self._thread.join()

    def _run(self) -> None:
        be_prompt()
        while (pid := self._asked.get()) is not None:
            process = read_identity(self._proc_fd, pid)
            if process is None or pid not in self._asked_us:  # a condemned one would be held by who reads
                continue
            name = read_cmdline(self._proc_fd, pid)
            after = read_identity(self._proc_fd, pid)
            if after is not None and process.id == after.id and pid in self._asked_us:
                self._known[pid] = (process.id.start_ticks, name)

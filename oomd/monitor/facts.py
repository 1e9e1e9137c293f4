"""What only preferences ask of the leaders: command lines and executables, read in the background; marks of cgroups.

Reading a command line takes the process's mmap lock, may wait for the page to be swapped in, and holds its memory
meanwhile: so never on the way to a kill, never of a condemned one, and only where a preference asks for it. Marks are
two calls that touch no memory of anybody; they are read by the loop itself.
"""

from __future__ import annotations

import os
from _queue import Empty, SimpleQueue

from oomd.kernel.cgroup_files import read_marks
from oomd.kernel.process import decode_name
from oomd.kernel.sched import be_prompt
from oomd.kernel.threads import Thread

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from oomd.model.snapshot import ProcessId
    from oomd.monitor.rows import Row

    Marks = tuple[tuple[str, str], ...]

MOST_BYTES = 4096
"""Of a command line."""
DELETED = " (deleted)"
"""What the kernel puts after the path of an executable that was replaced on disk; proc_pid_exe(5)."""
MOST_REMEMBERED = 1024
MARKS_AGE_US = 2_000_000
"""Marks older than this are read again."""


def read_cmdline(proc_fd: int, pid: int) -> str:
    """The words of the command line with spaces between them; empty where there is none, or it may not be read."""
    try:
        fd = os.open(f"{pid}/cmdline", os.O_RDONLY | os.O_CLOEXEC, dir_fd=proc_fd)
        try:
            data = os.read(fd, MOST_BYTES)
        finally:
            os.close(fd)
    except OSError:
        return ""
    return decode_name(data.rstrip(b"\0").replace(b"\0", b" "))


def read_exe(proc_fd: int, pid: int) -> str:
    """The path of the executable; empty for kernel threads, and where it may not be read."""
    try:
        path = os.readlink(f"{pid}/exe", dir_fd=proc_fd)
    except (OSError, ValueError):
        return ""
    return decode_name(os.fsencode(path)).removesuffix(DELETED)


class MarkReader:
    """The marks and the owner of a cgroup's directory, by its path; remembered for a moment."""

    def __init__(
        self,
        root: str,
        *,
        xattrs: Mapping[str, Mapping[str, str]] | None = None,
        owners: Mapping[str, int] | None = None,
    ) -> None:
        """``root``: where the hierarchy of version 2 is mounted, or a recorded tree; empty for none. ``xattrs`` and
        ``owners``, by path, take the place of what a recorded tree could not keep.
        """
        self._roots = (root, f"{root}/unified") if root else ()
        self._xattrs = xattrs or {}
        self._owners = owners or {}
        self._known: dict[str, tuple[int, Marks, int | None]] = {}
        self._kept = ("", -1)

    def read(self, cgroup: str, now_us: int) -> tuple[Marks, int | None]:
        """The marks, and the owner (None where there is no such cgroup)."""
        known = self._known.get(cgroup)
        if known is not None and now_us - known[0] < MARKS_AGE_US:
            return known[1], known[2]
        marks, owner = self._read(cgroup)
        if len(self._known) >= MOST_REMEMBERED:
            self._known.clear()
        self._known[cgroup] = (now_us, marks, owner)
        return marks, owner

    def is_outdated(self, cgroup: str) -> bool:
        """Whether what is remembered of this cgroup is no longer so; then nothing is remembered of any."""
        known = self._known.get(cgroup)
        if known is None or self._kept == (cgroup, -1) or self._read(cgroup) == known[1:]:
            return False
        self._known.clear()
        return True

    def keep(self, cgroup: str) -> None:
        """Have this cgroup's directory open, so that :meth:`has_changed` looks nothing up."""
        if cgroup == self._kept[0]:
            return
        self.close()
        missing = 0
        for root in self._roots if cgroup else ():
            try:
                self._kept = (cgroup, os.open(root + cgroup, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
            except FileNotFoundError:
                missing += 1
                continue
            except (OSError, ValueError):
                continue
            return
        if missing == len(self._roots):
            self._kept = (cgroup, -1)  # there is none that could bear a mark

    def has_changed(self) -> bool:
        """Whether the kept cgroup bears other marks than are remembered."""
        cgroup, fd = self._kept
        return fd >= 0 and read_marks(fd) != self._known.get(cgroup, (0, (), None))[1]

    def close(self) -> None:
        """Let go of the kept directory."""
        if self._kept[1] >= 0:
            os.close(self._kept[1])
        self._kept = ("", -1)

    def _read(self, cgroup: str) -> tuple[Marks, int | None]:
        marks: Marks = ()
        owner = None
        for root in self._roots:
            path = root + cgroup
            try:
                owner = os.stat(path).st_uid
            except (OSError, ValueError):
                continue
            marks = read_marks(path)
            break
        if cgroup in self._xattrs:
            marks = tuple(self._xattrs[cgroup].items())
        return marks, self._owners.get(cgroup, owner)


class FactsReader:
    """One thread that reads command lines and executables; requests and answers pass through queues."""

    def __init__(self, proc_fd: int, marks: MarkReader, wanted: frozenset[str]) -> None:
        """``wanted``: ``cmdline``, ``exe``, both or nothing (oomd.engine.preferences.wanted_of)."""
        self._proc_fd = proc_fd
        self._marks = marks
        self._wanted = wanted
        self._is_started = False
        self._asked: SimpleQueue[ProcessId | None] = SimpleQueue()
        self._answers: SimpleQueue[tuple[ProcessId, str, str]] = SimpleQueue()
        self._pending: set[ProcessId] = set()
        self._condemned: dict[ProcessId, None] = {}
        self._thread = Thread(self._run, name="facts")

    @property
    def wanted(self) -> frozenset[str]:
        """What is read of a process."""
        return self._wanted

    @wanted.setter
    def wanted(self, wanted: frozenset[str]) -> None:
        self._wanted = wanted
        if self._is_started:
            self.start()

    @property
    def is_busy(self) -> bool:
        """Whether somebody was asked for and is not told yet."""
        return bool(self._pending)

    def start(self) -> None:
        """Start the thread, now or when something is wanted."""
        self._is_started = True
        if self._wanted and not self._thread.is_alive():
            self._thread.start()

    def stop(self) -> None:
        """End the thread after the reading in hand."""
        self._asked.put(None)

    def ask(self, rows: Iterable[Row]) -> None:
        """Have those read whose command line is not known, or was read under another name (a process that executes
        another program mostly changes its name).
        """
        if not self.wanted:
            return
        for row in rows:
            process_id = row.id
            fresh = row.read_as == row.comm
            if not fresh and process_id not in self._pending and process_id not in self._condemned:
                self._pending.add(process_id)
                self._asked.put(process_id)

    def collect(self, rows: Mapping[int, Row]) -> None:
        """Put what was read since into the rows."""
        while True:
            try:
                process_id, cmdline, exe = self._answers.get_nowait()
            except Empty:
                return
            self._pending.discard(process_id)
            row = rows.get(process_id.pid)
            if row is not None and row.start_ticks == process_id.start_ticks:
                row.told(cmdline, exe)

    def note_marks(self, rows: Iterable[Row], now_us: int) -> None:
        """Put the marks of their cgroups into the rows."""
        for row in rows:
            if row.cgroup:
                row.marks, row.cgroup_uid = self._marks.read(row.cgroup, now_us)

    def marks_changed(self, rows: Iterable[Row]) -> bool:
        """Whether a mark of these rows' cgroups has changed since it was read. If so, everybody's marks are read anew
        next time.
        """
        return any(self._marks.is_outdated(cgroup) for cgroup in {row.cgroup for row in rows if row.cgroup})

    def keep_marks(self, row: Row) -> None:
        """Have at hand what tells that a mark of this row's cgroup has changed."""
        self._marks.keep(row.cgroup)

    def kept_marks_changed(self) -> bool:
        """Whether one of those has."""
        return self._marks.has_changed()

    def awaits(self, rows: Iterable[Row]) -> bool:
        """Whether one of them is being read for the first time."""
        return any(row.id in self._pending and row.read_as is None for row in rows)

    def condemn(self, process_id: ProcessId) -> None:
        """Never look at this process again."""
        if len(self._condemned) >= MOST_REMEMBERED:
            del self._condemned[next(iter(self._condemned))]
        self._condemned[process_id] = None

    def _run(self) -> None:
        be_prompt()
        while (process_id := self._asked.get()) is not None:
            cmdline = exe = ""
            if process_id not in self._condemned:
                exe = read_exe(self._proc_fd, process_id.pid)
                cmdline = read_cmdline(self._proc_fd, process_id.pid) if "cmdline" in self.wanted else ""
            self._answers.put((process_id, cmdline, exe))


def read_all(proc_fd: int, rows: Iterable[Row], marks: MarkReader, now_us: int, wanted: frozenset[str]) -> None:
    """Everything that the preferences want of these rows, at once: for commands, which have time."""
    for row in rows:
        if row.is_kernel_thread:
            continue
        if not row.cgroup:
            row.read_details(proc_fd)
        if row.cgroup:
            row.marks, row.cgroup_uid = marks.read(row.cgroup, now_us)
        if wanted:
            row.told(read_cmdline(proc_fd, row.pid), read_exe(proc_fd, row.pid))

"""Hasten the end of processes that somebody else killed: the kernel in a cgroup, kubelet, an operator's killall.

The kernel's trace of SIGKILLs says who was killed. Whoever still owns memory a few milliseconds later is hindered, or
so large that help is welcome; everybody else has gone by itself meanwhile and costs one open() that fails. No signal is
ever sent from here: a warrant, then the reaper.

Two threads, because of what looking at a dying process can cost: whoever reads its stat or status holds its memory map
for some microseconds, and if the victim lets go of it just then, the reader frees it all. That must never be the loop.
So the loop reads the trace and nothing else, one read at a time, and the next only when the looking thread is done with
the last: however many are killed, the loop wakes at most once in :data:`GRACE_S`, and what nobody had time to read
stays in the kernel's ring, which counts what it overwrites. The reaping is done by a pool of its own, so that a victim
of oomd's own never waits for somebody else's.
"""

from __future__ import annotations

import os
import time
from _queue import SimpleQueue

from oomd.kernel.files import KernelFormatError
from oomd.kernel.process import parse_stat, parse_status, process_of, read_pid_file, read_thread_status
from oomd.kernel.sched import be_prompt
from oomd.kernel.threads import Semaphore, Thread
from oomd.kernel.trace_pipe import TRACE_SIGNAL_IGNORED, parse_trace_pipe
from oomd.kill.warrant import GONE, Refused
from oomd.model.ruleset import ALWAYS
from oomd.model.snapshot import Process, ProcessId
from oomd.model.values import dataclass

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Hashable
    from typing import Protocol

    from oomd.kernel.process import Status
    from oomd.kill.warrant import Gate
    from oomd.model.decision import ReapResult, Warrant
    from oomd.reap.pool import ReaperPool

    class Watches(Protocol):
        """Where descriptors are waited for."""

        def watch(self, fd: int, key: Hashable, events: int = ...) -> None:
            """Wake up when ``fd`` is ready."""

        def unwatch(self, fd: int) -> None:
            """Forget it."""


PIPE, NEWS = "exits", "exits-news"
"""The loop's keys: SIGKILLs to read; something came of the last ones."""
WORTH_BYTES = 64 << 20
"""Private memory and swap that make it worth while: 64 MiB of small pages take the kernel some 5 ms to free."""
GRACE_S = 0.005
"""How long after the trace was read a victim is looked at. Unhindered ones of some MiB are gone by then."""
OVERHEAD = 20
"""Looking takes at most one part in so many of the time: a killall of thousands must not wait for us…"""
LONGEST_REST_S = 0.05
"""… nor the next large victim for that."""
READ_BYTES = 1 << 16
"""One read gives at most the kernel's own buffer, two pages: some hundred records."""
MOST_AT_ONCE = 16
"""Victims under warrant at a time; more wait…"""
PATIENCE_S = 1.0
"""… so long, and are passed over then."""


@dataclass(frozen=True, slots=True)
class Hastened:
    """One process that somebody else killed, and what the reaper did for it."""

    process: Process
    result: ReapResult
    hindrances: tuple[str, ...] = ()
    lifted: tuple[str, ...] = ()


class ExitHastener:
    """Reads the trace, looks, hands to the reaper. ``read``, ``tend`` and ``take`` are the loop's; looking is done by a
    thread with a gate of its own, because the loop's remembers what it saw while it is being asked.
    """

    keys = (PIPE, NEWS)
    """The loop's, of what it hears."""

    def __init__(self, pipe_fd: int, mode: str, gate: Gate, pool: ReaperPool, watches: Watches) -> None:
        """``mode``: ``pressure`` (only in need) or ``always``."""
        self.mode = mode
        self.gate = gate
        self.seen = 0
        """SIGKILLs that were read."""
        self.lost = 0
        """SIGKILLs that the kernel overwrote before they were read; with ``pressure`` also those of calm times."""
        self.hastened = 0
        self.passed_over = 0
        """Worth it, but refused by the gate, or not reached because too many were under way."""
        self._pipe_fd = pipe_fd
        self._pool = pool
        self._watches = watches
        self._watched = False
        self._busy = False
        """The looking thread is at work on what was read last."""
        self._news_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._proc_fd = os.open("/proc", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._batches: SimpleQueue[tuple[int, ...] | None] = SimpleQueue()
        self._slots = Semaphore(MOST_AT_ONCE)
        self._reaping: dict[ProcessId, tuple[Warrant, Process]] = {}
        self._thread = Thread(self._run, name="exits")

    def start(self) -> None:
        """Start the threads, and watch."""
        self._pool.start()
        self._thread.start()
        self._watches.watch(self._news_fd, NEWS)
        self._watches.watch(self._pool.fd, NEWS)
        self.tend(warm=False)

    def stop(self) -> None:
        """End the threads after the work in hand."""
        self._batches.put(None)
        self._pool.stop()

    def tend(self, *, warm: bool) -> None:
        """Watch the trace, or leave it alone: while the last batch is looked at, and in calm times with ``pressure``.
        The ring keeps the newest, so that who was killed before need arose, and is still there, is found then.
        """
        wanted = not self._busy and self._pipe_fd >= 0 and (warm or self.mode == ALWAYS)
        if wanted and not self._watched:
            self._watches.watch(self._pipe_fd, PIPE)
        elif self._watched and not wanted:
            self._watches.unwatch(self._pipe_fd)
        self._watched = wanted

    def read(self, own_victims: frozenset[int]) -> str:
        """Read once, without waiting; ``own_victims`` are oomd's own, which its own reaper has. What is wrong with the
        trace, if it can no longer be read; it is given up then.
        """
        try:
            data = os.read(self._pipe_fd, READ_BYTES)
        except BlockingIOError:
            data = b""
        except OSError as error:
            self._watches.unwatch(self._pipe_fd)
            os.close(self._pipe_fd)
            self._pipe_fd, self._watched = -1, False
            return error.strerror or str(error)
        records, lost = parse_trace_pipe(data)
        self.seen += len(records)
        self.lost += lost
        pids = dict.fromkeys(each.pid for each in records if each.result != TRACE_SIGNAL_IGNORED)
        # An empty batch too: whatever woke us for nothing does so no more often than this.
        self._busy = True
        self._batches.put(tuple(pid for pid in pids if pid not in own_victims))
        self.tend(warm=True)
        return ""

    def take(self, *, warm: bool) -> list[Hastened]:
        """What the reaper has done since, and go on reading when the last batch was looked at."""
        try:
            os.eventfd_read(self._news_fd)
        except BlockingIOError:
            pass
        else:
            self._busy = False
        self.tend(warm=warm)
        done = []
        for result in self._pool.take_results():
            known = self._reaping.pop(result.id, None)
            if known is not None:
                warrant, process = known
                os.close(warrant.pidfd)
                self._slots.release()
                self.hastened += 1
                done.append(Hastened(process, result, warrant.hindrances, self._pool.take_lifted(result.id.pid)))
        return done

    def counters(self) -> dict[str, int]:
        """For the last report."""
        return {
            "sigkills seen": self.seen,
            "sigkills lost": self.lost,
            "exits hastened": self.hastened,
            "exits passed over": self.passed_over,
        }

    def _run(self) -> None:
        be_prompt()
        while (batch := self._batches.get()) is not None:
            time.sleep(GRACE_S)  # this thread's own time
            begin = time.monotonic()
            try:
                for pid in batch:
                    self._hasten(pid)
                time.sleep(min(LONGEST_REST_S, OVERHEAD * (time.monotonic() - begin)))
            finally:
                os.eventfd_write(self._news_fd, 1)

    def _hasten(self, pid: int) -> None:
        try:
            process = look_at_dying(self._proc_fd, pid)
            if process is None or process.id in self._reaping:
                return
            if not self._slots.acquire(timeout=PATIENCE_S):
                self.passed_over += 1
                return
        except (OSError, KernelFormatError):
            return  # hidden from us, or gone in the middle of it
        try:
            self._reap(process)
        except (OSError, Refused):
            self._reaping.pop(process.id, None)
            self._slots.release()
            self.passed_over += 1

    def _reap(self, process: Process) -> None:
        """Raises Refused or OSError, and nothing was done."""
        warrant = self.gate.grant(process)
        try:
            self._prove_dying(process.id)
            self._reaping[process.id] = (warrant, process)
            self._pool.reap_only(warrant)
        except BaseException:
            os.close(warrant.pidfd)
            raise

    def _prove_dying(self, process_id: ProcessId) -> None:
        """Once it is proved whose pid this is: the number that was looked at first may have been another's."""
        again = look_at_dying(self._proc_fd, process_id.pid)
        if again is None or again.id != process_id:
            raise Refused(GONE)


def look_at_dying(proc_fd: int, pid: int) -> Process | None:
    """The process that this pid, or the id of one of its threads, belongs to, if SIGKILL is pending for it and it still
    owns :data:`WORTH_BYTES`; None for everybody else. Raises OSError, KernelFormatError.
    """
    status = _read_status(proc_fd, pid)
    if status is None or status.rss_anon_bytes + status.swap_bytes < WORTH_BYTES or not status.kill_pending:
        return None
    data = read_pid_file(proc_fd, status.tgid, "stat")
    if not data:
        return None
    return process_of(parse_stat(data), status)


def _read_status(proc_fd: int, pid: int) -> Status | None:
    """The quick answers first: most of those who are killed are gone, or have left their memory, when this is asked."""
    data = read_pid_file(proc_fd, pid, "status", denied=b"")
    if not data:
        return None
    if b"\nRssAnon:" in data:
        return parse_status(data)
    if b"\nState:\tZ" not in data or b"\nThreads:\t1\n" in data:
        return None
    return read_thread_status(proc_fd, pid)  # a leader that ended while its threads live

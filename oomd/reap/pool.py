"""The reaper threads: the last signal and the reap are one motion.

After SIGKILL the woken victim may preempt us on our CPU and leave its memory map before process_mrelease finds it; the
call then says ESRCH although the memory is still being freed, slowly, at the victim's own priority. Measured with small
victims: 48–90 % of the calls at nice 0, also at nice -20; 0–5 % from a real-time thread; none when the victim was put
into SCHED_IDLE just before. So: real-time where permitted, else demote, kill, reap, promote.

SIGTERM is such a motion too: where nobody catches it the kernel makes it a SIGKILL at once, and a victim that starves
would hold its memory until its grace is over, and longer.
"""

from __future__ import annotations

import errno
import os
import sys
import threading
import time
from collections import deque
from queue import SimpleQueue

from oomd.kernel.pidfd import is_readable
from oomd.kernel.process import read_pid_file
from oomd.kernel.sched import be_prompt, be_realtime, run_on
from oomd.kernel.syscalls import pidfd_send_signal
from oomd.model.decision import ReapResult, Warrant
from oomd.model.values import dataclass, field
from oomd.reap.crowd import Crowd
from oomd.reap.dying import NO_LIMIT
from oomd.reap.expedite import SS_EXPEDITE, Expedited, Expediter, ExpediteReaper
from oomd.reap.hindrance import DROPPED, GO, Lift, Lifter, keep_apart
from oomd.reap.mrelease import MreleaseReaper

TYPE_CHECKING = False
if TYPE_CHECKING:
    from oomd.reap.base import Reaper

SIGKILL = 9
PRIORITY = 12
"""Real-time priority; above the loop's, so that the loop's own next step never comes between signal and reap."""
WORKERS = 4
"""Threads that kill and reap. process_mrelease may hang in the victim's mmap lock: the others go on."""
REAP_NICE = -16
"""Of a reap that has lasted longer than that: nearly all of a CPU, while those who need little of it get that."""
MOST_REALTIME_S = 0.005
"""A reap that lasts longer goes on at normal priority: 4 GiB take 200 ms, in which nobody else would run on this CPU.
"""
HANDOFF_S = 0.00005
"""Whoever asks sleeps so long: that hands the interpreter's lock to the worker, which keeps it until the signal is sent
and the reap begins. Without it the worker would wait until the asker has gone on for a switch interval."""
UNDISTURBED_S = 0.0004
"""The interpreter's switch interval from the moment of asking until the reap has begun. A thread that has waited for a
switch interval asks for the lock, and then whoever gives it up for a system call waits until the other has taken it: a
wait of a wake-up between signal and reap, in which 5 to 15 % of small victims were gone."""
DYING = (0, errno.ESRCH, errno.EAGAIN)
"""What a reap after SIGTERM answers when that was the end of the process."""
_PROC = "/proc"


@dataclass(frozen=True, slots=True)
class _Job:
    """Something for a worker."""

    warrants: tuple[Warrant, ...]
    signal: int
    """0: reap only."""
    lifts: tuple[Lift | None, ...] = ()
    """For each of them, made by whoever asks: the worker has no time for it."""
    pidfds: tuple[int, ...] = ()
    """Copies of our own, in the same order."""
    max_bytes: int = NO_LIMIT
    sent: list[int] = field(default_factory=list)
    """When the first of them was signalled (CLOCK_MONOTONIC, microseconds), as soon as that is so."""
    crowd: Crowd | None = None
    """Instead of all the above: help with these."""


@dataclass(frozen=True, slots=True)
class _Sent:
    """What the expediter's worker must know of its victim."""

    warrant: Warrant
    sent_us: int


class ReaperPool:
    """Takes warrants, kills and reaps, several at once; results come through :attr:`fd` and :meth:`take_results`."""

    def __init__(self, reaper: Reaper, workers: int = WORKERS) -> None:
        self.reaper = reaper
        self.fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self.realtime = False
        """Whether the threads could get a real-time class."""
        self._proc_fd = os.open(_PROC, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._work: SimpleQueue[_Job | None] = SimpleQueue()
        self._results: deque[ReapResult] = deque(maxlen=4096)
        self._threads = [threading.Thread(target=self._run, name=f"reaper-{n}", daemon=True) for n in range(workers)]
        self._ready = threading.Barrier(workers + 1)
        self._switch_interval_s = sys.getswitchinterval()
        alone = isinstance(reaper, ExpediteReaper) and not reaper.beneath
        self._lifter = Lifter(self._proc_fd, alone=alone) if reaper.lifts else None
        self._expediter = Expediter(reaper, self._note_expedited) if isinstance(reaper, ExpediteReaper) else None
        self._cpus = os.sched_getaffinity(0)
        self._classes = threading.Lock()
        """Held while a worker's scheduling class is changed."""
        self._reaping: dict[int, object] = {}
        """Thread ids of the workers that reap right now with real-time priority, each with a token of this reap."""

    def start(self) -> None:
        """Start the workers, and wait until they know their scheduling class."""
        self._switch_interval_s = sys.getswitchinterval()
        for thread in self._threads:
            thread.start()
        if self._lifter is not None:
            self._lifter.start()
        if self._expediter is not None:
            self._expediter.prepare = lambda: be_realtime(PRIORITY)
            self._expediter.start()
        self._ready.wait()

    def stop(self) -> None:
        """End the workers after the work in hand."""
        for _ in self._threads:
            self._work.put(None)
        if self._lifter is not None:
            self._lifter.stop()
        if self._expediter is not None:
            self._expediter.stop()

    def submit(self, warrant: Warrant, number: int = SIGKILL) -> int | None:
        """Signal this one and reap it; the answer is that of :meth:`submit_all`. The worker has its own copy of the
        pidfd: a number closed and given to another process's pidfd between the request and the signal would kill that
        one. Raises OSError (EMFILE).
        """
        return self.submit_all((warrant,), number)

    def submit_all(self, warrants: tuple[Warrant, ...], number: int = SIGKILL, max_bytes: int = NO_LIMIT) -> int | None:
        """Signal all of them before the first is reaped, then reap, largest first, different victims side by side; none
        is begun once ``max_bytes`` are back. Raises OSError (EMFILE), and nobody was signalled.

        When the first was signalled (CLOCK_MONOTONIC, microseconds); None where the worker has not come to that yet.
        """
        if self._expediter is not None and number == SIGKILL:
            return self._expedite(warrants)
        pidfds = _copies(warrants)
        lifts = tuple(self._lift(warrant) if number == SIGKILL else None for warrant in warrants)
        sys.setswitchinterval(UNDISTURBED_S)
        job = _Job(warrants, number, lifts, pidfds, max_bytes)
        self._work.put(job)
        time.sleep(HANDOFF_S)
        sys.setswitchinterval(self._switch_interval_s)
        self._wake_lifter()
        return job.sent[0] if job.sent else None

    def reap_only(self, warrant: Warrant) -> None:
        """Reap a process that somebody else has killed; no signal is sent. Raises OSError (EMFILE)."""
        self._work.put(_Job((warrant,), 0, (self._lift(warrant),), _copies((warrant,))))
        self._wake_lifter()

    def take_results(self) -> list[ReapResult]:
        """What was done since the last call."""
        try:
            os.eventfd_read(self.fd)
        except BlockingIOError:
            return []
        results = []
        while self._results:
            results.append(self._results.popleft())
        return results

    def take_lifted(self, pid: int) -> tuple[str, ...]:
        """What was lifted for a victim, in words; once."""
        return self._lifter.take(pid) if self._lifter is not None else ()

    def _run(self) -> None:
        be_prompt(REAP_NICE)
        realtime = be_realtime(PRIORITY)
        if realtime:
            self.realtime = True
        self._ready.wait()
        while (job := self._work.get()) is not None:
            try:
                self._do(job)
            except OSError as error:  # no descriptor left, most likely: nothing may end a worker
                failed = error.errno or errno.EIO
                now_us = time.monotonic_ns() // 1000
                self._results.extend(self._result(each, job.signal, 0, now_us, failed) for each in job.warrants)
            finally:
                for pidfd in job.pidfds:
                    os.close(pidfd)
                os.eventfd_write(self.fd, 1)

    def _do(self, job: _Job) -> None:
        """One victim: signal and reap in one motion. Several: signal all, then share them out by size."""
        if job.crowd is not None:
            self._reap_crowd(job.crowd)
            return
        if len(job.warrants) == 1:
            self._results.append(self._signal_and_reap(job.warrants[0], job.pidfds[0], job))
            return
        failed = [_send(pidfd, job.signal, job.sent) for pidfd in job.pidfds]
        for number, lift in zip(failed, job.lifts, strict=True):
            (_drop if number else _go)(lift)
        signalled = []
        for warrant, pidfd, number in zip(job.warrants, job.pidfds, failed, strict=True):
            if number:
                self._results.append(self._result(warrant, job.signal, number, 0, errno.ESRCH))
            else:
                signalled.append((warrant, os.dup(pidfd)))
        crowd = Crowd(signalled, job.max_bytes, self._proc_fd)
        for _ in range(min(len(self._threads), len(self._cpus), len(signalled)) - 1):
            self._work.put(_Job((), 0, crowd=crowd))
        self._reap_crowd(crowd)

    def _reap_crowd(self, crowd: Crowd) -> None:
        """Take the largest that nobody has taken, until none is left."""
        tid = self._begin_realtime(0, -1)
        try:
            while (taken := crowd.take()) is not None:
                begin_us = time.monotonic_ns() // 1000
                number, bytes_ = crowd.reap(self.reaper, *taken)
                self._results.append(self._result(taken[0], 0, 0, begin_us, number, bytes_))
        finally:
            self._return_to_realtime(tid)

    def _signal_and_reap(self, warrant: Warrant, pidfd: int, job: _Job) -> ReapResult:
        pid = warrant.id.pid
        demotes = job.signal == SIGKILL and not self.realtime and not is_readable(pidfd)
        demoted = demotes and _set_policy(pid, os.SCHED_IDLE)
        reap_errno, reaped, begin_us, signal_errno = errno.ESRCH, 0, 0, 0
        (lift,) = job.lifts
        tid = self._begin_realtime(pid if job.signal in (SIGKILL, 0) else 0, pidfd)
        try:
            if isinstance(self.reaper, MreleaseReaper) and job.signal:
                _go(lift)  # a moment early, because between signal and reap there must be nothing
                signal_errno, begin_us, reap_errno = self.reaper.strike(pidfd, job.signal, job.sent)
                reaped = warrant.expected_bytes if reap_errno == 0 else 0
            else:
                signal_errno = _send(pidfd, job.signal, job.sent) if job.signal else 0
                begin_us = job.sent[0] if job.sent else time.monotonic_ns() // 1000
                if signal_errno == 0:
                    reap_errno, reaped = self._reap(warrant, pidfd, lift)
            # What SIGTERM may not have ended is not touched before the reaper has said that it is dying.
            if signal_errno:
                _drop(lift)
            elif job.signal not in (SIGKILL, 0) and self._is_dying(pid, reap_errno):
                _go(self._lift(warrant, pidfd))
                self._wake_lifter()
        finally:
            self._return_to_realtime(tid)
            if demoted and not is_readable(pidfd):
                _set_policy(pid, os.SCHED_OTHER)  # what is left of it should end quickly
        return self._result(warrant, job.signal, signal_errno, begin_us, reap_errno, reaped)

    def _begin_realtime(self, surely_dying: int, pidfd: int) -> int:
        """The thread's id; in a few milliseconds it goes on at normal priority if it reaps then. ``surely_dying``: the
        pid of the one victim; 0 where it may catch the signal, or there are several.
        """
        tid, token = threading.get_native_id(), object()
        self._reaping[tid] = token
        if self._lifter is not None and self.realtime:
            due = time.monotonic() + MOST_REALTIME_S
            self._lifter.call_later(due, lambda: self._end_realtime(tid, token, surely_dying, pidfd))
            if not surely_dying:  # else whoever asked wakes it, after the signal
                self._lifter.wake()
        return tid

    def _return_to_realtime(self, tid: int) -> None:
        with self._classes:
            if self._reaping.pop(tid, None) is None and self.realtime:
                # It lasted so long that its real-time was ended.
                run_on(self._cpus)
                be_realtime(PRIORITY)

    def _reap(self, warrant: Warrant, pidfd: int, lift: Lift | None) -> tuple[int, int]:
        """Errno and bytes."""
        _go(lift)
        try:
            number = self.reaper.reap(pidfd)
        except OSError as error:  # no backend may end a worker
            number = error.errno or errno.EIO
        return number, warrant.expected_bytes if number == 0 else 0

    def _end_realtime(self, tid: int, token: object, pid: int, pidfd: int) -> None:
        """``pid``: of the victim; 0 where it may have caught the signal, and nothing of it may be changed."""
        with self._classes:
            if self._reaping.get(tid) is token:  # so the pidfd is still open
                self._reaping.pop(tid, None)
                if pid:
                    keep_apart(tid, self._proc_fd, pid, pidfd)
                _set_policy(tid, os.SCHED_OTHER)

    def _is_dying(self, pid: int, reap_errno: int) -> bool:
        """Whether SIGTERM was the end of it. A backend that cannot tell leaves it to the kernel's own mark: a fatal
        signal becomes a pending SIGKILL of every thread.
        """
        if reap_errno != errno.ENOSYS:
            return reap_errno in DYING
        data = read_pid_file(self._proc_fd, pid, "status", denied=b"") or b""
        masks = [line.split(b":")[1] for line in data.split(b"\n") if line.startswith((b"SigPnd:", b"ShdPnd:"))]
        return any(int(mask, 16) >> (SIGKILL - 1) & 1 for mask in masks)

    def _lift(self, warrant: Warrant, pidfd: int = -1) -> Lift | None:
        """Ready to be lifted as soon as :func:`_go` is called."""
        if self._lifter is None:
            return None
        try:
            return self._lifter.prepare(warrant.id.pid, warrant.pidfd if pidfd < 0 else pidfd)
        except OSError:
            return None  # no descriptor left: it must do without

    def _wake_lifter(self) -> None:
        if self._lifter is not None:
            self._lifter.wake()

    def _expedite(self, warrants: tuple[Warrant, ...]) -> int | None:
        """The proposal's way: the signals by us, now, and one worker afterwards. When the first was signalled."""
        assert self._expediter is not None
        sent: list[int] = []
        for warrant in warrants:
            sent_us = time.monotonic_ns() // 1000
            try:
                self._expediter.pidfd_send_signal(warrant.pidfd, SIGKILL, SS_EXPEDITE, tag=_Sent(warrant, sent_us))
                sent.append(time.monotonic_ns() // 1000)
                _go(self._lift(warrant))
                self._wake_lifter()
            except OSError as error:
                # Not privileged: a plain SIGKILL is what is left, and says so.
                number = _send(warrant.pidfd, SIGKILL, sent) if error.errno == errno.EPERM else error.errno or errno.EIO
                result = self._result(warrant, SIGKILL, number, sent_us, errno.EPERM)
                self._results.append(result)
                os.eventfd_write(self.fd, 1)
        return sent[0] if sent else None

    def _note_expedited(self, done: Expedited) -> None:
        assert isinstance(done.tag, _Sent)
        warrant, sent_us = done.tag.warrant, done.tag.sent_us
        bytes_ = warrant.expected_bytes if done.reap_errno == 0 else 0
        result = self._result(warrant, SIGKILL, 0, sent_us, done.reap_errno, bytes_)
        self._results.append(result)
        os.eventfd_write(self.fd, 1)

    def _result(
        self, warrant: Warrant, number: int, signal_errno: int, signal_us: int, reap_errno: int, reaped: int = 0
    ) -> ReapResult:
        return ReapResult(
            id=warrant.id,
            signal=number,
            signal_errno=signal_errno,
            signal_us=signal_us,
            backend=self.reaper.name,
            reap_errno=reap_errno,
            reap_us=time.monotonic_ns() // 1000 - signal_us,
            reaped_bytes=reaped,
            realtime=self.realtime,
        )


def _copies(warrants: tuple[Warrant, ...]) -> tuple[int, ...]:
    """Descriptors of our own. Raises OSError, and none is left open."""
    copies: list[int] = []
    try:
        for warrant in warrants:
            copies.append(os.dup(warrant.pidfd))  # noqa: PERF401 - what was opened is closed on an error
    except OSError:
        for copy in copies:
            os.close(copy)
        raise
    return tuple(copies)


def _go(lift: Lift | None) -> None:
    if lift is not None:
        lift.state = GO


def _drop(lift: Lift | None) -> None:
    if lift is not None:
        lift.state = DROPPED


def _send(pidfd: int, number: int, sent: list[int]) -> int:
    """The errno; ``sent`` gets the time of it."""
    try:
        pidfd_send_signal(pidfd, number)
    except OSError as error:
        return error.errno or errno.EIO
    sent.append(time.monotonic_ns() // 1000)
    return 0


def _set_policy(tid: int, policy: int) -> bool:
    try:
        os.sched_setscheduler(tid, policy, os.sched_param(0))
    except OSError:
        return False
    return True

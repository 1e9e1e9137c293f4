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
import time

from oomd.kernel.pidfd import is_readable
from oomd.kernel.sched import be_prompt, be_realtime
from oomd.kernel.syscalls import pidfd_send_signal
from oomd.kernel.threads import Semaphore, deque, get_native_id
from oomd.model.decision import ReapResult, Warrant
from oomd.model.values import dataclass
from oomd.reap.crowd import Cpus, Crowd
from oomd.reap.dying import NO_LIMIT, is_dying
from oomd.reap.expedite import SS_EXPEDITE, Expedited, Expediter, ExpediteReaper
from oomd.reap.hindrance import Lifter, drop, let_go
from oomd.reap.motion import Motion
from oomd.reap.mrelease import MreleaseReaper
from oomd.reap.urgency import PRIORITY, Urgency, demote, set_policy
from oomd.reap.workers import Workers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from oomd.reap.base import Reaper
    from oomd.reap.hindrance import Lift

SIGKILL = 9
WORKERS = 4
"""Threads that kill and reap. process_mrelease may hang in the victim's mmap lock: the others go on."""
REAP_NICE = -16
"""Of a reap that has lasted long: nearly all of a CPU, while those who need little of it get that."""
HANDOFF_S = 0.001
"""How long it is waited until a worker has signalled: 20 to 60 µs where one is free; where every one is deep in the
kernel the signal goes from here. Waiting gives the interpreter's lock to the worker, which keeps it until the reap
begins; else it would get it only after whoever asks has gone on for a switch interval."""
UNDISTURBED_S = 0.0002
"""The interpreter's switch interval from the moment of asking until the reap has begun. A thread that has waited for a
switch interval asks for the lock, and then whoever gives it up for a system call waits until the other has taken it: a
wait of a wake-up between signal and reap, in which 5 to 15 % of small victims were gone."""
_PROC = "/proc"


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
        self._proc_fd = os.open(_PROC, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._results: deque[ReapResult] = deque()
        self._workers = Workers(workers, self._begin, self._work)
        self._ready = Semaphore(0)
        self._switch_interval_s = sys.getswitchinterval()
        alone = isinstance(reaper, ExpediteReaper) and not reaper.beneath
        self._lifter = Lifter(self._proc_fd, alone=alone) if reaper.lifts else None
        self._expediter = Expediter(reaper, self._note_expedited) if isinstance(reaper, ExpediteReaper) else None
        self._urgency = Urgency(self._lifter, self._proc_fd)
        self._cpus = Cpus(_PROC)
        self._at_once = min(workers, self._cpus.count)
        """Workers that share a crowd: more than there are CPUs gain nothing."""

    @property
    def realtime(self) -> bool:
        """Whether the threads could get a real-time class."""
        return self._urgency.permitted

    def start(self) -> None:
        """Start the workers, and wait until they know their scheduling class."""
        self._switch_interval_s = sys.getswitchinterval()
        for thread in self._workers.threads:
            thread.start()
        if self._lifter is not None:
            self._lifter.start()
        if self._expediter is not None:
            self._expediter.prepare = lambda: be_realtime(PRIORITY)
            self._expediter.start()
        for _ in self._workers.threads:
            self._ready.acquire()

    def stop(self) -> None:
        """End the workers after the work in hand."""
        for _ in self._workers.threads:
            self._workers.put(None)
        if self._lifter is not None:
            self._lifter.stop()
        if self._expediter is not None:
            self._expediter.stop()

    def close(self, patience_s: float = 5.0) -> bool:
        """End the workers, wait for it, and close our descriptors; whether all ended in time. A worker that hangs in
        the kernel keeps them open.
        """
        self.stop()
        end = time.monotonic() + patience_s
        helpers = [each.thread for each in (self._lifter, self._expediter) if each is not None]
        for thread in (*self._workers.threads, *helpers):
            thread.join(max(0.0, end - time.monotonic()))
            if thread.is_alive():
                return False
        self._workers.close()
        self._cpus.close()
        os.close(self._proc_fd)
        os.close(self.fd)
        return True

    def submit(self, warrant: Warrant, number: int = SIGKILL) -> int | None:
        """Signal this one and reap it, in one motion. Raises OSError (EMFILE), and it was not signalled.

        When it was signalled (CLOCK_MONOTONIC, microseconds); None where that did not succeed, or has not yet.
        """
        if self._expediter is not None and number == SIGKILL:
            return self._expedite(warrant)
        return self.fire(self.arm(warrant, lifts=number == SIGKILL), number)

    def arm(self, warrant: Warrant, *, lifts: bool = True) -> Motion:
        """Make ready all that can be made before anybody is signalled: for :meth:`fire`, or :meth:`disarm`. Raises
        OSError (EMFILE).
        """
        motion = Motion(warrant, os.dup(warrant.pidfd), 0, self._lift(warrant, ahead=True) if lifts else None)
        motion.taken.acquire()
        return motion

    def come_near(self) -> None:
        """Have the next worker wake up where the caller runs."""
        if self.realtime:
            self._workers.come_near()

    def disarm(self, motion: Motion) -> None:
        """Nobody is signalled."""
        os.close(motion.pidfd)
        if motion.lift is not None:
            os.close(motion.lift.pidfd)

    def fire(self, motion: Motion, number: int) -> int | None:
        """:meth:`submit` of what was made ready."""
        if self._expediter is not None and number == SIGKILL:
            sent_us = self._expedite(motion.warrant)
            self.disarm(motion)
            return sent_us
        spare = motion.lift if number != SIGKILL else None
        if spare is not None:
            motion.lift = None
        elif motion.lift is not None and self._lifter is not None:
            self._lifter.add(motion.lift)
        motion.signal = number
        sys.setswitchinterval(UNDISTURBED_S)
        self._workers.put(motion)
        if not motion.taken.acquire(timeout=HANDOFF_S):
            self._signal_from_here(motion)
        sys.setswitchinterval(self._switch_interval_s)
        self._wake_lifter()
        if spare is not None:
            os.close(spare.pidfd)
        return motion.sent[0] if motion.sent else None

    def reap_only(self, warrant: Warrant) -> None:
        """Reap a process that somebody else has killed; no signal is sent. Raises OSError (EMFILE)."""
        self._workers.put(Motion(warrant, os.dup(warrant.pidfd), 0, self._lift(warrant)))
        self._wake_lifter()

    def kill_all(self, warrants: tuple[Warrant, ...], max_bytes: int = NO_LIMIT) -> int | None:
        """SIGKILL to all of them, from here, so that none lives on to fork what the others lost; then reap, largest
        first, different victims side by side; none is begun once ``max_bytes`` are back.

        When the first was signalled; None where none was.
        """
        sent_us = None
        signalled = []
        unhindered = not any(warrant.hindrances for warrant in warrants) and self._cpus.are_idle
        for warrant in warrants:
            number = _send(warrant.pidfd, SIGKILL)
            now_us = time.monotonic_ns() // 1000
            if number:
                self._tell(self._result(warrant, SIGKILL, number, now_us, errno.ESRCH))
                continue
            sent_us = sent_us or now_us
            signalled.append(warrant)
        if self._expediter is not None:
            for warrant in signalled:
                self._expedite(warrant)
        else:
            self._reap_all(signalled, max_bytes, watch=unhindered and len(signalled) >= self._cpus.count)
        return sent_us

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

    def _begin(self) -> None:
        be_prompt(REAP_NICE)
        self._urgency.ask()
        self._ready.release()

    def _work(self, job: Motion | Crowd) -> None:
        if isinstance(job, Crowd):
            self._reap_crowd(job)
            return
        try:
            result = self._move(job)
        except OSError as error:  # no descriptor left, most likely: nothing may end a worker
            now_us = time.monotonic_ns() // 1000
            result = self._result(job.warrant, job.signal, 0, now_us, error.errno or errno.EIO)
        finally:
            os.close(job.pidfd)
        self._tell(result)

    def _reap_all(self, warrants: list[Warrant], max_bytes: int, *, watch: bool) -> None:
        victims = []
        for warrant in warrants:
            try:
                victims.append((warrant, os.dup(warrant.pidfd)))
            except OSError as error:  # no descriptor left: it ends by itself
                self._tell(self._result(warrant, 0, 0, time.monotonic_ns() // 1000, error.errno or errno.EIO))
                continue
            if not watch:  # help costs more than it gives where nothing hinders: who is there at the end needs it
                let_go(self._lift(warrant, patient=not warrant.hindrances))
        when_done = self._lifter.hurry if self._lifter is not None else lambda: None
        crowd = Crowd(victims, self._proc_fd, max_bytes, when_done, watch=watch)
        for _ in range(1 if watch else min(self._at_once, len(victims))):
            self._workers.put(crowd)
        self._wake_lifter()

    def _watch(self, crowd: Crowd) -> None:
        """Until they do not get on any more: who is still there is helped."""
        stuck = crowd.leave_alone()
        for warrant, pidfd in stuck:
            let_go(self._lift(warrant, pidfd))
        self._wake_lifter()
        for _ in range(1, min(self._at_once, len(stuck))):
            self._workers.put(crowd)

    def _reap_crowd(self, crowd: Crowd) -> None:
        """Take the largest that nobody has taken, until none is left."""
        if crowd.watch:
            crowd.watch = False
            self._watch(crowd)
        tid = get_native_id()
        try:
            while (taken := crowd.take()) is not None:
                warrant, pidfd = taken
                begin_us = time.monotonic_ns() // 1000
                self._urgency.enter_next()
                try:
                    number, bytes_ = crowd.reap(self.reaper, pidfd)
                finally:
                    os.close(pidfd)
                self._results.append(self._result(warrant, 0, 0, begin_us, number, bytes_))
        finally:
            self._urgency.leave(tid)
            os.eventfd_write(self.fd, 1)

    def _move(self, motion: Motion) -> ReapResult:
        """Signal and reap in one motion, with nothing between them."""
        with motion.sending:
            ours = motion.claim()
        pid = motion.warrant.id.pid
        surely = motion.signal in (SIGKILL, 0)
        demoted = motion.signal == SIGKILL and not self.realtime and demote(pid, motion.pidfd)
        tid = self._urgency.enter(pid if surely else 0, motion.pidfd)
        try:
            signal_errno, begin_us, reap_errno = self._strike(motion) if ours else self._reap_signalled(motion)
            # What SIGTERM may not have ended is not touched before the reaper has said that it is dying.
            if signal_errno:
                drop(motion.lift)
            elif not surely and is_dying(self._proc_fd, pid, reap_errno):
                let_go(self._lift(motion.warrant, motion.pidfd))
                self._wake_lifter()
        finally:
            motion.let_go()
            self._urgency.leave(tid)
            if demoted and not is_readable(motion.pidfd):
                set_policy(pid, os.SCHED_OTHER)  # what is left of it should end quickly
        reaped = motion.warrant.expected_bytes if reap_errno == 0 else 0
        return self._result(motion.warrant, motion.signal, signal_errno, begin_us, reap_errno, reaped)

    def _strike(self, motion: Motion) -> tuple[int, int, int]:
        """The signal's errno, when it was sent, the reap's errno."""
        if isinstance(self.reaper, MreleaseReaper) and motion.signal:
            let_go(motion.lift)  # a moment early, because between signal and reap there must be nothing
            return self.reaper.strike(motion.pidfd, motion.signal, motion.note_sent)
        if motion.signal:
            motion.signal_errno = _send(motion.pidfd, motion.signal)
        motion.note_sent(time.monotonic_ns() // 1000)
        return self._reap_signalled(motion)

    def _reap_signalled(self, motion: Motion) -> tuple[int, int, int]:
        """The same for one that was signalled."""
        (sent_us,) = motion.sent
        if motion.signal_errno:
            return motion.signal_errno, sent_us, errno.ESRCH
        if motion.signal in (SIGKILL, 0):
            let_go(motion.lift)
        return 0, sent_us, self.reaper.reap(motion.pidfd)

    def _signal_from_here(self, motion: Motion) -> None:
        """Every worker is busy, if none takes it just now: it is killed at once, and reaped when one is free."""
        with motion.sending:
            if not motion.claim():
                return
            motion.signal_errno = _send(motion.pidfd, motion.signal)
            motion.sent.append(time.monotonic_ns() // 1000)
        if motion.signal == SIGKILL:
            (drop if motion.signal_errno else let_go)(motion.lift)

    def _lift(self, warrant: Warrant, pidfd: int = -1, *, patient: bool = False, ahead: bool = False) -> Lift | None:
        """Ready to be lifted as soon as :func:`let_go` is called (:meth:`oomd.reap.hindrance.Lifter.prepare`)."""
        if self._lifter is None:
            return None
        fd = warrant.pidfd if pidfd < 0 else pidfd
        try:
            return self._lifter.prepare(warrant.id.pid, fd, patient=patient, ahead=ahead)
        except OSError:
            return None  # no descriptor left: it must do without

    def _wake_lifter(self) -> None:
        if self._lifter is not None:
            self._lifter.wake()

    def _expedite(self, warrant: Warrant) -> int | None:
        """The proposal's way: the signal by us, now, and one worker afterwards."""
        assert self._expediter is not None
        sent_us = time.monotonic_ns() // 1000
        try:
            self._expediter.pidfd_send_signal(warrant.pidfd, SIGKILL, SS_EXPEDITE, tag=_Sent(warrant, sent_us))
        except OSError as error:
            # Not privileged: a plain SIGKILL is what is left, and says so.
            number = _send(warrant.pidfd, SIGKILL) if error.errno == errno.EPERM else error.errno or errno.EIO
            self._tell(self._result(warrant, SIGKILL, number, sent_us, errno.EPERM))
            return None if number else sent_us
        let_go(self._lift(warrant))
        self._wake_lifter()
        return sent_us

    def _note_expedited(self, done: Expedited) -> None:
        assert isinstance(done.tag, _Sent)
        warrant, sent_us = done.tag.warrant, done.tag.sent_us
        bytes_ = warrant.expected_bytes if done.reap_errno == 0 else 0
        self._tell(self._result(warrant, SIGKILL, 0, sent_us, done.reap_errno, bytes_))

    def _tell(self, result: ReapResult) -> None:
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


def _send(pidfd: int, number: int) -> int:
    try:
        pidfd_send_signal(pidfd, number)
    except OSError as error:
        return error.errno or errno.EIO
    return 0

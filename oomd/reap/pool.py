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
from oomd.kernel.sched import REAP_NICE, be_prompt
from oomd.kernel.syscalls import HAS_TIMER
from oomd.kernel.threads import Semaphore
from oomd.model.decision import Warrant
from oomd.reap.crowd import Cpus, Crowd
from oomd.reap.crowds import Crowds
from oomd.reap.dying import DYING, NO_LIMIT, is_dying
from oomd.reap.expedite import ExpediteReaper
from oomd.reap.expedited import ExpeditedKills
from oomd.reap.hindrance import Lifter, drop, let_go
from oomd.reap.motion import Motion, make_lift, send
from oomd.reap.mrelease import MreleaseReaper
from oomd.reap.results import Results
from oomd.reap.urgency import MOST_REALTIME_S, Urgency, demote, set_policy
from oomd.reap.workers import Turn, Workers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from oomd.model.decision import ReapResult
    from oomd.reap.base import Reaper
    from oomd.reap.workers import Job

SIGKILL = 9
WORKERS = 4
"""Threads that kill and reap. process_mrelease may hang in the victim's mmap lock: the others go on."""
HANDOFF_S = 0.001
"""How long it is waited until a worker has signalled: 20 to 60 µs where one is free; where every one is deep in the
kernel the signal goes from here. Waiting gives the interpreter's lock to the worker, which keeps it until the reap
begins; else it would get it only after whoever asks has gone on for a switch interval."""
UNDISTURBED_S = 0.0002
"""The interpreter's switch interval from the moment of asking until the reap has begun. Who has waited for one asks for
the lock, and then whoever gives it up for a system call waits until the other has taken it: a wake-up between signal
and reap, in which 4 to 15 % of small victims were gone. So it is given up just before: who waits, waits anew."""
MOMENT_US, EXPECTED_US = 1000, 5000
"""How long a reap may keep the caller from what it was at, before another thread goes on with that; and one that was
expected, from then on: the loop's waits end up to a millisecond late (epoll_wait(2)), and a look takes two or three."""
SOON_US = 300
"""The same where the victim is known to be hindered: until it is surely signalled, and whoever lifts that disturbs
nobody."""
ALONE_S, LAST_MS = 0.1, 50
"""On the only CPU nothing is gained by going on meanwhile: what the loop does, in real-time, the reap and the victim's
end would have to wait for. So it waits for both."""
_PROC = "/proc"


class ReaperPool:
    """Takes warrants, kills and reaps, several at once."""

    def __init__(self, reaper: Reaper, workers: int = WORKERS, *, for_loop: bool = False) -> None:
        """``for_loop``: one of its threads will be busy with the loop all the time, so there is one more."""
        self.reaper = reaper
        self._results = Results(reaper.name)
        self.fd = self._results.fd
        """Readable as soon as :meth:`take_results` has some."""
        self._proc_fd = os.open(_PROC, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self.workers = Workers(workers + for_loop, self._begin, self._work)
        self._ready = Semaphore(0)
        self._switch_interval_s = sys.getswitchinterval()
        alone = isinstance(reaper, ExpediteReaper) and not reaper.beneath
        self._lifter = Lifter(self._proc_fd, alone=alone) if reaper.lifts else None
        self._expedited = ExpeditedKills(reaper, self._results) if isinstance(reaper, ExpediteReaper) else None
        self._urgency = Urgency(self._lifter, self._proc_fd)
        self._cpus = Cpus(_PROC)
        at_once = min(workers, self._cpus.count)  # more gain nothing
        self._crowds = Crowds(
            reaper, self._results, self.workers, self._lifter, self._urgency, self._proc_fd, at_once=at_once
        )

    @property
    def realtime(self) -> bool:
        """Whether the threads could get a real-time class."""
        return self._urgency.permitted

    def start(self) -> None:
        """Start the workers, and wait until they know their scheduling class."""
        self._switch_interval_s = sys.getswitchinterval()
        for thread in self.workers.threads:
            thread.start()
        if self._lifter is not None:
            self._lifter.start()
        if self._expedited is not None:
            self._expedited.start()
        for _ in self.workers.threads:
            self._ready.acquire()
        self._results.realtime = self.realtime

    def stop(self) -> None:
        """End the workers after the work in hand."""
        for _ in self.workers.threads:
            self.workers.put(None)
        if self._lifter is not None:
            self._lifter.stop()
        if self._expedited is not None:
            self._expedited.stop()

    def close(self, patience_s: float = 5.0) -> bool:
        """End the workers, wait for it, and close our descriptors; whether all ended in time. A worker that hangs in
        the kernel keeps them open.
        """
        self.stop()
        end = time.monotonic() + patience_s
        helpers = [each.thread for each in (self._lifter, self._expedited) if each is not None]
        for thread in (*self.workers.threads, *helpers):
            thread.join(max(0.0, end - time.monotonic()))
            if thread.is_alive():
                return False
        self.workers.close()
        self._cpus.close()
        os.close(self._proc_fd)
        self._results.close()
        return True

    def submit(self, warrant: Warrant, number: int = SIGKILL) -> int | None:
        """Signal this one and reap it, in one motion. Raises OSError (EMFILE), and it was not signalled.

        When it was signalled (CLOCK_MONOTONIC, microseconds); None where that did not succeed, or has not yet.
        """
        if self._expedited is not None and number == SIGKILL:
            return self._expedite(warrant)
        return self.fire(self.arm(warrant, lifts=number == SIGKILL), number)

    def arm(self, warrant: Warrant, *, lifts: bool = True) -> Motion:
        """Make ready all that can be made before anybody is signalled: for :meth:`fire`, or :meth:`disarm`. Raises
        OSError (EMFILE).
        """
        motion = Motion(
            warrant, os.dup(warrant.pidfd), 0, make_lift(self._lifter, warrant, ahead=True) if lifts else None
        )
        motion.taken.acquire()
        return motion

    def expect(self, wait_us: int) -> None:
        """:meth:`fire` with ``go_on`` may follow after so long: have somebody look then whether the reap lasts. To say
        so just before the signal would take 40 µs.
        """
        if self._lifter is not None:
            self._lifter.wake_after(wait_us + EXPECTED_US)

    def disarm(self, motion: Motion) -> None:
        """Nobody is signalled."""
        for fd in (motion.pidfd, *(() if motion.lift is None else (motion.lift.pidfd,))):
            os.close(fd)

    def fire(self, motion: Motion, number: int, go_on: Callable[[], None] | None = None) -> int | None:
        """:meth:`submit` of what was made ready. With ``go_on`` the caller signals and reaps itself; should that last,
        another thread calls ``go_on`` in its place, which begins with :meth:`await_signal` and raises nothing. Whether
        that was so, says the motion.
        """
        if self._expedited is not None and number == SIGKILL:
            sent_us = self._expedite(motion.warrant)
            self.disarm(motion)
            return sent_us
        here = go_on if self._may_reap_here() else None  # asked before the lifter has anything to do
        spare = motion.lift if number != SIGKILL else None
        if spare is not None:
            motion.lift = None
        elif motion.lift is not None and self._lifter is not None:
            self._lifter.add(motion.lift)
        motion.signal = number
        sys.setswitchinterval(UNDISTURBED_S)
        if here is not None:
            self._fire_here(motion, here)
        else:
            self.workers.put(motion)
            self.await_signal(motion)
        if spare is not None:
            os.close(spare.pidfd)
        return motion.sent[0] if motion.sent else None

    def _may_reap_here(self) -> bool:
        """Not where nobody could go on should it last."""
        able = HAS_TIMER and isinstance(self.reaper, MreleaseReaper) and self.workers.has_free
        return able and self._lifter is not None and not self._lifter.is_busy

    def _fire_here(self, motion: Motion, go_on: Callable[[], None]) -> None:
        """Signal and reap; nobody is woken for it unless it lasts."""
        lifter = self._lifter
        assert lifter is not None

        def pass_on() -> None:
            if not motion.pass_on(lambda: self.workers.give(Turn(go_on))):
                lifter.call_later(time.monotonic() + MOST_REALTIME_S, pass_on)

        alone = self._cpus.count == 1
        lifter.call_later(time.monotonic() + ALONE_S if alone else 0.0, pass_on)
        try:
            if motion.warrant.hindrances:  # which are lifted at once
                lifter.wake_after(SOON_US)
            elif not MOMENT_US // 4 < lifter.wakes_us - time.monotonic_ns() // 1000 <= EXPECTED_US:
                lifter.wake_after(MOMENT_US)
            self._work(motion)
        finally:
            if not motion.end():
                sys.setswitchinterval(self._switch_interval_s)
                if alone and motion.ends:
                    is_readable(motion.warrant.pidfd, LAST_MS)

    def await_signal(self, motion: Motion) -> int | None:
        """Until whoever is to send it has; if that takes long it is sent from here. When that was, if it is known."""
        if not motion.taken.acquire(timeout=HANDOFF_S):
            self._signal_from_here(motion)
        sys.setswitchinterval(self._switch_interval_s)
        self._wake_lifter()
        return motion.sent[0] if motion.sent else None

    def reap_only(self, warrant: Warrant) -> None:
        """Reap a process that somebody else has killed; no signal is sent. Raises OSError (EMFILE)."""
        self.workers.put(Motion(warrant, os.dup(warrant.pidfd), 0, make_lift(self._lifter, warrant)))
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
            now_us = time.monotonic_ns() // 1000
            number = send(warrant.pidfd, SIGKILL)
            if number:
                self._results.tell(self._results.make(warrant, SIGKILL, number, now_us, errno.ESRCH))
                continue
            sent_us = sent_us or now_us
            signalled.append(warrant)
        if self._expedited is not None:
            for warrant in signalled:
                self._expedite(warrant)
        else:
            self._crowds.begin(signalled, max_bytes, watch=unhindered and len(signalled) >= self._cpus.count)
        return sent_us

    def take_results(self) -> list[ReapResult]:
        """What was done since the last call."""
        return self._results.take()

    def take_lifted(self, pid: int) -> tuple[str, ...]:
        """What was lifted for a victim, in words; once."""
        return self._lifter.take(pid) if self._lifter is not None else ()

    def _begin(self) -> None:
        be_prompt(REAP_NICE)
        self._urgency.ask()
        self._ready.release()

    def _work(self, job: Job) -> None:
        if isinstance(job, Turn):
            job.take()
            return
        if isinstance(job, Crowd):
            self._crowds.reap(job)
            return
        try:
            result = self._move(job)
        except OSError as error:  # no descriptor left, most likely: nothing may end a worker
            now_us = time.monotonic_ns() // 1000
            result = self._results.make(job.warrant, job.signal, 0, now_us, error.errno or errno.EIO)
        finally:
            os.close(job.pidfd)
        self._results.tell(result)

    def _move(self, motion: Motion) -> ReapResult:
        """Signal and reap in one motion, with nothing between them."""
        with motion.sending:
            ours = motion.claim()
        pid = motion.warrant.id.pid
        surely = motion.signal in (SIGKILL, 0)
        demoted = motion.signal == SIGKILL and not self.realtime and demote(pid, motion.pidfd)
        tid = self._urgency.enter(pid if surely else 0, motion.pidfd)
        if not ours or not motion.signal:
            self._wake_lifter()  # else whoever asked does, after the signal
        try:
            if ours and not demoted:
                is_readable(motion.pidfd)  # whoever waits has his turn now, and not in the middle: UNDISTURBED_S
            signal_errno, begin_us, reap_errno = self._strike(motion) if ours else self._reap_signalled(motion)
            motion.ends = not signal_errno and (surely or reap_errno in DYING)
            # What SIGTERM may not have ended is not touched before the reaper has said that it is dying.
            if signal_errno:
                drop(motion.lift)
            elif not surely and is_dying(self._proc_fd, pid, reap_errno):
                let_go(make_lift(self._lifter, motion.warrant, motion.pidfd))
                self._wake_lifter()
        finally:
            motion.let_go()
            self._urgency.leave(tid)
            if demoted and not is_readable(motion.pidfd):
                set_policy(pid, os.SCHED_OTHER)  # what is left of it should end quickly
        reaped = motion.warrant.expected_bytes if reap_errno == 0 else 0
        return self._results.make(motion.warrant, motion.signal, signal_errno, begin_us, reap_errno, reaped)

    def _strike(self, motion: Motion) -> tuple[int, int, int]:
        """The signal's errno, when it was sent, the reap's errno."""
        if isinstance(self.reaper, MreleaseReaper) and motion.signal:
            let_go(motion.lift)  # a moment early, because between signal and reap there must be nothing
            return self.reaper.strike(motion.pidfd, motion.signal, motion.note_sent)
        sent_us = time.monotonic_ns() // 1000
        if motion.signal:
            motion.signal_errno = send(motion.pidfd, motion.signal)
        motion.note_sent(sent_us)
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
            sent_us = time.monotonic_ns() // 1000
            motion.signal_errno = send(motion.pidfd, motion.signal)
            motion.sent.append(sent_us)
        if motion.signal == SIGKILL:
            (drop if motion.signal_errno else let_go)(motion.lift)

    def _wake_lifter(self) -> None:
        if self._lifter is not None:
            self._lifter.wake()

    def _expedite(self, warrant: Warrant) -> int | None:
        """The proposal's way."""
        assert self._expedited is not None
        sent_us, hastened = self._expedited.kill(warrant)
        if hastened:
            let_go(make_lift(self._lifter, warrant))
            self._wake_lifter()
        return sent_us

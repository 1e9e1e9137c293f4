"""Walk victims from SIGTERM through grace to SIGKILL, several at once, never blocking.

A kill under way is a value (Credit) in the engine's state; this module holds what cannot be a value: warrants, their
pidfds, and the reaper's results.
"""

from __future__ import annotations

import errno
import os
import time

from oomd.engine import credit as credits
from oomd.engine.aftermath import learned, refused, settled, why_kill_now, with_credit
from oomd.kernel.pidfd import open_pidfd
from oomd.kernel.syscalls import pidfd_send_signal
from oomd.kill.warrant import GONE, NOT_PERMITTED
from oomd.model.decision import KILL, TERM, Decision, KillOutcome
from oomd.model.placement import unit_path
from oomd.model.snapshot import ProcessId
from oomd.model.values import dataclass, replace
from oomd.reap.dying import DYING
from oomd.reap.workers import Turn

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable
    from typing import Protocol

    from oomd.kill.tally import Counted, Tally
    from oomd.kill.warrant import Gate
    from oomd.kill.whole import WholeCgroups
    from oomd.model.decision import Candidate, Credit, Detection, ReapResult, Warrant
    from oomd.model.ruleset import EngineState
    from oomd.model.snapshot import MemoryStatus, Process
    from oomd.reap.motion import Motion
    from oomd.reap.pool import ReaperPool

    class Watches(Protocol):
        """Where pidfds are waited for."""

        def watch(self, fd: int, key: Hashable, events: int = ...) -> None:
            """Wake up when ``fd`` is ready."""

        def unwatch(self, fd: int) -> None:
            """Forget it."""


SIGTERM = 15
SIGKILL = 9


@dataclass(slots=True)
class Aim:
    """One that is to be signalled in this moment."""

    warrant: Warrant
    process: Process
    action: str
    motion: Motion | None
    """Its signal, made ready; None where no descriptor was left for that."""
    counts: bool
    """Whether it belongs to a unit that may have to be told."""
    counted: Counted = ()
    """The cgroups of its units that were told why it ends (:meth:`Executor.count_ooms`)."""


@dataclass(frozen=True, slots=True)
class Escalation:
    """A victim that was asked to go and is killed now."""

    decision_id: str
    process: Process
    why: str


class Executor:
    """Carries decisions out. Every method takes the engine's state and returns the next one."""

    def __init__(self, gate: Gate | None, reaper: ReaperPool | None, watches: Watches) -> None:
        """Without a gate and a reaper it is a dry run: decisions get their credit, nobody is signalled."""
        self._gate = gate
        self._reaper = reaper
        self._watches = watches
        self._warrants: dict[ProcessId, Warrant] = {}
        self._awaited: dict[ProcessId, int] = {}
        """Pidfds of processes that somebody else killed: we only wait for them."""
        self._reaping: set[ProcessId] = set()
        """Handed to the reaper, whose result has not come yet."""
        self._reaped: dict[ProcessId, ReapResult] = {}
        self.on_result: Callable[[ReapResult], None] | None = None
        """Told of every result of the reaper before it counts."""
        self.tally: Tally | None = None
        """Counts on the cgroups of units; None where nobody does."""
        self.whole: WholeCgroups | None = None
        """Kills whole cgroups by one write; None where that cannot be done."""
        self.sent_us: int | None = None
        """When the first signal since it was set to None was sent (CLOCK_MONOTONIC); None where that is not known yet.
        """

    @property
    def dry_run(self) -> bool:
        """Whether nobody is ever signalled."""
        return self._gate is None

    def take_aim(self, decision: Decision, stat_fd: int = -1) -> Aim:
        """At the decision's victim, under warrant: for :meth:`strike`, and :meth:`start` with ``signalled`` after that.
        Raises Refused when the victim may not be touched: choose another.
        """
        assert decision.target is not None
        process = decision.target.process
        return self.arm(self.grant(process, stat_fd), process, decision.action)

    def arm(self, warrant: Warrant, process: Process, action: str = KILL) -> Aim:
        """Whatever can be made ready for the signal, for :meth:`strike` or :meth:`disarm`."""
        assert self._reaper is not None
        counts = self.tally is not None and bool(unit_path(process.cgroup))
        try:
            return Aim(warrant, process, action, self._reaper.arm(warrant), counts)
        except OSError:
            return Aim(warrant, process, action, None, counts)

    def disarm(self, motion: Motion) -> None:
        """It does not come to a signal."""
        assert self._reaper is not None
        self._reaper.disarm(motion)

    def strike(self, aim: Aim, go_on: Callable[[], None] | None = None) -> bool:
        """Signal one that is under warrant; :meth:`start` follows, with ``signalled``. With ``go_on`` the caller may
        signal and reap itself, and where that lasts another thread calls it meanwhile, which begins with
        :meth:`note_struck`. Whether that is so.
        """
        if aim.counts:
            aim.counted = self.count_ooms((aim.process,))
        self._submit(aim.warrant, SIGKILL if aim.action == KILL else SIGTERM, aim.motion, go_on)
        if aim.motion is not None and aim.motion.is_passed:
            return True
        self.count_kills(aim.counted)
        return False

    def expect(self, wait_us: int) -> None:
        """:meth:`strike` may follow after so long."""
        if self._reaper is not None:
            self._reaper.expect(wait_us)

    def note_struck(self, aim: Aim) -> None:
        """What another thread was about to strike as this one was told to go on is signalled now."""
        assert self._reaper is not None
        assert aim.motion is not None
        sent_us = self._reaper.await_signal(aim.motion)  # of every one: it puts back what asking has set
        self.sent_us = self.sent_us or sent_us
        self._reaping.add(aim.warrant.id)
        self.count_kills(aim.counted)

    def hand_over(self, go_on: Callable[[], None]) -> bool:
        """Have one of the reapers' threads call this, and the others as :meth:`strike` says; False where there are
        none.
        """
        return self._reaper is not None and self._reaper.workers.give(Turn(go_on))

    def count_ooms(self, processes: tuple[Process, ...]) -> Counted:
        """Before these, all under warrant, are signalled: tell their units' manager why they end."""
        return self.tally.count_ooms(processes) if self.tally is not None else ()

    def count_kills(self, counted: Counted) -> None:
        """After it."""
        if self.tally is not None:
            self.tally.count_kills(counted)

    def grant(self, process: Process, stat_fd: int = -1) -> Warrant:
        """A warrant for this process, or Refused."""
        assert self._gate is not None
        return self._gate.grant(process, stat_fd)

    def start(
        self, decision_id: str, decision: Decision, warrant: Warrant, state: EngineState, *, signalled: bool = False
    ) -> EngineState:
        """The same for one that is under warrant already, and with ``signalled`` got its signal (by :meth:`kill_all` or
        :meth:`strike`). Raises Refused when it may not be signalled, or is gone.
        """
        victim = decision.target
        assert victim is not None
        phase = decision.action
        if not signalled:
            self._submit(warrant, SIGKILL if phase == KILL else SIGTERM)
        self._warrants[warrant.id] = warrant
        self._watches.watch(warrant.pidfd, ("victim", warrant.id))
        patience_us = decision.grace_us if phase == TERM else None
        opened = credits.open_credit(decision_id, victim, decision.ruleset, phase, decision.status, patience_us)
        if phase == KILL:
            state = replace(state, history=())  # stall from before this kill must not count for the next one
        return with_credit(state, opened)

    def kill_all(self, warrants: list[Warrant]) -> None:
        """SIGKILL to all of them before the first is reaped: nobody lives on to fork what the others lost."""
        if len(warrants) == 1:
            self._submit(warrants[0], SIGKILL)
        elif warrants:
            assert self._reaper is not None
            self._reaping.update(warrant.id for warrant in warrants)
            sent_us = self._reaper.kill_all(tuple(warrants))
            self.sent_us = self.sent_us or sent_us

    def kill_whole(self, decision: Decision, granted: Iterable[Warrant] = ()) -> bool:
        """The whole cgroup of this decision by one write, newcomers too, where its ladder says so and everybody in it
        is under warrant; whether that was done. Signals follow in any case. ``granted``: who was not signalled yet.
        """
        if not decision.whole_cgroup or self.whole is None or decision.target is None:
            return False
        return self.whole.kill(decision.target, (*self._warrants.values(), *granted))

    def await_death(self, decision_id: str, victim: Candidate, status: MemoryStatus, state: EngineState) -> EngineState:
        """Wait for a process that somebody else killed, with credit and without touching it."""
        opened = credits.open_credit(decision_id, victim, "", KILL, status)
        if self.dry_run:
            return with_credit(state, opened)  # the pid may be of another machine's tree
        pidfd = open_pidfd(victim.process.id.pid)
        if pidfd is None:
            return refused(state, victim.process.id, GONE)
        self._awaited[victim.process.id] = pidfd
        self._watches.watch(pidfd, ("victim", victim.process.id))
        return with_credit(state, opened)

    def escalate(
        self, detections: tuple[Detection, ...], status: MemoryStatus, state: EngineState
    ) -> tuple[tuple[Escalation, ...], Aim | None, EngineState]:
        """SIGKILL for victims whose grace is over, or is cut short: for :meth:`strike` where it is a single one."""
        escalations, due = [], []
        for credit in state.credits:
            why = why_kill_now(credit, detections, status)
            warrant = self._warrants.get(credit.process.id)
            if why and warrant is not None:
                due.append(warrant)
                state = replace(with_credit(state, credits.killed(credit, status.time_us)), history=())
                escalations.append(Escalation(credit.decision_id, credit.process, why))
        aim = self.arm(due[0], escalations[0].process) if len(due) == 1 else None
        if aim is None:
            self.kill_all(due)
        else:
            aim.counts = False  # it was, when it was asked to go
        return tuple(escalations), aim, state

    def note_death(self, process_id: ProcessId, now_us: int, state: EngineState) -> EngineState:
        """A victim's pidfd became readable: it is dead."""
        self._unwatch(process_id)
        for credit in state.credits:
            if credit.process.id == process_id and credit.phase != credits.DEAD:
                return with_credit(state, credits.died(credit, now_us))
        return state

    def note_reaped(self, state: EngineState) -> tuple[tuple[KillOutcome, ...], EngineState]:
        """Take the reaper's results; a SIGKILL that was not permitted ends that kill, and another victim is chosen."""
        outcomes: list[KillOutcome] = []
        for result in self._reaper.take_results() if self._reaper is not None else ():
            self._reaping.discard(result.id)
            if self.on_result is not None:
                self.on_result(result)
            if _credit_of(result.id, state) is None:
                continue  # its kill was closed at the deadline; the result comes too late to be told
            self._reaped[result.id] = result
            if result.signal_errno == 0:
                state = _with_result(state, result)
            if result.signal_errno not in (0, errno.ESRCH):
                outcomes.extend(
                    self._outcome(credit, "not_permitted") for credit in state.credits if credit.process.id == result.id
                )
                state = refused(state, result.id, NOT_PERMITTED)
                self._release(result.id)
        return tuple(outcomes), state

    def note_hastened(self, result: ReapResult, state: EngineState) -> EngineState:
        """A process that somebody else killed was reaped: where its end is awaited, its credit learns of it."""
        if _credit_of(result.id, state) is None:
            return state
        self._reaped[result.id] = result
        return _with_result(state, result)

    def settle(self, status: MemoryStatus, state: EngineState) -> tuple[tuple[KillOutcome, ...], EngineState]:
        """Close the kills of which nothing more is to be expected."""
        outcomes: list[KillOutcome] = []
        done, state = settled(state, status.time_us, busy=frozenset(self._reaping), dry_run=self.dry_run)
        for credit in done:
            outcomes.append(self._outcome(credit, self._status_of(credit)))
            state = learned(state, credit, status)
            self._release(credit.process.id)
        return tuple(outcomes), state

    def conclude(self, state: EngineState) -> tuple[KillOutcome, ...]:
        """What came of the kills under way until now, because nobody will look again."""
        return tuple(self._outcome(credit, self._status_of(credit)) for credit in state.credits)

    def close(self) -> None:
        """Let go of every victim."""
        for process_id in [*self._warrants, *self._awaited]:
            self._release(process_id)

    def _submit(
        self,
        warrant: Warrant,
        number: int,
        motion: Motion | None = None,
        go_on: Callable[[], None] | None = None,
    ) -> None:
        assert self._reaper is not None
        try:
            if motion is None:
                sent_us = self._reaper.submit(warrant, number)
            else:
                sent_us = self._reaper.fire(motion, number, go_on)
                if motion.is_passed:
                    return  # all that is ours is another thread's now
            self.sent_us = self.sent_us or sent_us
            self._reaping.add(warrant.id)
        except OSError:  # no descriptor left for the reaper's copy: a kill without a reap is better than none
            try:
                pidfd_send_signal(warrant.pidfd, number)
                self.sent_us = self.sent_us or time.monotonic_ns() // 1000
            except OSError:
                pass

    def _status_of(self, credit: Credit) -> str:
        if self.dry_run:
            return "dry_run"
        if not credits.is_stripped(credit):
            return "timed_out"
        result = self._reaped.get(credit.process.id)
        if result is not None and result.signal_errno == errno.ESRCH:
            return "already_gone"
        return "killed" if credit.kill_us is not None else "exited"

    def _outcome(self, credit: Credit, status: str) -> KillOutcome:
        result = self._reaped.get(credit.process.id)
        warrant = self._warrants.get(credit.process.id)
        signalled = credit.kill_us if credit.kill_us is not None else credit.signal_us
        if result is not None and result.signal and result.signal_us:
            signalled = result.signal_us
        if self.dry_run:  # what became free meanwhile is not what a kill brought
            credit = replace(credit, returned_bytes=0, returned_swap_bytes=0, memory_us=None)
        return KillOutcome(
            decision_id=credit.decision_id,
            process=credit.process,
            status=status,
            detail="" if credit.ruleset or self.dry_run else "killed by somebody else",
            signal_to_death_us=None if credit.death_us is None else max(0, credit.death_us - signalled),
            signal_to_memory_us=None if credit.memory_us is None else max(0, credit.memory_us - signalled),
            expected_bytes=credit.expected_bytes + credit.expected_swap_bytes,
            returned_bytes=credit.returned_bytes + credit.returned_swap_bytes,
            reap_backend=result.backend if result is not None else "",
            reap_errno=result.reap_errno if result is not None else None,
            reap_us=result.reap_us if result is not None else None,
            hindrances=warrant.hindrances if warrant is not None else (),
            lifted=self._reaper.take_lifted(credit.process.id.pid) if self._reaper is not None else (),
            ruleset=credit.ruleset,
            signal=_last_signal(credit) if warrant is not None else "",
            signalled_us=(result.signal_us or None) if result is not None and result.signal else None,
        )

    def _unwatch(self, process_id: ProcessId) -> None:
        warrant = self._warrants.get(process_id)
        pidfd = warrant.pidfd if warrant is not None else self._awaited.get(process_id)
        if pidfd is not None:
            self._watches.unwatch(pidfd)

    def _release(self, process_id: ProcessId) -> None:
        self._unwatch(process_id)
        warrant = self._warrants.pop(process_id, None)
        pidfd = warrant.pidfd if warrant is not None else self._awaited.pop(process_id, None)
        if pidfd is not None:
            os.close(pidfd)
        self._reaped.pop(process_id, None)


def _with_result(state: EngineState, result: ReapResult) -> EngineState:
    """What the reaper's answer means: stripped; or, after SIGTERM, that this was the end of it."""
    credit = next(credit for credit in state.credits if credit.process.id == result.id)
    if result.signal == SIGTERM and result.reap_errno in DYING:
        credit = credits.doomed(credit, result.signal_us)
    if result.reap_errno == 0:
        credit = credits.stripped(credit, result.signal_us + result.reap_us)
    return with_credit(state, credit)


def _last_signal(credit: Credit) -> str:
    return "SIGKILL" if credit.kill_us is not None else "SIGTERM"


def _credit_of(process_id: ProcessId, state: EngineState) -> Credit | None:
    return next((credit for credit in state.credits if credit.process.id == process_id), None)

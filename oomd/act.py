"""Carries out what was decided: kill → reap → report, and what follows from it for the engine's state."""

from __future__ import annotations

import time

from oomd.engine.aftermath import acted, refused
from oomd.engine.detection import initial_state
from oomd.engine.holding import is_critical
from oomd.engine.ladder import begun, is_possible, next_due, signalled, through
from oomd.engine.levels import parts_of
from oomd.engine.pacing import HURRIED_COST
from oomd.engine.selection import completed, most_of, where_memory_is
from oomd.hooking import Hooking
from oomd.kill.targets import begin_all, shares_with, sweep, with_sharers
from oomd.kill.warrant import Refused
from oomd.ladders import Ladders
from oomd.model.decision import KILL, NO_ACTION, NOTIFY, TERM, Times
from oomd.model.report import plain_decision, plain_outcome, plain_times
from oomd.model.units import SECOND_US
from oomd.model.values import replace
from oomd.parts import clock_us

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Generator
    from typing import TypeVar

    from oomd.foresight import Struck
    from oomd.kill.executor import Aim
    from oomd.model.decision import Candidate, Decision, Detection, KillOutcome
    from oomd.model.ruleset import EngineState, Rules
    from oomd.model.snapshot import MemoryStatus, ProcessId
    from oomd.parts import Parts
    from oomd.search import Search

    Result = TypeVar("Result")
    Steps = Generator[Aim, None, Result]
    """What is to be done, and who is to be signalled (:meth:`oomd.kill.executor.Executor.strike`) before it goes on,
    in whichever thread.
    """

MOST_TRIES = 8
"""Candidates that are tried in one tick when warrants are refused."""
NOBODY_US = 500_000
"""How long nobody is looked for when a moment ago nobody could be killed."""
REPEAT_US = 10 * SECOND_US
"""How often the same "nobody may be killed" or "resting" is told."""

_NO_FIGURES = {ord(sign): None for sign in "0123456789."}
"""The same words with other figures are no news."""


class Act:
    """Owns the engine's state and every kill under way. One instance per loop."""

    def __init__(self, parts: Parts, rules: Rules, search: Search) -> None:
        self.parts = parts
        self.rules = rules
        self.state: EngineState = initial_state(rules)
        self.decisions = 0
        self.last_id = ""
        """Of the decision that was told last, or whose victim is waited for."""
        self.nobody_until_us = 0
        self.times = Times(0, 0, 0)
        """When this tick began, and when memory was read."""
        self.ladders = parts.ladders or Ladders(self.tell)
        self.hooking = Hooking(None if parts.executor.dry_run else parts.ask, self.tell, self._next_id)
        self.worth_writing = False
        """Whether something happened that a recording should tell soon."""
        self._search = search
        self._told = ("", 0)
        self._sets: dict[str, Decision] = {}
        """Kills under way of several processes as one, by id."""

    def note_death(self, process: ProcessId, now_us: int) -> None:
        """A victim's pidfd became readable."""
        self.state = self.parts.executor.note_death(process, now_us, self.state)
        if self.parts.tape is not None:
            self.parts.tape.note_death(process, now_us)
        self.parts.table.bury(process.pid)

    def note_reaped(self) -> None:
        """The reaper has results."""
        outcomes, self.state = self.parts.executor.note_reaped(self.state)
        self.tell_outcomes(outcomes)
        self.condemn_the_doomed()

    def conclude(self) -> None:
        """The daemon ends: what is under way is told as it stands."""
        self.tell_outcomes(self.parts.executor.conclude(self.state))
        self.hooking.note_outcomes((), set())

    def note_steps(self, now_us: int) -> None:
        """Gentle steps have results."""
        for ruleset, due_us, done_us in self.ladders.note_results(now_us):
            self.state = through(self.state, self.rules, ruleset, due_us, done_us)
            if self.parts.tape is not None:
                self.parts.tape.note_through(ruleset, due_us, done_us)

    def at_once(self, steps: Steps[Result]) -> Result:
        """Take these steps, with whoever is to be signalled signalled by another thread while this one waits."""
        while True:
            try:
                aim = next(steps)
            except StopIteration as end:
                result: Result = end.value
                return result
            self.parts.executor.strike(aim)

    def carry_out(self, decision: Decision) -> Steps[Decision | None]:
        """What was decided in the end, where somebody may not be touched; None while it waits for a measurement or for
        hooks.
        """
        if decision.step is not None:
            decision = self._climb(decision)
        if decision.action not in (TERM, KILL):
            self._note_nobody(decision)
            return decision
        self.hooking.touch()
        ready = None if self._search.must_wait(decision) else self.hooking.hold(decision, self.rules)
        if ready is None:
            if self.parts.tape is not None:
                self.parts.tape.note_held()
            return None
        decision = ready
        for _ in range(MOST_TRIES):
            if decision.target is None or decision.action not in (TERM, KILL) or (yield from self.attempt(decision)):
                break
            decision = self._search.select(self.rules, self.state, decision.detections, decision.status)
            self.hooking.tell(decision, self.rules)
            if decision.action not in (TERM, KILL) and decision.step is None:
                self._note_nobody(decision)
                self._record(decision)  # told or not: who was there before is not any more
                return decision
        else:
            reason = f"{MOST_TRIES} victims in turn could not be had"
            decision = replace(decision, action=NO_ACTION, target=None, reason=reason)
        if decision.action not in (TERM, KILL) and self.parts.tape is not None:
            self.parts.tape.note_held()  # what is due now is done at the next tick
        return decision

    def _note_nobody(self, decision: Decision) -> None:
        """Nobody is to be signalled; one that dies by itself, or by somebody else's hand, is waited for."""
        if decision.action == NOTIFY:
            cost_us = clock_us() - decision.status.time_us
            self.nobody_until_us = decision.status.time_us + max(NOBODY_US, HURRIED_COST * cost_us)
            self._tell_seldom(decision)
        elif decision.action == NO_ACTION and decision.target is not None:
            identity = self.last_id = self._next_id()
            self.state = self.parts.executor.await_death(identity, decision.target, decision.status, self.state)
            self._record(decision)

    def _climb(self, decision: Decision) -> Decision:
        """A gentle step; where there is nobody for it the next one, at once. What is to be done besides: mostly
        nothing.
        """
        while decision.step is not None:
            ruleset = next(each for each in self.rules.rulesets if each.name == decision.ruleset)
            identity = self._next_id()
            self.state = begun(self.state, self.rules, decision, identity)
            self.times = replace(self.times, decided_us=clock_us(), scans=self._search.scans)
            self._tell_decision(identity, decision, None)
            memory = self.state.rulesets[self.rules.rulesets.index(ruleset)]
            self.ladders.begin(identity, decision, ruleset, memory.ladder)
            self._record(decision)
            if is_possible(decision):
                return replace(decision, action=NO_ACTION, target=None)
            decision = self._search.select(self.rules, self.state, next_due(self.rules, decision), decision.status)
        return decision

    def attempt(self, decision: Decision) -> Steps[bool]:
        """Carry it out. False when the victim may not be touched or is gone: it is left out, and another is chosen."""
        victim = decision.target
        assert victim is not None
        told, hooks_us = self.hooking.begin(decision)
        self.times = replace(self.times, decided_us=clock_us(), hooks_us=hooks_us, scans=self._search.scans)
        self.parts.executor.sent_us = None
        identity = told or self._next_id()
        parts = parts_of(victim)
        if decision.action == KILL and not self.parts.executor.dry_run:
            for part in parts:  # before the signal: a reader of its maps would hold its memory
                self._search.condemn(part.process.id)
        self.ladders.before_signal(decision)
        aim = None
        try:
            alone = len(parts) == 1 and not decision.whole_cgroup
            if alone:
                decision = with_sharers(decision, self._search.sharers(victim.process), most_of(self.rules, decision))
                parts = parts_of(decision.target or victim)
            if alone and len(parts) == 1 and not self.parts.executor.dry_run:
                aim = self.parts.executor.take_aim(decision, self._search.stat_fd(victim.process.id))
            else:
                self.state = begin_all(self.parts.executor, identity, decision, parts, self.state, self._search.stat_fd)
        except Refused as verdict:
            self._note_refusal(identity, victim, parts, verdict)
            return False
        if aim is not None:
            yield aim
            self.state = self.parts.executor.start(identity, decision, aim.warrant, self.state, signalled=True)
        self._signalled(identity, decision, parts)
        return True

    def complete(self, struck: Struck, status: MemoryStatus, detections: tuple[Detection, ...]) -> None:
        """What was foreseen was done a moment ago: open its credit, and tell."""
        decision = completed(struck.decision, status, detections)
        assert decision.target is not None
        identity = self._next_id()
        self.times = replace(self.times, decided_us=struck.decided_us, scans=self._search.scans)
        self._search.seen = struck.snapshot
        self.state = self.parts.executor.start(identity, decision, struck.warrant, self.state, signalled=True)
        self._signalled(identity, decision, parts_of(decision.target))

    def _signalled(self, identity: str, decision: Decision, parts: tuple[Candidate, ...]) -> None:
        if decision.action == KILL and not self.parts.executor.dry_run:
            for part in parts:
                self._condemn(part.process.id.pid)
        if len(parts) > 1 or decision.whole_cgroup:
            self._sets[identity] = decision
            self._sweep(identity)
        self._rest(decision)
        self._note_signal(decision)
        self.hooking.note_signal(identity, decision, self.rules)
        self._tell_decision(identity, decision, self.parts.executor.sent_us)
        self._record(decision)

    def _note_signal(self, decision: Decision) -> None:
        """Gentle steps of this ruleset are over."""
        self.state = signalled(self.state, self.rules, decision.ruleset)
        self.ladders.after_signal(decision, critical=is_critical(decision))

    def _record(self, decision: Decision) -> None:
        tape = self.parts.tape
        if tape is not None and self._search.seen is not None:
            tape.note_decision(decision, self._search.seen, self.state)
            self.worth_writing = True

    def hand_out(self, *, everything: bool = False) -> None:
        """Have what was seen so far written, if anybody records: as much as takes a moment, unless it is the end; the
        rest follows at the next ticks.
        """
        self.worth_writing = self.parts.tape is not None
        while self.parts.tape is not None and self.worth_writing:
            parts, self.worth_writing = self.parts.tape.drain()
            for number, ticks in enumerate(parts, 1):
                self.tell("seen", packed=ticks, last=number == len(parts) and not self.worth_writing)
            if not everything:
                return

    def _note_refusal(self, identity: str, victim: Candidate, parts: tuple[Candidate, ...], verdict: Refused) -> None:
        """Leave out who may not be touched; for one that merely shares the victim's memory, the victim."""
        process = next((each.process for each in parts if each.process.id == verdict.who), victim.process)
        why = str(verdict)
        if process not in victim.processes:
            process, why = victim.process, shares_with(process, why)
        self.state = refused(self.state, process.id, why)
        if self.parts.tape is not None:
            self.parts.tape.note_refused(process.id, why)
        self.tell("refused", id=identity, pid=process.id.pid, comm=process.comm, why=why)

    def _sweep(self, identity: str) -> None:
        """Whoever was forked while a set was being killed goes too."""
        decision = self._sets.get(identity)
        if decision is None or decision.action != KILL or self.parts.executor.dry_run:
            return
        before = self.state.credits
        self.parts.executor.kill_whole(decision)

        def late(state: EngineState) -> tuple[Candidate, ...]:
            return self._search.late(self.rules, decision, state)

        self.state = sweep(self.parts.executor, identity, decision, self.state, late)
        for credit in self.state.credits:
            if credit not in before:
                self._condemn(credit.process.id.pid)

    def _rest(self, decision: Decision) -> None:
        for ruleset in self.rules.rulesets:
            if ruleset.name == decision.ruleset and ruleset.pause_us:
                names = tuple(each.name for each in self.rules.rulesets)
                until = decision.status.time_us + ruleset.pause_us
                self.state = acted(self.state, ruleset.name, names, until)

    def _condemn(self, pid: int) -> None:
        """From SIGKILL on nobody looks at the victim: readers hold its memory."""
        row = self.parts.table.rows.get(pid)
        if row is not None:
            self._search.condemn(row.id)
        self.parts.table.condemn(pid)

    def condemn_the_doomed(self) -> None:
        """SIGTERM may have been the end of it as well; and what the reaper has stripped owns nothing any more."""
        for credit in self.state.credits:
            if credit.phase == KILL:
                self._condemn(credit.process.id.pid)
            if credit.reaped_us is not None:
                self.parts.table.bury(credit.process.id.pid)

    def _next_id(self) -> str:
        self.decisions += 1
        return f"{self.decisions}"

    def tell_outcomes(self, outcomes: tuple[KillOutcome, ...]) -> None:
        for outcome in outcomes:
            self.parts.table.bury(outcome.process.id.pid)
            self.tell("outcome", id=outcome.decision_id, **plain_outcome(outcome))
            self.worth_writing = True
        under_way = {credit.decision_id for credit in self.state.credits}
        self.hooking.note_outcomes(outcomes, under_way)
        self._sets = {identity: each for identity, each in self._sets.items() if identity in under_way}

    def _tell_seldom(self, decision: Decision) -> None:
        text, until = self._told
        words = decision.reason.translate(_NO_FIGURES)
        if words != text or decision.status.time_us >= until:
            self._told = (words, decision.status.time_us + REPEAT_US)
            self.times = replace(self.times, decided_us=clock_us(), scans=self._search.scans)
            self._tell_decision(self._next_id(), decision, None)
            self._record(decision)

    def _tell_decision(self, identity: str, decision: Decision, signalled_us: int | None) -> None:
        self.last_id = identity
        times = plain_times(replace(self.times, signalled_us=signalled_us))
        dry_run = self.parts.executor.dry_run
        self.tell("decision", id=identity, dry_run=dry_run, times=times, **plain_decision(decision))

    def tell(self, event: str, **content: object) -> None:
        self.parts.report({"event": event, "time": time.time(), **content})

    def advance(self, detections: tuple[Detection, ...], status: MemoryStatus) -> Steps[bool]:
        """Kills under way: grace over, memory back, deadline passed. True when somebody was killed just now: what was
        detected before that does not count for the next one.
        """
        self.ladders.advance(detections, status, self.state)
        look = None if self.parts.cgroups is None else self.parts.cgroups.choice
        self.ladders.prober.tend(self.rules.proactive, detections, status, look, self.ladders.steps)
        self.hooking.advance()
        if not self.state.credits:
            return False
        resting = self.state.resting_until_us
        escalations, aim, self.state = self.parts.executor.escalate(detections, status, self.state)
        if aim is not None:
            yield aim
        for escalation in escalations:
            self._condemn(escalation.process.id.pid)
            if self.parts.tape is not None:
                self.parts.tape.note_escalated(escalation.process.id, escalation.why)
            self.tell("escalation", id=escalation.decision_id, pid=escalation.process.id.pid, why=escalation.why)
        for identity in {escalation.decision_id for escalation in escalations} & self._sets.keys():
            self._sets[identity] = replace(self._sets[identity], action=KILL)
            self._sweep(identity)
        if escalations and self.parts.tape is not None:
            self.parts.tape.note_state(self.state)
        outcomes, self.state = self.parts.executor.settle(status, self.state)
        self.tell_outcomes(outcomes)
        if self.state.resting_until_us != resting:
            self.tell(
                "note",
                text=f"kills return almost nothing; the memory is in: {where_memory_is(status)}; resting",
            )
        return bool(escalations)

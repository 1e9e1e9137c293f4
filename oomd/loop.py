"""The journey: wait → observe → detect → select → kill → reap → report."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

from oomd.engine.aftermath import acted, refused
from oomd.engine.detection import among_of, initial_state, observe, reloaded_state, wants_of
from oomd.engine.levels import parts_of
from oomd.engine.pacing import Pace, pace
from oomd.engine.preferences import prepare, wanted_of
from oomd.engine.selection import fired, may_add, where_memory_is
from oomd.kill.targets import begin_all, shares_with, sweep, with_sharers
from oomd.kill.warrant import Refused
from oomd.model.decision import KILL, NO_ACTION, NOTIFY, TERM, Decision, Detection, KillOutcome
from oomd.model.report import plain_decision, plain_outcome
from oomd.model.snapshot import Budget
from oomd.model.units import SECOND_US, format_size
from oomd.search import Search

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from oomd.kill.executor import Executor
    from oomd.model.decision import Candidate
    from oomd.model.report import Plain
    from oomd.model.ruleset import EngineState, Rules
    from oomd.model.snapshot import MemoryStatus
    from oomd.monitor.facts import FactsReader
    from oomd.monitor.process_table import ProcessTable
    from oomd.monitor.sampler import Sampler
    from oomd.monitor.sharing import SharingMeter
    from oomd.monitor.tape import Tape
    from oomd.monitor.waiter import Waiter
    from oomd.monitor.watch import CgroupWatch

ALERTED_US = 5 * SECOND_US
"""How long a pressure trigger keeps the loop attentive."""
MOST_TRIES = 8
"""Candidates that are tried in one tick when warrants are refused."""
NOBODY_US = 500_000
"""How long nobody is looked for when a moment ago nobody could be killed."""
REPEAT_US = 10 * SECOND_US
"""How often the same "nobody may be killed" or "resting" is told."""


_NO_FIGURES = {ord(sign): None for sign in "0123456789."}
"""The same words with other figures are no news."""


def clock_us() -> int:
    """CLOCK_MONOTONIC in microseconds."""
    return time.monotonic_ns() // 1000


@dataclass(frozen=True, slots=True)
class Parts:
    """The loop's collaborators, built by the composition root."""

    waiter: Waiter
    sampler: Sampler
    table: ProcessTable
    sharing: SharingMeter
    executor: Executor
    on_event: Callable[[Hashable, bool], None]
    """Everything that wakes the loop and is not a victim, the reaper or memory pressure: signals, the outside,
    children.
    """
    report: Callable[[Plain], object]
    on_tick: Callable[[int], None]
    """Called at the end of every tick with its time: the watchdog is fed by real progress."""
    limit_bytes: int | None = None
    """The budget."""
    read_cgroup_usage: Callable[[], int] | None = None
    cgroup: str = ""
    triggers: bool = False
    """Whether pressure triggers wake the loop."""
    cgroups: CgroupWatch | None = None
    """None where no rule may look at cgroups."""
    longest_us: int = 0
    """The longest wait that the watchdog allows; 0 for any."""
    facts: FactsReader | None = None
    """Reads what only preferences ask for; None where nobody needs it."""
    tape: Tape | None = None
    """Where everything that was seen is kept for a recording; None where nobody records."""


class Loop:
    """Watches, decides, kills. One instance per daemon."""

    def __init__(self, parts: Parts, rules: Rules) -> None:
        self.parts = parts
        self.rules = rules
        self.state: EngineState = initial_state(rules)
        self.pace = Pace(0, warm=False, interval_us=0)
        self.stopping = False
        self.decisions = 0
        self._alerted_until_us = 0
        self._told = ("", 0)
        self._nobody_until_us = 0
        self._search = Search(parts.table, parts.sharing, parts.facts, parts.cgroups, clock_us)
        self._worth_writing = False
        """Whether something happened that a recording should tell soon."""
        self._sets: dict[str, Decision] = {}
        """Kills under way of several processes as one, by id."""
        self._want()

    def run(self) -> None:
        """Tick until somebody sets :attr:`stopping`."""
        while not self.stopping:
            self.tick()
        self._take(self.parts.waiter.wait_ready(0))
        self._tell_outcomes(self.parts.executor.conclude(self.state))  # what ends us may be the very victim

    def tick(self) -> None:
        """One round of the journey."""
        self._take(self.parts.waiter.wait_ready(self.pace.interval_us))
        status = self._observe()
        cgroups = () if self.parts.cgroups is None else self.parts.cgroups.look(clock_us)
        if self.parts.tape is not None:
            self.parts.tape.begin(status, self.state, cgroups)
        detections, self.state = observe(self.rules, status, self.state, cgroups)
        advanced = self._advance(detections, status)
        self._prepare(detections, status)
        if not advanced and self._may_act(detections, status):
            self._act(self._select(detections, status))
        self.parts.on_tick(status.time_us)
        if self._worth_writing:
            self.hand_out()

    def replace_rules(self, rules: Rules) -> None:
        """A reload: kills under way go on."""
        self.hand_out()
        self.rules = rules
        prepare(rules.preferences)
        if self.parts.facts is not None:
            self.parts.facts.wanted = wanted_of(rules.preferences)
        self.state = reloaded_state(self.state, rules)
        self._want()

    def _want(self) -> None:
        """Have read what the rules look at, and nothing more."""
        wants = wants_of(self.rules)
        self.parts.sampler.want(wants.details)
        if self.parts.cgroups is not None:
            self.parts.cgroups.want(wants, choices=any(map(among_of, self.rules.rulesets)))

    def _take(self, events: list[tuple[Hashable, bool]]) -> None:
        now = clock_us()
        for key, lost in events:
            if isinstance(key, tuple) and key[0] == "victim":
                self.state = self.parts.executor.note_death(key[1], now, self.state)
                if self.parts.tape is not None:
                    self.parts.tape.note_death(key[1], now)
                self.parts.table.bury(key[1].pid)
            elif key == "reaper":
                outcomes, self.state = self.parts.executor.note_reaped(self.state)
                self._tell_outcomes(outcomes)
                self._condemn_the_doomed()
            else:
                if isinstance(key, tuple) and key[0] == "pressure" and not lost:
                    self._alerted_until_us = now + ALERTED_US
                self.parts.on_event(key, lost)

    def _observe(self) -> MemoryStatus:
        # Per-CPU lists are the machine's, so they say nothing of a budget; a kill's baseline must already hold them.
        lists = self.parts.limit_bytes is None and (self.pace.warm or bool(self.state.credits))
        status = self.parts.sampler.read_status(clock_us(), per_cpu_lists=lists)
        if self.parts.limit_bytes is None:
            return status
        if self.parts.read_cgroup_usage is not None:
            usage, source = self._read_cgroup(self.parts.read_cgroup_usage), self.parts.cgroup
        else:
            self._search.look(status)
            usage, source = self.parts.table.usage_bytes(), "processes"
        return replace(status, budget=Budget(self.parts.limit_bytes, usage, source))

    def _read_cgroup(self, read: Callable[[], int]) -> int:
        """The cgroup's usage; its removal ends the daemon, which has nothing left to guard."""
        try:
            return read()
        except OSError as error:
            self.stopping = True
            self._tell("note", text=f"the cgroup {self.parts.cgroup} can no longer be read: {error.strerror}")
            return 0

    def _advance(self, detections: tuple[Detection, ...], status: MemoryStatus) -> bool:
        """Kills under way: grace over, memory back, deadline passed. True when somebody was killed just now: what was
        detected before that does not count for the next one.
        """
        if not self.state.credits:
            return False
        resting = self.state.resting_until_us
        escalations, self.state = self.parts.executor.escalate(detections, status, self.state)
        for escalation in escalations:
            self._condemn(escalation.process.id.pid)
            if self.parts.tape is not None:
                self.parts.tape.note_escalated(escalation.process.id, escalation.why)
            self._tell("escalation", id=escalation.decision_id, pid=escalation.process.id.pid, why=escalation.why)
        for identity in {escalation.decision_id for escalation in escalations} & self._sets.keys():
            self._sets[identity] = replace(self._sets[identity], action=KILL)
            self._sweep(identity)
        if escalations and self.parts.tape is not None:
            self.parts.tape.note_state(self.state)
        outcomes, self.state = self.parts.executor.settle(status, self.state)
        self._tell_outcomes(outcomes)
        if self.state.resting_until_us != resting:
            self._tell(
                "note",
                text=f"kills return almost nothing; the memory is in: {where_memory_is(status)}; resting",
            )
        return bool(escalations)

    def _may_act(self, detections: tuple[Detection, ...], status: MemoryStatus) -> bool:
        """Whether an alarm asks for a victim now: the rules of select() in short, to spare it the look at processes."""
        alarm = fired(detections)
        if alarm is None or status.time_us < max(self.state.resting_until_us, self._nobody_until_us):
            return False
        return may_add(alarm, self.state)

    def _prepare(self, detections: tuple[Detection, ...], status: MemoryStatus) -> None:
        """Decide how soon to look again; look at processes as soon as it begins to matter."""
        alerted = status.time_us < self._alerted_until_us
        self.pace = pace(detections, self.state, triggers=self.parts.triggers, alerted=alerted)
        if self.parts.longest_us and self.pace.interval_us > self.parts.longest_us:
            self.pace = replace(self.pace, interval_us=self.parts.longest_us)
        summed = self.parts.limit_bytes is not None and self.parts.read_cgroup_usage is None
        if self.pace.warm and not summed and self.parts.table.wants_scan(status.time_us):
            self.parts.table.scan(status, clock_us)
        elif self.pace.warm and self.parts.table.wants_look(status.time_us):
            self.parts.table.look(status, clock_us)
        # By the upper bound: what forked processes are taken to share may long have become their own.
        limit = self.parts.limit_bytes
        if self.pace.warm or (limit is not None and 2 * self.parts.table.most_bytes() > limit):
            self.parts.sharing.ask(self.parts.table.leaders, status.time_us)
        self._search.collect(status.time_us, ask=self.pace.warm)

    def _select(self, detections: tuple[Detection, ...], status: MemoryStatus) -> Decision:
        return self._search.select(self.rules, self.state, detections, status)

    def _act(self, decision: Decision) -> None:
        if decision.action == NO_ACTION:
            if decision.target is not None:
                identity = self._next_id()
                self.state = self.parts.executor.await_death(identity, decision.target, decision.status, self.state)
                self._record(decision)
            return
        if decision.action == NOTIFY:
            self._nobody_until_us = decision.status.time_us + NOBODY_US
            self._tell_seldom(decision)
            return
        if self._search.must_wait(decision):
            if self.parts.tape is not None:
                self.parts.tape.note_held()
            return
        for _ in range(MOST_TRIES):
            if decision.target is None or decision.action not in (TERM, KILL) or self._try(decision):
                return
            decision = self._select(decision.detections, decision.status)

    def _try(self, decision: Decision) -> bool:
        """Carry it out. False when the victim may not be touched or is gone: it is left out, and another is chosen."""
        victim = decision.target
        assert victim is not None
        identity = self._next_id()
        parts = parts_of(victim)
        if decision.action == KILL and not self.parts.executor.dry_run:
            for part in parts:  # before the signal: a reader of its maps would hold its memory
                self._search.condemn(part.process.id)
        try:
            if len(parts) == 1:
                decision = with_sharers(decision, self._search.sharers(victim.process))
                parts = parts_of(decision.target or victim)
            if len(parts) == 1:
                stat_fd = self._search.stat_fd(victim.process.id)
                self.state = self.parts.executor.begin(identity, decision, self.state, stat_fd)
            else:
                self.state = begin_all(self.parts.executor, identity, decision, parts, self.state, self._search.stat_fd)
        except Refused as verdict:
            self._note_refusal(identity, victim, parts, verdict)
            return False
        if decision.action == KILL and not self.parts.executor.dry_run:
            for part in parts:
                self._condemn(part.process.id.pid)
        if len(parts) > 1:
            self._sets[identity] = decision
            self._sweep(identity)
        self._rest(decision)
        self._tell("decision", id=identity, dry_run=self.parts.executor.dry_run, **plain_decision(decision))
        self._record(decision)
        return True

    def _record(self, decision: Decision) -> None:
        tape = self.parts.tape
        if tape is not None and self._search.seen is not None:
            tape.note_decision(decision, self._search.seen, self.state)
            self._worth_writing = True

    def hand_out(self) -> None:
        """Have what was seen so far written, if anybody records."""
        self._worth_writing = False
        parts = [] if self.parts.tape is None else self.parts.tape.drain()
        for number, ticks in enumerate(parts, 1):
            self._tell("seen", ticks=ticks, last=number == len(parts))

    def _note_refusal(self, identity: str, victim: Candidate, parts: tuple[Candidate, ...], verdict: Refused) -> None:
        """Leave out who may not be touched; for one that merely shares the victim's memory, the victim."""
        process = next((each.process for each in parts if each.process.id == verdict.who), victim.process)
        why = str(verdict)
        if process not in victim.processes:
            process, why = victim.process, shares_with(process, why)
        self.state = refused(self.state, process.id, why)
        if self.parts.tape is not None:
            self.parts.tape.note_refused(process.id, why)
        self._tell("refused", id=identity, pid=process.id.pid, comm=process.comm, why=why)

    def _sweep(self, identity: str) -> None:
        """Whoever was forked while a set was being killed goes too."""
        decision = self._sets.get(identity)
        if decision is None or decision.action != KILL or self.parts.executor.dry_run:
            return
        before = self.state.credits

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

    def _condemn_the_doomed(self) -> None:
        """SIGTERM may have been the end of it as well; and what the reaper has stripped owns nothing any more."""
        for credit in self.state.credits:
            if credit.phase == KILL:
                self._condemn(credit.process.id.pid)
            if credit.reaped_us is not None:
                self.parts.table.bury(credit.process.id.pid)

    def _next_id(self) -> str:
        self.decisions += 1
        return f"{self.decisions}"

    def _tell_outcomes(self, outcomes: tuple[KillOutcome, ...]) -> None:
        for outcome in outcomes:
            self.parts.table.bury(outcome.process.id.pid)
            self._tell("outcome", id=outcome.decision_id, **plain_outcome(outcome))
            self._worth_writing = True
        under_way = {credit.decision_id for credit in self.state.credits}
        self._sets = {identity: each for identity, each in self._sets.items() if identity in under_way}

    def _tell_seldom(self, decision: Decision) -> None:
        text, until = self._told
        words = decision.reason.translate(_NO_FIGURES)
        if words != text or decision.status.time_us >= until:
            self._told = (words, decision.status.time_us + REPEAT_US)
            self._tell(
                "decision",
                id=self._next_id(),
                dry_run=self.parts.executor.dry_run,
                **plain_decision(decision),
            )
            self._record(decision)

    def _tell(self, event: str, **content: object) -> None:
        self.parts.report({"event": event, "time": time.time(), **content})


def describe_headroom(status: MemoryStatus) -> str:
    """Available memory against its base, in words."""
    return f"{format_size(status.available_bytes)} of {format_size(status.base_bytes)} available"

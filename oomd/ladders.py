"""Ladders under way: has gentle steps carried out, hears what came of them, tells it, and lets go of what was changed
when the alarm is over. Decides nothing: which step is due is the engine's affair (:mod:`oomd.engine.ladder`).
"""

from __future__ import annotations

from oomd.engine.aims import unit_of
from oomd.engine.detection import detectors_of
from oomd.engine.eligibility import NOTHING_OWNED
from oomd.engine.ladder import gained
from oomd.engine.marks import AVOID, OMIT
from oomd.model.decision import (
    DONE,
    FREEZE,
    IMPOSSIBLE,
    NOTIFY,
    PROVED,
    PUT_BACK,
    RECLAIM,
    RESTART_UNIT,
    TERM,
    THROTTLE,
)
from oomd.model.report import plain_step
from oomd.model.steps import ReclaimStep
from oomd.model.units import SECOND_US
from oomd.model.values import dataclass
from oomd.proactive import Prober

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from oomd.kill.steps import Steps
    from oomd.model.decision import Decision, Detection, StepResult
    from oomd.model.ruleset import EngineState, Ladder, Rules, Ruleset
    from oomd.model.snapshot import MemoryStatus
    from oomd.model.steps import Gentle

    Restart = Callable[[str, int, Callable[[bool, str], object]], object]
    """Has a unit restarted: its name, for how long anybody waits, and who is told whether it was."""

ENOUGH, NOT_ENOUGH, OVERTAKEN, ENDED = "enough", "not_enough", "overtaken", "ended"
SETTLE_US = 1 * SECOND_US
"""How long after a step is through the alarm is given to end, and at least as long as its detectors look back …"""
LONGEST_SETTLE_US = 10 * SECOND_US
"""… but no longer than this."""


@dataclass(slots=True)
class _Run:
    """A step under way."""

    decision: Decision
    step: Gentle
    ladder: Ladder
    settle_us: int
    result: StepResult | None = None
    is_asked: bool = False
    """Whether the system's manager was asked to restart the unit."""


@dataclass(frozen=True, slots=True)
class _Ended:
    """A step that is over."""

    run: _Run
    word: str
    gained_bytes: int
    gained_swap_bytes: int
    took_us: int


class Ladders:
    """One instance per daemon."""

    def __init__(
        self, tell: Callable[..., object], build: Callable[[], Steps] | None = None, restart: Restart | None = None
    ) -> None:
        """Without ``build`` it is a dry run: steps are told, and not carried out. It is called once, when rules with
        steps come into force first.
        """
        self.dry_run = build is None
        self.steps: Steps | None = None
        self._tell = tell
        self._build = build
        self._restart = restart
        self._runs: dict[str, _Run] = {}
        """By ruleset: the step begun last."""
        self._ended: dict[str, _Ended] = {}
        """By id: steps that are over, but for the piece in hand or the manager's answer; what they brought is told once
        that is known."""
        self._held: dict[str, Decision] = {}
        """By id: what is throttled or frozen, or about to be."""
        self._let: set[str] = set()
        """Those that are about to be put back."""
        self.prober = Prober(tell)

    def prepare(self, rules: Rules) -> None:
        """These rules are in force from now on: start what their steps need."""
        steps = [step for ruleset in rules.rulesets for step in ruleset.steps]
        steps += [] if rules.proactive is None else [ReclaimStep()]
        if not steps or self._build is None:
            return
        if self.steps is None:
            self.steps = self._build()
        self.steps.prepare(steps)

    def spare(self, own_pids: frozenset[int]) -> None:
        """Oomd's own processes, when they have changed."""
        if self.steps is not None:
            self.steps.spare(own_pids)

    def begin(self, identity: str, decision: Decision, ruleset: Ruleset, ladder: Ladder | None) -> None:
        """A step is due. ``ladder``: as the engine remembers it; None where there is nobody for the step."""
        self._finish(ruleset.name, NOT_ENOUGH, decision.status)
        assert decision.step is not None
        step = ruleset.steps[decision.step]
        if ladder is None:
            why = decision.reason.rpartition("; ")[2]
            self._tell("step", **plain_step(identity, decision, IMPOSSIBLE, why, dry_run=self.dry_run))
            return
        self._runs[ruleset.name] = _Run(decision, step, ladder, _settle_us(ruleset))
        target = decision.target
        if self.steps is None or step.name == NOTIFY or target is None:
            return
        if step.name in (THROTTLE, FREEZE):
            self._held[identity] = decision
        elif step.name == RESTART_UNIT:  # it must be able to run to its end
            self._let_go_of_victims(decision, "its unit is restarted")
        self.steps.begin(identity, step, target, decision.status, _spared(decision))

    def note_results(self, now_us: int) -> list[tuple[str, int, int | None]]:
        """Take what the threads have to say. The rulesets whose step is through, when their next one is due, and since
        when all is done that was asked of it, if it is.
        """
        through = []
        for result in () if self.steps is None else self.steps.take_results():
            if self.prober.note(result):
                continue
            name, due_us = self._note(result, now_us)
            if name:
                is_whole = result.status == DONE and not result.why
                through.append((name, due_us, now_us if is_whole else None))
        return through

    def advance(self, detections: tuple[Detection, ...], status: MemoryStatus, state: EngineState) -> None:
        """Another look at the machine: alarms that are over end their ladders, and what was changed is put back."""
        for detection, memory in zip(detections, state.rulesets, strict=True):
            if detection.since_us is None:
                self._finish(detection.ruleset, ENOUGH, status)
                self._let_go_of(detection.ruleset, "the alarm is over")
            elif memory.ladder is None:  # the end of a ladder without a kill
                self._finish(detection.ruleset, NOT_ENOUGH, status)

    def before_signal(self, decision: Decision) -> None:
        """Somebody is about to be asked to go: a frozen or throttled process could not."""
        if decision.action == TERM:
            self._let_go_of_victims(decision)

    def after_signal(self, decision: Decision, *, critical: bool) -> None:
        """Somebody was signalled: the gentle steps of this ruleset are over."""
        self._finish(decision.ruleset, OVERTAKEN if critical else NOT_ENOUGH, decision.status)
        self._let_go_of(decision.ruleset, "somebody is signalled")
        self._let_go_of_victims(decision)

    def end_all(self, status: MemoryStatus | None, why: str) -> None:
        """Other rules are in force from now on, or oomd ends."""
        self.prober.let_go(self.steps)
        for name in [*self._runs]:
            self._finish(name, ENDED, status)
        self._let_go([*self._held], why)

    def close(self, status: MemoryStatus | None) -> None:
        """Oomd ends: put everything back, and tell it."""
        self.end_all(status, "oomd ends")
        if self.steps is not None:
            self.steps.close()
            for result in self.steps.take_results():
                if result.status == PUT_BACK:  # before it may stand that it was changed, a moment ago
                    self._tell_put_back(result)
                self._tell_ended(result)
        for ended in self._ended.values():
            self._tell_end(ended, None)
        self._ended.clear()

    @property
    def held(self) -> int:
        """How many cgroups are throttled or frozen."""
        return len(self._held)

    def _note(self, result: StepResult, now_us: int) -> tuple[str, int]:
        """The ruleset whose step is through, and when its next one is due; or nothing."""
        if result.status == PUT_BACK:
            self._tell_put_back(result)
        if self._tell_ended(result):
            return "", 0
        if result.status == IMPOSSIBLE:
            self._forget(result.decision_id)
        name, run = next(
            ((name, each) for name, each in self._runs.items() if each.ladder.decision_id == result.decision_id),
            ("", None),
        )
        if run is None or result.status == PUT_BACK:
            return "", 0
        if result.status == PROVED:
            self._ask_restart(run)
            return "", 0
        run.result = result
        if result.status == IMPOSSIBLE:
            return name, now_us
        return (name, now_us + run.settle_us) if run.step.name in (RECLAIM, RESTART_UNIT) else ("", 0)

    def _ask_restart(self, run: _Run) -> None:
        target, steps, identity = run.decision.target, self.steps, run.ladder.decision_id
        if self._restart is None or target is None or steps is None:
            return
        run.is_asked = True
        wait_us = run.ladder.ends_us - run.ladder.since_us
        self._restart(
            unit_of(target.name), wait_us, lambda ok, why: steps.note(identity, DONE if ok else IMPOSSIBLE, why)
        )

    def _finish(self, name: str, word: str, status: MemoryStatus | None) -> None:
        run = self._runs.pop(name, None)
        if run is None:
            return
        memory, swap = (0, 0) if status is None else gained(run.ladder, status)
        ended = _Ended(run, word, memory, swap, 0 if status is None else status.time_us - run.ladder.since_us)
        if self.steps is None or run.result is not None or run.decision.target is None:
            self._tell_end(ended, run.result)
        elif run.step.name == RECLAIM:
            self._ended[run.ladder.decision_id] = ended
            self.steps.let_go(run.ladder.decision_id, "")
        elif run.is_asked:  # the manager answers, or its time runs out
            self._ended[run.ladder.decision_id] = ended
        else:
            self._tell_end(ended, run.result)

    def _tell_ended(self, result: StepResult) -> bool:
        ended = self._ended.pop(result.decision_id, None)
        if ended is not None:
            self._tell_end(ended, result)
        return ended is not None

    def _tell_end(self, ended: _Ended, result: StepResult | None) -> None:
        impossible = result is not None and result.status == IMPOSSIBLE and ended.word == NOT_ENOUGH
        plain = plain_step(
            ended.run.ladder.decision_id,
            ended.run.decision,
            IMPOSSIBLE if impossible else ended.word,
            "" if result is None else result.why,
            dry_run=self.dry_run,
            gained_bytes=ended.gained_bytes,
            gained_swap_bytes=ended.gained_swap_bytes,
            taken_bytes=0 if result is None else result.taken_bytes,
            took_us=ended.took_us,
            worked_us=None if result is None else result.took_us,
        )
        self._tell("step", **plain)

    def _let_go_of_victims(self, decision: Decision, why: str = "a process in it is signalled") -> None:
        victims = () if decision.target is None else decision.target.processes
        cgroups = {process.cgroup for process in victims}
        touched = [identity for identity, held in self._held.items() if any(_holds(held, each) for each in cgroups)]
        self._let_go(touched, why)

    def _let_go_of(self, ruleset: str, why: str) -> None:
        self._let_go([identity for identity, held in self._held.items() if held.ruleset == ruleset], why)

    def _let_go(self, identities: list[str], why: str) -> None:
        for identity in identities:
            if self.steps is not None and identity not in self._let:
                self._let.add(identity)
                self.steps.let_go(identity, why)

    def _tell_put_back(self, result: StepResult) -> None:
        decision = self._forget(result.decision_id)
        if decision is not None:
            plain = plain_step(result.decision_id, decision, PUT_BACK, result.why, took_us=result.took_us)
            self._tell("step", **plain)

    def _forget(self, identity: str) -> Decision | None:
        self._let.discard(identity)
        return self._held.pop(identity, None)


def _settle_us(ruleset: Ruleset) -> int:
    windows = [detector.window_us for detector in detectors_of(ruleset)]
    return min(max(SETTLE_US, *windows, SETTLE_US), LONGEST_SETTLE_US)


def _holds(held: Decision, cgroup: str) -> bool:
    """Whether this cgroup is the one that is held, or lies in it."""
    path = "" if held.target is None else held.target.name
    return cgroup == path or cgroup.startswith(f"{path}/")


def _spared(decision: Decision) -> dict[int, str]:
    """Whom the rules save from what moves a whole cgroup, and why: should one of them join it after the choice, nothing
    is done. Nobody is saved from the loss of cold pages.
    """
    if decision.action == RECLAIM:
        return {}
    chosen = set() if decision.target is None else {process.id for process in decision.target.processes}
    spared = {
        each.process.id: each.why
        for each in decision.rejected
        if each.kind == "process" and each.why != NOTHING_OWNED and not each.process.is_kernel_thread
    }
    if decision.action == FREEZE:
        avoided = [each for each in decision.ranking if each.preference in (AVOID, OMIT)]
        spared |= {process.id: "is avoided" for each in avoided for process in each.processes}
    return {process_id.pid: why for process_id, why in spared.items() if process_id not in chosen}

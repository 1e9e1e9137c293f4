"""Decide step by step, the state carried over as in the daemon; what a kill means for later steps is told by the trace.

The rule: a decision to kill opens its credit exactly as a real kill does, and a decision to ask opens its grace. A
victim that the trace no longer shows is dead from that step on; what came back is what the trace's memory shows. One
that the trace goes on showing is killed after its grace; after the deadline its credit is over, and it may be chosen
again (in a replay nobody is really killed, so nobody is stuck).
"""

from __future__ import annotations

from oomd.engine import credit as credits
from oomd.engine.aftermath import acted, learned, settled, why_kill_now, with_credit
from oomd.engine.detection import initial_state, observe
from oomd.engine.ladder import begun, is_possible, next_due, signalled
from oomd.engine.levels import parts_of
from oomd.engine.selection import select, wanted_cgroups
from oomd.model.decision import KILL, NO_ACTION, TERM, Candidate, Credit, Decision
from oomd.model.snapshot import ProcessId
from oomd.model.values import dataclass, replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from oomd.model.decision import Detection
    from oomd.model.ruleset import EngineState, Rules, Wants
    from oomd.model.snapshot import Cgroup, MemoryStatus, Snapshot


@dataclass(slots=True)
class Player:
    """The daemon's loop on paper: observe → detect → select, and kills that nobody carries out."""

    rules: Rules
    state: EngineState
    dry_run: bool = False
    """As the daemon's dry run: nobody is asked, and a credit lasts as long as there."""
    really_killed: frozenset[ProcessId] = frozenset()
    """Victims of whom a recording says that they were signalled: they can be stuck."""

    @classmethod
    def begin(cls, rules: Rules) -> Player:
        """A player that remembers nothing."""
        return cls(rules, initial_state(rules))

    def play(
        self,
        status: MemoryStatus,
        snapshot: Snapshot,
        cgroups: tuple[Cgroup, ...] = (),
        choice: Callable[[Wants], tuple[Cgroup, ...]] = lambda wants: (),  # noqa: ARG005 - a trace without cgroups
    ) -> Decision:
        """The decision at this step of a trace, given all before. The snapshot holds everybody; ``cgroups`` are what
        detectors look at, ``choice`` reads what a choice looks at.
        """
        self.bury(snapshot)
        detections = self.detect(status, cgroups)
        escalated = self.advance(detections, status)

        def see(seen: tuple[Detection, ...]) -> Snapshot:
            return replace(snapshot, cgroups=choice(wanted_cgroups(self.rules, seen)))

        if escalated:
            return escalation(select(self.rules, see(detections), detections, self.state), escalated)
        decision = self.select(detections, see)
        self.act(decision)
        return self.explained(decision)

    def select(self, detections: tuple[Detection, ...], see: Callable[[tuple[Detection, ...]], Snapshot]) -> Decision:
        """The decision; a gentle step is begun, and where there is nobody for it the next one is due at once. A step of
        a trace is through when its time is over: nobody carries it out. ``see``: what a choice looks at.
        """
        decision = select(self.rules, see(detections), detections, self.state)
        while decision.step is not None:
            self.state = begun(self.state, self.rules, decision, "0")
            if is_possible(decision):
                break
            detections = next_due(self.rules, decision)
            decision = select(self.rules, see(detections), detections, self.state)
        return decision

    def explained(self, decision: Decision) -> Decision:
        """Nothing fires while the credit of a kill lasts: that is the reason then, not that there is enough."""
        waits = [credit for credit in self.state.credits if credit.phase != credits.DEAD]
        if decision.action != NO_ACTION or decision.ruleset or not waits:
            return decision
        names = ", ".join(f"{credit.process.comm} ({credit.process.id.pid})" for credit in waits)
        return replace(decision, reason=f"nothing fired, counting what {names} will give back")

    def bury(self, snapshot: Snapshot) -> None:
        """Victims that the trace shows no longer are dead since this step."""
        alive = {process.id for process in snapshot.processes if not process.is_dead}
        for credit in self.state.credits:
            if credit.phase != credits.DEAD and credit.process.id not in alive:
                self.state = with_credit(self.state, credits.died(credit, snapshot.status.time_us))

    def detect(self, status: MemoryStatus, cgroups: tuple[Cgroup, ...] = ()) -> tuple[Detection, ...]:
        """What every ruleset says; remembered."""
        detections, self.state = observe(self.rules, status, self.state, cgroups)
        return detections

    def advance(
        self,
        detections: tuple[Detection, ...],
        status: MemoryStatus,
        busy: frozenset[ProcessId] = frozenset(),
    ) -> tuple[tuple[Credit, str], ...]:
        """Kills under way: who gets SIGKILL now and why; and the end of those of which nothing more is to be expected.
        ``busy``: victims that are still being reaped.
        """
        escalated = []
        for credit in self.state.credits:
            why = why_kill_now(credit, detections, status)
            if why:
                self.state = replace(with_credit(self.state, credits.killed(credit, status.time_us)), history=())
                escalated.append((credit, why))
        before = self.state.refusals
        done, self.state = settled(self.state, status.time_us, busy=busy, dry_run=self.dry_run)
        known = {refusal.id for refusal in before}
        stuck = tuple(each for each in self.state.refusals if each.id in known or each.id in self.really_killed)
        self.state = replace(self.state, refusals=stuck)
        for credit in done:
            self.state = learned(self.state, credit, status)
        return tuple(escalated)

    def act(self, decision: Decision, identity: str = "0") -> None:
        """Take the decision as carried out."""
        victim = decision.target
        if victim is None or decision.step is not None:
            return
        status = decision.status
        if decision.action == NO_ACTION:  # dying by somebody else's hand: waited for
            self.state = with_credit(self.state, credits.open_credit(identity, victim, "", KILL, status))
        elif decision.action in (TERM, KILL):
            phase, patience = decision.action, decision.grace_us if decision.action == TERM else None
            if self.dry_run:
                phase, patience = KILL, credits.DRY_RUN_US
            self.join(
                decision,
                tuple(
                    credits.open_credit(identity, part, decision.ruleset, phase, status, patience)
                    for part in parts_of(victim)
                ),
            )

    def join(self, decision: Decision, opened: tuple[Credit, ...]) -> None:
        """These kills began by this decision."""
        if decision.action == KILL and not self.dry_run:
            self.state = replace(self.state, history=())
        for credit in opened:
            self.state = with_credit(self.state, credit)
        self.state = signalled(self.state, self.rules, decision.ruleset)
        self._rest(decision)

    def _rest(self, decision: Decision) -> None:
        for ruleset in self.rules.rulesets:
            if ruleset.name == decision.ruleset and ruleset.pause_us:
                names = tuple(each.name for each in self.rules.rulesets)
                self.state = acted(self.state, ruleset.name, names, decision.status.time_us + ruleset.pause_us)


def escalation(decision: Decision, escalated: tuple[tuple[Credit, str], ...]) -> Decision:
    """The step at which a victim that was asked to go is killed, and those that were asked with it."""
    first, why = escalated[0]
    together = [credit for credit, _ in escalated if credit.decision_id == first.decision_id]
    together.sort(key=lambda credit: -credit.process.size_bytes)
    expected = sum(credit.expected_bytes + credit.expected_swap_bytes for credit in together)
    members = tuple(credit.process for credit in together) if len(together) > 1 else ()
    head = together[0].process
    victim = Candidate(head, expected, "size", "normal", score=expected, members=members)
    reason = f"{head.comm} ({head.id.pid}) was asked to go, and {why}"
    return replace(decision, action=KILL, ruleset=first.ruleset, reason=reason, target=victim, grace_us=0)

"""Hooks around a kill, as the killer sees them: a decision is held back for as long as they may take, and not longer.

Whoever runs them is the outside process. Nothing here waits: the decision is made anew at every look at the machine,
and carried out as soon as the answer is there or the deadline has passed. Meanwhile nobody else is taken, unless
memory reaches the critical level, which waits for nothing.
"""

from __future__ import annotations

import time

from oomd.engine.holding import is_critical, is_same, resumed, signals
from oomd.model.report import plain_decision, plain_outcome
from oomd.model.units import SECOND_US, format_duration
from oomd.model.values import dataclass
from oomd.parts import clock_us

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from oomd.companion import Answer
    from oomd.model.decision import Decision, KillOutcome
    from oomd.model.hooks import Hook, Hooks
    from oomd.model.ruleset import Rules

    Ask = Callable[..., object]
    """:meth:`oomd.companion.Companion.ask`."""

REQUEST, AFTER = "before", "after"
UNWAITED_US = 60 * SECOND_US
"""How long hooks may take that nobody waits for; their own deadlines are mostly shorter."""
MOST_OUTCOMES = 100
"""Of one decision, in what an after-hook is told."""


@dataclass(slots=True)
class _Held:
    """A decision that waits."""

    decision: Decision
    identity: str
    since_us: int
    deadline_us: int
    answered: bool = False
    touched: bool = True
    """Whether it was asked for since the last look at the machine: an alarm that is over asks no more."""


@dataclass(slots=True)
class _After:
    """A kill under way with an after-hook."""

    hook: Hook
    decision: Decision
    outcomes: list[KillOutcome]


class Hooking:
    """One instance per loop."""

    def __init__(self, ask: Ask | None, tell: Callable[..., object], next_id: Callable[[], str]) -> None:
        """``ask``: None where nobody can be asked, or in a dry run: nothing is run."""
        self._waited_us = 0
        """How long the decision that is about to be carried out was held back."""
        self._ask = ask
        self._tell = tell
        self._next_id = next_id
        self._held: _Held | None = None
        self._told: tuple[Decision, str] | None = None
        """The last decision that hooks were told of, and under which number."""
        self._after: dict[str, _After] = {}

    def touch(self) -> None:
        """The alarm asks for somebody still, whether or not it is known for whom."""
        if self._held is not None:
            self._held.touched = True

    def advance(self) -> None:
        """Another look at the machine: a wait that nobody asked for at the last one is over."""
        held = self._held
        if held is None:
            return
        if not held.touched:
            self._held = self._told = None
            waited = format_duration(clock_us() - held.since_us)
            self._tell(
                "note", text=f"#{held.identity}: the alarm ended while hooks ran ({waited}): nobody is signalled"
            )
        held.touched = False

    def hold(self, decision: Decision, rules: Rules) -> Decision | None:
        """What to carry out now; None while hooks are waited for."""
        self._waited_us = 0
        if self._ask is None or not signals(decision):
            return decision
        held = self._held
        if held is None:
            self.tell(decision, rules, wait=not is_critical(decision))
            return decision if self._held is None else None
        held.touched = True
        now_us = clock_us()
        critical = is_critical(decision)
        if not critical and not held.answered and now_us < held.deadline_us:
            return None
        self._held = None
        self._waited_us = now_us - held.since_us
        if not critical:
            decision = resumed(held.decision, decision)
        if not is_same(decision.target, held.decision.target):
            self.tell(decision, rules)
        return decision

    def tell(self, decision: Decision, rules: Rules, *, wait: bool = False) -> None:
        """Have its hooks run; with ``wait`` it is held back until they are done, if there are any. Where the first
        victim cannot be had its time was theirs: hooks of the next one are not waited for.
        """
        hooks = rules.hooks_of(decision.ruleset)
        if self._ask is None or not signals(decision) or not hooks.wait_us:
            return
        identity = self._next_id()
        self._told = (decision, identity)
        now_us = clock_us()
        if not wait:
            self._send(hooks, decision, identity, now_us, UNWAITED_US, _nobody_waits)
            return
        held = self._held = _Held(decision, identity, now_us, now_us + hooks.wait_us)

        def done(_: Answer) -> None:
            held.answered = True

        self._send(hooks, decision, identity, now_us, hooks.wait_us, done)
        if held.answered:  # there is nobody to run them
            self._held = None

    def begin(self, decision: Decision) -> tuple[str, int]:
        """It is carried out now: the number under which hooks were told of it (empty where they were not), and for how
        long it was held back.
        """
        told, self._told = self._told, None
        waited_us, self._waited_us = self._waited_us, 0
        return told[1] if told is not None and is_same(told[0].target, decision.target) else "", waited_us

    def note_signal(self, identity: str, decision: Decision, rules: Rules) -> None:
        """Somebody was signalled: what comes of it will be told to an after-hook, if there is one."""
        hook = rules.hooks_of(decision.ruleset).after
        if self._ask is not None and hook is not None:
            self._after[identity] = _After(hook, decision, [])

    def note_outcomes(self, outcomes: tuple[KillOutcome, ...], under_way: set[str]) -> None:
        """What came of kills; a hook is run when nothing more is to be expected of its decision."""
        for outcome in outcomes:
            after = self._after.get(outcome.decision_id)
            if after is not None:
                after.outcomes.append(outcome)
        for identity in [each for each in self._after if each not in under_way]:
            after = self._after.pop(identity)
            if after.outcomes:
                facts = _facts_after(identity, after)
                self._tell(AFTER, exec=list(after.hook.exec), exec_us=after.hook.deadline_us, facts=facts)

    def _send(
        self,
        hooks: Hooks,
        decision: Decision,
        identity: str,
        now_us: int,
        patience_us: int,
        done: Callable[[Answer], object],
    ) -> None:
        assert self._ask is not None
        facts = {"event": "decision", "time": time.time(), "id": identity, "dry_run": False, **plain_decision(decision)}
        before = hooks.before
        self._ask(
            REQUEST,
            done,
            now_us=now_us,
            deadline_us=now_us + patience_us,
            facts=facts,
            exec=[] if before is None else list(before.exec),
            exec_us=0 if before is None else before.deadline_us,
            prekill_us=hooks.prekill_us,
        )


def _facts_after(identity: str, after: _After) -> dict[str, object]:
    """The outcome of the largest, with what came back of all."""
    target, outcomes = after.decision.target, after.outcomes
    leader = next(
        (each for each in outcomes if target is not None and each.process.id == target.process.id), outcomes[0]
    )
    return {
        "event": "outcome",
        "time": time.time(),
        "id": identity,
        **plain_outcome(leader),
        "expected_bytes": sum(each.expected_bytes for each in outcomes),
        "returned_bytes": sum(each.returned_bytes for each in outcomes),
        "decision": {
            "action": after.decision.action,
            "ruleset": after.decision.ruleset,
            "reason": after.decision.reason,
            "processes": len(outcomes),
        },
        "outcomes": [plain_outcome(each) for each in outcomes[:MOST_OUTCOMES]],
    }


def _nobody_waits(_: Answer) -> None:
    """The signal is out already."""

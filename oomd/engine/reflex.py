"""What the next look at memory will lead to, worked out before: once the level is crossed, the victim is known. Pure.

Where a ruleset's condition can be told from /proc/meminfo alone, its decision is made while nothing is urgent. When the
level is crossed, nothing is left but to confirm that the chosen process is still who it was and that nobody can have
overtaken it (oomd.foresight). The ordinary way (observe, select) is gone through in any case, after the signal, and
gives the report. A property test holds that both ways agree.

A ruleset that looks at more (pressure, cgroups) stays with the ordinary way, and so does everything while a kill is
under way, under a budget, where several die as one, or where hooks are waited for.
"""

from __future__ import annotations

from oomd.detectors.thresholds import HOLDS, LET_GO, MEMORY, MemoryAvailable, SwapFree
from oomd.engine.blame import blame, followed, taken_by_files
from oomd.engine.detection import among_of
from oomd.engine.eligibility import sift
from oomd.engine.levels import rank
from oomd.engine.preferences import pod_usage
from oomd.engine.selection import Order, decide, order_of, takes_one_by_size
from oomd.model.decision import KILL, TERM, Decision, Detection
from oomd.model.ruleset import LAST_KILL, NEVER
from oomd.model.threshold import Threshold
from oomd.model.values import dataclass, replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from oomd.model.ruleset import Detector, EngineState, Rules, Ruleset, RulesetState
    from oomd.model.snapshot import Levels, Process, Snapshot


@dataclass(frozen=True, slots=True)
class Limit:
    """One condition."""

    below: Threshold
    swapless: str
    """Free swap is compared, and this says what counts without swap (:class:`oomd.detectors.thresholds.SwapFree`);
    empty: available memory is compared.
    """
    factor: float
    """Hysteresis of an alarm that holds."""

    def is_crossed(self, status: Levels) -> bool:
        """Whether it holds now; as the detectors have it."""
        if self.swapless and status.has_swap:
            return status.swap_free_bytes < self.below.resolve_bytes(status.swap_total_bytes) * self.factor
        if self.swapless and self.swapless != MEMORY:
            return self.swapless == HOLDS
        return status.available_bytes < self.below.resolve_bytes(status.base_bytes) * self.factor


@dataclass(frozen=True, slots=True)
class Reflex:
    """A decision that only waits for its level."""

    limits: tuple[Limit, ...]
    """All of them."""
    critical: bool
    from_us: int
    """Not before."""
    decision: Decision


def foresee(rules: Rules, snapshot: Snapshot, state: EngineState) -> tuple[Reflex, ...]:
    """The decisions that the next look at memory may lead to, the most urgent first; none where that cannot be told."""
    if state.credits or snapshot.status.budget is not None:
        return ()
    reflexes: list[Reflex] = []
    ahead = list(zip(rules.rulesets, state.rulesets, strict=True))
    while ahead:
        ruleset, memory = ahead[0]
        if not _is_plain(ruleset) or rules.hooks_of(ruleset.name).wait_us:
            break
        triggers = _triggers_of(ruleset, memory)
        if triggers:
            order = order_of(rules, ruleset, snapshot, state)
            decisions = [_decided(ruleset, snapshot, state, order, critical=critical) for critical in (True, False)]
            if any(decision.action not in (TERM, KILL) for decision in decisions):
                return ()  # there is more to say than whom
            reflexes += [Reflex(*trigger, decisions[0 if trigger[1] else 1]) for trigger in triggers]
        if len(triggers) < len(ruleset.critical) + len(ruleset.when):
            break  # it may fire for other reasons too, and then comes before those that follow
        del ahead[0]
    if any(trigger[1] for ruleset, memory in ahead for trigger in _triggers_of(ruleset, memory)):
        reflexes = [reflex for reflex in reflexes if reflex.critical]  # whoever asks would come after that one
    if any(ruleset.steps for ruleset in rules.rulesets):
        reflexes = [
            reflex for reflex in reflexes if reflex.critical
        ]  # who is frozen is thawed before he is asked to go
    return tuple(sorted(reflexes, key=lambda reflex: not reflex.critical))


def _is_plain(ruleset: Ruleset) -> bool:
    """Whether it takes one of all processes, at once."""
    return takes_one_by_size(ruleset) and not among_of(ruleset) and not ruleset.steps and ruleset.last == LAST_KILL


def _triggers_of(ruleset: Ruleset, memory: RulesetState) -> list[tuple[tuple[Limit, ...], bool, int]]:
    """The groups that meminfo alone can tell: their limits, whether they are critical, and from when on they count."""
    triggers = []
    for critical, groups in ((True, ruleset.critical), (False, ruleset.when)):
        from_us = _due_us(ruleset, memory, critical=critical)
        for group in groups if from_us is not None else ():
            limits = _limits_of(group, memory, critical=critical)
            if limits is not None and from_us is not None:
                triggers.append((limits, critical, from_us))
    return triggers


def _decided(ruleset: Ruleset, snapshot: Snapshot, state: EngineState, order: Order, *, critical: bool) -> Decision:
    alarm = Detection(ruleset.name, fired=True, critical=critical, since_us=snapshot.status.time_us)
    return decide(ruleset, snapshot, (alarm,), state, order)


def decided_anew(
    rules: Rules, decision: Decision, others: Snapshot, changed: tuple[Process, ...], state: EngineState
) -> Decision:
    """What was decided in advance, decided again: ``others`` are those of its snapshot who are as they were, and need
    not be judged again; ``changed`` those who are not, or were not among them.
    """
    ruleset = next(each for each in rules.rulesets if each.name == decision.ruleset)
    whole = replace(others, processes=(*changed, *others.processes))
    if pod_usage(whole) or any(each.standing for each in decision.ranking):  # whoever is there moves the others
        return decide(ruleset, whole, decision.detections, state, order_of(rules, ruleset, whole, state))
    same = {process.id.pid for process in others.processes}
    candidates, rejected = sift(replace(others, processes=changed), rules.preferences, state)
    candidates += tuple([each for each in decision.ranking if each.process.id.pid in same])
    rejected += tuple([each for each in decision.rejected if each.process.id.pid in same])
    omit_last = rules.preferences.omit != NEVER
    order = Order(rank(ruleset, whole, candidates, rejected, omit_last=omit_last), candidates, rejected)
    return decide(ruleset, whole, decision.detections, state, order)


def due(reflexes: tuple[Reflex, ...], status: Levels, state: EngineState, snapshot: Snapshot) -> Decision | None:
    """What is to be carried out at once, now that memory stands so; ``snapshot`` is that of :func:`foresee`."""
    for reflex in reflexes:
        if status.time_us < reflex.from_us or not all(limit.is_crossed(status) for limit in reflex.limits):
            continue
        if not reflex.critical:
            trail = followed(state.trail, status)
            if taken_by_files(blame(trail, status, state.blame, alarmed=True), snapshot):
                return None
        return reflex.decision
    return None


def _limits_of(group: tuple[Detector, ...], memory: RulesetState, *, critical: bool) -> tuple[Limit, ...] | None:
    """The group's conditions; None where one of them looks at more than meminfo."""
    firing = (memory.critical_since_us if critical else memory.since_us) is not None
    limits = []
    for detector in group:
        if isinstance(detector, MemoryAvailable):
            limits.append(Limit(detector.below, swapless="", factor=LET_GO if firing else 1))
        elif isinstance(detector, SwapFree) and detector.swapout_above is None:
            limits.append(Limit(detector.below, detector.swapless, factor=LET_GO if firing else 1))
        else:
            return None
    return tuple(limits)


def _due_us(ruleset: Ruleset, memory: RulesetState, *, critical: bool) -> int | None:
    """From when on the group's holding makes the ruleset fire; None where it must be seen to hold first."""
    if critical:
        return 0
    if memory.since_us is None:
        return None if ruleset.for_us else memory.paused_until_us
    return max(memory.paused_until_us, memory.since_us + ruleset.for_us)

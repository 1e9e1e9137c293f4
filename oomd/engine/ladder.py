"""The ladder of a ruleset: which step is due, and when the next one is. Pure: states in, states out.

While the alarm holds one step follows the other, each when the one before has had its time, or is through. An alarm
that no longer holds ends the ladder: what was done was enough. Should it come back soon the ladder goes on where it
was, for what helped only for a moment need not be tried again; later it begins anew. One without a kill has nothing to
go on with at its end: it begins anew with the alarm, once its pause is over. The critical level passes all gentle steps
over.
"""

from __future__ import annotations

from oomd.engine.credit import counted_bytes
from oomd.model.decision import NOTIFY, RECLAIM
from oomd.model.ruleset import LAST_NOTHING, Ladder
from oomd.model.units import SECOND_US
from oomd.model.values import replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from oomd.model.decision import Decision, Detection, Evidence
    from oomd.model.ruleset import EngineState, Rules, Ruleset, RulesetState
    from oomd.model.snapshot import MemoryStatus
    from oomd.model.steps import Gentle

AGAIN_US = 30 * SECOND_US
"""An alarm that comes back sooner goes on with the next step of its ladder."""
MEMORY_AVAILABLE = "memory_available"
"""The detector whose evidence is bytes that a reclaim brings."""
FLICKER_US = 1 * SECOND_US
"""How long a ladder that ends with a reclaim, and has no pause, rests before it begins anew: an alarm that flickers is
not acted upon at every look. Any other rests for :data:`AGAIN_US`: nobody wants to be told, or a unit to be restarted,
every second.
"""


def climbed(ruleset: Ruleset, memory: RulesetState, now_us: int, *, holds: bool) -> RulesetState:
    """What the ruleset remembers of its ladder after another look: ended, begun anew, or going on."""
    if not ruleset.steps:
        return memory
    if not holds:
        if memory.next_step == 0:
            return memory
        quiet_us = now_us if memory.quiet_since_us is None else memory.quiet_since_us
        if now_us - quiet_us >= AGAIN_US:
            return replace(memory, ladder=None, next_step=0, quiet_since_us=None)
        return replace(memory, ladder=None, quiet_since_us=quiet_us)
    if _is_at_its_end(ruleset, memory, now_us):
        until_us = _acted_until_us(memory, now_us) + (ruleset.pause_us or _rest_us(ruleset))
        return replace(memory, ladder=None, next_step=0, quiet_since_us=None, paused_until_us=until_us)
    return replace(memory, quiet_since_us=None)


def takes_on(ruleset: Ruleset, memory: RulesetState, evidence: tuple[Evidence, ...], status: MemoryStatus) -> bool:
    """Whether the alarm lasts only because a reclaim is under way that has brought nothing yet. A limit that is a share
    of memory sinks meanwhile: pages on their way to swap belong to no process any more (AnonPages) and are not free yet
    (MemAvailable), for as long as the disk takes to write them. With less available than when it began it was not
    enough, whatever share that is.
    """
    ladder = memory.ladder
    if ladder is None or memory.since_us is None or status.time_us >= ladder.ends_us:
        return False
    if ruleset.steps[ladder.step].name != RECLAIM:
        return False
    is_no_more = counted_bytes(status) <= ladder.available_bytes
    return all(piece.holds or (is_no_more and piece.detector == MEMORY_AVAILABLE) for piece in evidence)


def due(ruleset: Ruleset, memory: RulesetState, now_us: int, *, critical: bool) -> tuple[int, bool]:
    """The place of the step that is due, behind the last gentle one for the signal; and whether it must wait."""
    end = len(ruleset.steps)
    if critical or not end:
        return end, False
    waits = memory.ladder is not None and now_us < memory.ladder.ends_us
    return memory.next_step, waits or (memory.next_step >= end and ruleset.last == LAST_NOTHING)


def step_of(ruleset: Ruleset, detection: Detection | None) -> Gentle | None:
    """The gentle step that this detection asks for; None where it asks for a signal."""
    if detection is None or detection.step >= len(ruleset.steps):
        return None
    return ruleset.steps[detection.step]


def is_possible(decision: Decision) -> bool:
    """Whether there is anybody for this step. One that only tells needs nobody."""
    return decision.target is not None or decision.action == NOTIFY


def begun(state: EngineState, rules: Rules, decision: Decision, decision_id: str) -> EngineState:
    """The state once the step of this decision was begun, or passed over because there is nobody for it."""
    assert decision.step is not None
    place, status = decision.step, decision.status

    def remember(ruleset: Ruleset, memory: RulesetState) -> RulesetState:
        ladder = _ladder(ruleset, place, decision_id, status) if is_possible(decision) else None
        return replace(memory, ladder=ladder, next_step=place + 1)

    return _changed(state, rules, decision.ruleset, remember)


def signalled(state: EngineState, rules: Rules, ruleset: str) -> EngineState:
    """The state once this ruleset has signalled somebody: no gentle step follows while its alarm holds."""
    return _changed(state, rules, ruleset, lambda each, memory: replace(memory, ladder=None, next_step=len(each.steps)))


def through(state: EngineState, rules: Rules, ruleset: str, ends_us: int, done_us: int | None = None) -> EngineState:
    """The state once the step under way has done what it can: the next one is due then, if that is sooner. ``done_us``:
    when it had done all that was asked of it, if it has.
    """

    def remember(_: Ruleset, memory: RulesetState) -> RulesetState:
        ladder = memory.ladder
        if ladder is None:
            return memory
        return replace(memory, ladder=replace(ladder, ends_us=min(ladder.ends_us, ends_us), done_us=done_us))

    return _changed(state, rules, ruleset, remember)


def next_due(rules: Rules, decision: Decision) -> tuple[Detection, ...]:
    """The decision's detections after a step that there was nobody for: the next one is due at once."""
    assert decision.step is not None
    step = decision.step + 1
    ruleset = next(each for each in rules.rulesets if each.name == decision.ruleset)
    waits = step >= len(ruleset.steps) and ruleset.last == LAST_NOTHING
    return tuple(
        replace(each, step=step, waits=waits) if each.ruleset == decision.ruleset else each
        for each in decision.detections
    )


def gained(ladder: Ladder, status: MemoryStatus) -> tuple[int, int]:
    """What became available since the step was begun, memory and swap; below zero where it became less."""
    return (
        counted_bytes(status) - ladder.available_bytes,
        status.swap_free_bytes - ladder.swap_free_bytes,
    )


def _ladder(ruleset: Ruleset, place: int, decision_id: str, status: MemoryStatus) -> Ladder:
    return Ladder(
        step=place,
        decision_id=decision_id,
        since_us=status.time_us,
        ends_us=status.time_us + ruleset.steps[place].timeout_us,
        available_bytes=counted_bytes(status),
        swap_free_bytes=status.swap_free_bytes,
    )


def _is_at_its_end(ruleset: Ruleset, memory: RulesetState, now_us: int) -> bool:
    """A ladder without a kill has tried everything, and begins anew: where the alarm has come back since, or with a
    pause. One that holds on without a pause would have its last step over and over.
    """
    over = memory.ladder is None or now_us >= memory.ladder.ends_us
    again = ruleset.pause_us > 0 or memory.quiet_since_us is not None
    return again and ruleset.last == LAST_NOTHING and memory.next_step >= len(ruleset.steps) and over


def _rest_us(ruleset: Ruleset) -> int:
    return FLICKER_US if ruleset.steps[-1].name == RECLAIM else AGAIN_US


def _acted_until_us(memory: RulesetState, now_us: int) -> int:
    """When the last step was over: with the alarm, once it had done all that was asked of it, or in its own time. A
    pause is counted from there and not from the look that tells: an alarm that comes back after so long a quiet finds
    the ruleset ready, however dear looks are. A step that found less to do than it was asked for hardly finds more a
    moment later: that one's pause begins when it has shown that it was not enough.
    """
    if memory.quiet_since_us is not None:
        return memory.quiet_since_us
    ladder = memory.ladder
    if ladder is None:
        return now_us
    return ladder.ends_us if ladder.done_us is None else ladder.done_us


def _changed(
    state: EngineState, rules: Rules, name: str, change: Callable[[Ruleset, RulesetState], RulesetState]
) -> EngineState:
    memories = tuple(
        change(ruleset, memory) if ruleset.name == name and ruleset.steps else memory
        for ruleset, memory in zip(rules.rulesets, state.rulesets, strict=True)
    )
    return replace(state, rulesets=memories)

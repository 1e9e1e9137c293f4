"""What follows from a kill: escalation, the end of a credit, and the lesson of kills that returned nothing."""

from __future__ import annotations

from oomd.engine.credit import KILL, TERM, is_settled, is_stripped
from oomd.model.decision import Credit, Detection
from oomd.model.ruleset import EngineState, Refusal
from oomd.model.snapshot import MemoryStatus, ProcessId
from oomd.model.units import SECOND_US
from oomd.model.values import replace

STILL_FALLING = 0.75
"""Grace ends early when less than this share of what was available at SIGTERM is left."""

FUTILE_SHARE = 10
"""A kill that returned less than a tenth of what was expected…"""
FUTILE_OF_BASE = 256
"""… or than this fraction of the base (32 MiB of 8 GiB) returned almost nothing."""
FUTILE_KILLS = 2
REST_US = 10 * SECOND_US
LONGEST_REST_US = 60 * SECOND_US
MOST_REFUSALS = 64


def why_kill_now(credit: Credit, detections: tuple[Detection, ...], status: MemoryStatus) -> str:
    """Why a victim that was asked to go gets SIGKILL now; empty while its grace lasts."""
    if credit.phase != TERM:
        return ""
    if status.time_us >= credit.deadline_us:
        return "its grace is over"
    if any(detection.critical for detection in detections):
        return "memory reached the critical level"
    if status.available_bytes + status.pcp_bytes < STILL_FALLING * credit.available_at_signal_bytes:
        return "memory kept falling"
    return ""


def settled(
    state: EngineState, now_us: int, *, busy: frozenset[ProcessId] = frozenset(), dry_run: bool = False
) -> tuple[tuple[Credit, ...], EngineState]:
    """The credits of which nothing more is to be expected, and the state without them.

    ``busy`` victims are still being reaped: their end is told when that is done, or at the deadline. Stall from before
    the memory came back must not count for the next kill, so the pressure window begins anew. A victim that did not
    die by its deadline is left out of the choice from now on, or it would be chosen for ever.
    """
    done = tuple(
        credit
        for credit in state.credits
        if is_settled(credit, now_us) and (credit.process.id not in busy or now_us >= credit.deadline_us)
    )
    if not done:
        return (), state
    stuck = [
        Refusal(credit.process.id, "was killed and does not die")
        for credit in done
        if credit.phase == KILL and credit.reaped_us is None and not dry_run
    ]
    return done, replace(
        state,
        credits=tuple(credit for credit in state.credits if credit not in done),
        refusals=(*state.refusals, *stuck)[-MOST_REFUSALS:],
        history=(),
    )


def learned(state: EngineState, done: Credit, status: MemoryStatus) -> EngineState:
    """The state after this kill's result: two in a row that returned almost nothing mean that killing does not help."""
    if not is_stripped(done) or not done.ruleset:
        return state  # not dead, or killed by somebody else, who may have had other reasons
    returned = done.returned_bytes + done.returned_swap_bytes
    expected = done.expected_bytes + done.expected_swap_bytes
    # One of several that died together may be small: it is measured by what was expected of it alone.
    least = 0 if done.part_of else status.base_bytes // FUTILE_OF_BASE
    if returned >= max(expected // FUTILE_SHARE, least):
        return replace(state, futile_kills=0)
    futile = state.futile_kills + 1
    if futile < FUTILE_KILLS:
        return replace(state, futile_kills=futile)
    rest = min(REST_US << (futile - FUTILE_KILLS), LONGEST_REST_US)
    return replace(state, futile_kills=futile, resting_until_us=status.time_us + rest)


def refused(state: EngineState, process_id: ProcessId, why: str) -> EngineState:
    """The state that leaves this process out of the choice, and forgets its credit."""
    return replace(
        state,
        credits=tuple(credit for credit in state.credits if credit.process.id != process_id),
        refusals=(*state.refusals, Refusal(process_id, why))[-MOST_REFUSALS:],
    )


def with_credit(state: EngineState, credit: Credit) -> EngineState:
    """The state with this credit added, or put in the place of the same victim's earlier one."""
    others = tuple(known for known in state.credits if known.process.id != credit.process.id)
    return replace(state, credits=(*others, credit))


def acted(state: EngineState, ruleset: str, names: tuple[str, ...], until_us: int) -> EngineState:
    """The state in which this ruleset (of these names, in order) rests until then."""
    rulesets = tuple(
        replace(memory, paused_until_us=until_us) if name == ruleset else memory
        for name, memory in zip(names, state.rulesets, strict=True)
    )
    return replace(state, rulesets=rulesets)

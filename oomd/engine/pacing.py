"""How soon to look again, and how fresh the choice of a victim must be: from the distance to the nearest limit, the
fastest rate at which memory was ever seen to vanish, and the rate at which it vanishes now. Pure.
"""

from __future__ import annotations

from oomd.model.decision import Detection
from oomd.model.ruleset import EngineState
from oomd.model.snapshot import MemoryStatus
from oomd.model.units import MIB, MILLISECOND_US, SECOND_US
from oomd.model.values import dataclass

FASTEST_FILL_BYTES_PER_SECOND = 6000 * MIB
"""The fastest fill rate that earlyoom's author measured (stress -m 4); faster ones that are seen here count instead."""

QUIET_US = 5 * SECOND_US
"""The longest wait where pressure triggers wake us for the unexpected."""
POLLING_US = 1 * SECOND_US
"""The longest wait without them."""
WARM_US = 100 * MILLISECOND_US
"""The longest wait while memory is short."""
IN_FLIGHT_US = 20 * MILLISECOND_US
"""The longest wait while a kill is under way: tells when its memory is back."""
SHORTEST_US = 10 * MILLISECOND_US
"""The shortest wait that the distance alone asks for."""
BRINK_US = 2 * MILLISECOND_US
"""The shortest wait while memory falls straight towards a limit. A processor that was idle for no longer than that has
not lost its caches yet, so what follows takes half the time."""

CALM_COST = 20
"""While memory is short looking takes at most one part in so many of the time, however slow the machine …"""
HURRIED_COST = 4
"""… and where memory falls straight towards a limit, could fall there until the next look, or a kill is under way, one
in so many: a real-time process that looks all the time takes the time of those whom it is to save."""

LOOKS_ON_THE_WAY = 8
"""A limit that will be reached in some time is looked at so many times until then, and twice as often from there."""
FRESH_SHARE = 4
"""The choice of a victim is renewed when so many times its age would bring the limit."""
NO_LIMIT_BYTES = 1 << 62
"""The headroom where no rule is in force."""
FRESHEST_US = 10 * MILLISECOND_US
OLDEST_US = 1 * SECOND_US
"""How old the choice may be while memory is short but does not fall: as old as the growth of processes wants."""

SPAN_US = 500 * MILLISECOND_US
"""Over how long a rate is told that is no mere jolt."""
JOLT_BYTES = 8 * MIB
"""What falls by less between two looks is told by the whole span only."""
WORTH_BYTES = 64 * MIB
"""What falls by less within a moment says nothing of how fast this machine can fill."""


@dataclass(frozen=True, slots=True)
class Moment:
    """Where memory stood."""

    time_us: int
    available_bytes: int


@dataclass(frozen=True, slots=True)
class Trend:
    """How available memory moves."""

    last: Moment | None = None
    """The last look."""
    mark: Moment | None = None
    past: Moment | None = None
    """One look or two :data:`SPAN_US` apart from now."""
    falling: int = 0
    """Bytes per second now, by the last step or by the whole span, whichever is faster; 0 where it rises."""
    fastest: int = FASTEST_FILL_BYTES_PER_SECOND


STEADY = Trend()


def followed(trend: Trend, status: MemoryStatus) -> Trend:
    """The trend with this status."""
    now = Moment(status.time_us, status.available_bytes)
    if trend.last is None or trend.mark is None or trend.past is None:
        return Trend(now, now, now)
    fell = trend.last.available_bytes - now.available_bytes
    step = _rate(trend.last, now) if fell >= JOLT_BYTES else 0
    fastest = trend.fastest
    if fell >= WORTH_BYTES and now.time_us - trend.last.time_us >= SHORTEST_US:
        fastest = max(fastest, step)
    mark, past = trend.mark, trend.past
    if now.time_us - mark.time_us >= SPAN_US:
        mark, past = now, mark
    return Trend(now, mark, past, max(0, step, _rate(past, now)), fastest)


def _rate(past: Moment, now: Moment) -> int:
    span_us = now.time_us - past.time_us
    return (past.available_bytes - now.available_bytes) * SECOND_US // span_us if span_us > 0 else 0


@dataclass(frozen=True, slots=True)
class Pace:
    """How far danger is, and when to look again."""

    headroom_bytes: int
    """Down to the nearest limit of available memory; negative below it."""
    warm: bool
    """Whether processes are worth a look: less than another limit's worth of headroom is left."""
    interval_us: int
    fresh_us: int = OLDEST_US
    """How old the choice of a victim may be."""


def pace(
    detections: tuple[Detection, ...],
    state: EngineState,
    *,
    triggers: bool,
    alerted: bool,
    trend: Trend = STEADY,
    cost_us: int = 0,
) -> Pace:
    """The pace after these detections. ``triggers``: pressure wakes us; ``alerted``: it did so a moment ago;
    ``cost_us``: CPU time that a look takes here.
    """
    headroom, warm = _headroom(detections) if detections else (NO_LIMIT_BYTES, False)
    warm = warm or alerted or any(detection.since_us is not None for detection in detections)
    distance = _distance(detections, headroom)
    interval = max(SHORTEST_US, distance * SECOND_US // trend.fastest)
    interval = min(interval, QUIET_US if triggers else POLLING_US)
    left_us = None
    if trend.falling:  # a ruleset that holds has a critical level below
        holds = any(detection.since_us is not None for detection in detections)
        left_us = max(0, headroom if holds else distance) * SECOND_US // trend.falling
    dearest = (CALM_COST if warm else HURRIED_COST) * cost_us
    if warm:
        interval = min(interval, WARM_US)
        if left_us is not None and left_us // LOOKS_ON_THE_WAY < interval:
            interval = max(BRINK_US, left_us // LOOKS_ON_THE_WAY)
            dearest = HURRIED_COST * cost_us
    if state.credits:
        interval, dearest = min(interval, IN_FLIGHT_US), HURRIED_COST * cost_us
    interval = max(interval, min(dearest, POLLING_US))
    fresh = OLDEST_US
    if left_us:  # below the limit it is too late to prepare
        fresh = max(FRESHEST_US, min(OLDEST_US, left_us // FRESH_SHARE))
    return Pace(headroom, warm, interval, fresh)


def _distance(detections: tuple[Detection, ...], headroom: int) -> int:
    """How many bytes there are until anything can change. A ruleset beyond its limit of available memory that does not
    hold waits for something else: for free swap to run out, or for stall, of which triggers tell or the next look while
    memory is short. One that holds may only wait for the time of a gentle step.
    """
    if headroom > 0 or any(detection.since_us is not None and not detection.waits for detection in detections):
        return headroom
    ahead = [
        piece.value - piece.limit
        for detection in detections
        for piece in detection.evidence
        if piece.detector in ("memory_available", "swap_free") and piece.value is not None and piece.limit is not None
    ]
    return int(min((each for each in ahead if each > 0), default=NO_LIMIT_BYTES)) if ahead else headroom


def _headroom(detections: tuple[Detection, ...]) -> tuple[int, bool]:
    distances = [
        (piece.value - piece.limit, piece.limit)
        for detection in detections
        for piece in detection.evidence
        if piece.detector == "memory_available" and piece.value is not None and piece.limit is not None
    ]
    if not distances:
        return 0, True  # no rule looks at available memory: never far from danger as far as we can tell
    distance, limit = min(distances)
    return int(distance), distance < limit

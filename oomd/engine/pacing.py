"""How soon to look again: from the distance to the nearest limit and the fastest rate at which memory was ever seen to
vanish.
"""

from __future__ import annotations

from oomd.model.decision import Detection
from oomd.model.ruleset import EngineState
from oomd.model.units import MIB, MILLISECOND_US, SECOND_US
from oomd.model.values import dataclass

FASTEST_FILL_BYTES_PER_SECOND = 6000 * MIB
"""The fastest fill rate that earlyoom's author measured (stress -m 4)."""

QUIET_US = 3 * SECOND_US
"""The longest wait where pressure triggers wake us for the unexpected."""
POLLING_US = 1 * SECOND_US
"""The longest wait without them."""
WARM_US = 100 * MILLISECOND_US
"""The longest wait while memory is short."""
IN_FLIGHT_US = 20 * MILLISECOND_US
"""The longest wait while a kill is under way: tells when its memory is back."""
SHORTEST_US = 10 * MILLISECOND_US


@dataclass(frozen=True, slots=True)
class Pace:
    """How far danger is, and when to look again."""

    headroom_bytes: int
    """Down to the nearest limit of available memory; negative below it."""
    warm: bool
    """Whether processes are worth a look: less than another limit's worth of headroom is left."""
    interval_us: int


def pace(detections: tuple[Detection, ...], state: EngineState, *, triggers: bool, alerted: bool) -> Pace:
    """The pace after these detections. ``triggers``: pressure wakes us; ``alerted``: it did so a moment ago."""
    headroom, warm = _headroom(detections) if detections else (1 << 62, False)
    warm = warm or alerted or any(detection.since_us is not None for detection in detections)
    interval = max(SHORTEST_US, headroom * SECOND_US // FASTEST_FILL_BYTES_PER_SECOND)
    interval = min(interval, QUIET_US if triggers else POLLING_US)
    if warm:
        interval = min(interval, WARM_US)
    if state.credits:
        interval = min(interval, IN_FLIGHT_US)
    return Pace(headroom, warm, interval)


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

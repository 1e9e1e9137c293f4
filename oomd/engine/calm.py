"""How far everything may move before a rule could hold: as long as it stays within that, a look at memory is a glance,
and nothing is computed. Pure.

A ruleset holds where every detector of one of its groups does. So it cannot hold while one detector of each group
cannot; of those that look at available memory, free swap or the machine's memory stall it can be told until when. A
property test holds that no full look would have found anything that a glance passed over, or have looked again sooner
than what is left can be filled.
"""

from __future__ import annotations

from oomd.detectors.pressure import FULL_ENOUGH, PressureShare
from oomd.detectors.subjects import Series
from oomd.detectors.thresholds import MEMORY, MemoryAvailable, SwapFree
from oomd.engine.pacing import JOLT_BYTES, OLDEST_US, SHORTEST_US
from oomd.model.globs import MACHINE
from oomd.model.units import SECOND_US
from oomd.model.values import dataclass

TYPE_CHECKING = False
if TYPE_CHECKING:
    from oomd.engine.pacing import Pace, Trend
    from oomd.model.ruleset import Detector, EngineState, Rules
    from oomd.model.snapshot import MemoryStatus

    Groups = tuple[tuple[Detector, ...], ...]

COLD_SHARE, WARM_SHARE = 32, 8
"""Far from danger and near it a fall by one part in so many of the headroom is worth a full look …"""
RENEW_US = 60 * SECOND_US
"""… and far from danger none is older than this. (Near it none is older than the choice of a victim may be.)"""
UNBOUNDED = 1 << 62


@dataclass(frozen=True, slots=True)
class Calm:
    """The bounds."""

    interval_us: int
    """How long may be waited between glances: what is left cannot be filled sooner wherever memory is within bounds."""
    least_bytes: int
    """MemAvailable; no less."""
    least_swap_bytes: int = 0
    most_some_us: int = UNBOUNDED
    """Memory stall since boot; less than this."""
    most_full_us: int = UNBOUNDED

    def within(self, other: Calm) -> Calm:
        """Both bounds at once, and this one's interval."""
        return Calm(
            self.interval_us,
            max(self.least_bytes, other.least_bytes),
            max(self.least_swap_bytes, other.least_swap_bytes),
            min(self.most_some_us, other.most_some_us),
            min(self.most_full_us, other.most_full_us),
        )

    @property
    def is_of_memory(self) -> bool:
        """Whether nothing but available memory matters."""
        return not self.least_swap_bytes and self.most_some_us == self.most_full_us == UNBOUNDED

    def holds(self, swap_free_bytes: int, some_us: int, full_us: int) -> bool:
        """Whether all but available memory is within bounds."""
        within = some_us < self.most_some_us and full_us < self.most_full_us
        return within and swap_free_bytes >= self.least_swap_bytes


def groups_of(rules: Rules) -> Groups | None:
    """Of all rulesets; None where one wants to see something else at every look, or looks by a clock of its own."""
    groups = tuple(group for ruleset in rules.rulesets for group in (*ruleset.when, *ruleset.critical))
    wants = [detector.wants for group in groups for detector in group]
    past = any(ruleset.policy is not None and ruleset.policy.window_us for ruleset in rules.rulesets)
    if rules.proactive is not None or past or any(each.details or each.cgroups for each in wants):
        return None
    return groups


def calm(groups: Groups, status: MemoryStatus, state: EngineState, pace: Pace, trend: Trend) -> Calm | None:
    """The bounds after a full look; None while every look must be a full one: something holds or is under way, memory
    falls straight towards a limit, or what keeps a rule from holding cannot be told at a glance.
    """
    busy = state.credits or state.blame is not None or state.pause is not None or status.budget is not None
    if busy or not _is_at_rest(state) or (pace.warm and pace.fresh_us < OLDEST_US):
        return None
    fall = max(0, pace.headroom_bytes) // (WARM_SHARE if pace.warm else COLD_SHARE) or JOLT_BYTES
    if pace.warm:
        fall = min(fall, JOLT_BYTES)
    bounds = Calm(_interval_us(groups, status, pace, trend.fastest, fall), status.mem_available_bytes - fall)
    for group in groups:
        bar = _bar(group, status, state)
        if bar is None:
            return None
        bounds = bounds.within(bar)
        if not pace.warm:  # where it would be warm
            bounds = bounds.within(Calm(0, 2 * max((_limit(each, status) for each in group), default=0)))
    return bounds if status.mem_available_bytes >= bounds.least_bytes else None


def _interval_us(groups: Groups, status: MemoryStatus, pace: Pace, fastest: int, fall: int) -> int:
    """The pace's, for the least that is within bounds; and no longer than any group needs to hold, whose limits of
    memory and swap must all be reached. Stall may come at any time: of that triggers tell, or the pace.
    """
    interval_us = pace.interval_us - fall * SECOND_US // fastest
    for group in groups:
        if not any(isinstance(detector, PressureShare) for detector in group):
            ahead = max((_ahead_bytes(detector, status, fall) for detector in group), default=0)
            interval_us = min(interval_us, ahead * SECOND_US // fastest)
    return max(min(pace.interval_us, SHORTEST_US), interval_us)


def _ahead_bytes(detector: Detector, status: MemoryStatus, fall: int) -> int:
    """How much must go, from the least that is within bounds, until it can hold."""
    if isinstance(detector, SwapFree) and status.has_swap:
        ahead = status.swap_free_bytes - detector.below.resolve_bytes(status.swap_total_bytes)
        return ahead - _swap_fall(ahead)
    limit = _limit(detector, status)
    return status.mem_available_bytes - fall - limit if limit else 0


def _swap_fall(ahead_bytes: int) -> int:
    """So much less swap is worth a full look."""
    return min(JOLT_BYTES, ahead_bytes // WARM_SHARE)


def _is_at_rest(state: EngineState) -> bool:
    """Whether no ruleset holds, or goes on with its ladder should it hold again."""
    return all(
        memory.since_us is None and memory.critical_since_us is None and not memory.next_step
        for memory in state.rulesets
    )


def _bar(group: tuple[Detector, ...], status: MemoryStatus, state: EngineState) -> Calm | None:
    """Within what bounds one detector of the group cannot hold, available memory first; None where no glance tells."""
    for detector in group:
        limit = _limit(detector, status)
        if limit and status.mem_available_bytes > limit:
            return Calm(0, limit)
    for detector in group:
        if isinstance(detector, SwapFree) and status.has_swap:
            limit = detector.below.resolve_bytes(status.swap_total_bytes)
            ahead = status.swap_free_bytes - limit
            if ahead > 0:
                return Calm(0, 0, status.swap_free_bytes - _swap_fall(ahead))
        elif isinstance(detector, PressureShare):
            most = _most_stall_us(detector, status, state)
            if most is not None:
                return Calm(0, 0, most_full_us=most) if detector.kind == "full" else Calm(0, 0, most_some_us=most)
    return None


def _limit(detector: Detector, status: MemoryStatus) -> int:
    """The limit of available memory; 0 where it looks at something else. Shares are of a base that is never more than
    all memory.
    """
    instead = isinstance(detector, SwapFree) and not status.has_swap and detector.swapless == MEMORY
    if isinstance(detector, MemoryAvailable | SwapFree) and (instead or isinstance(detector, MemoryAvailable)):
        return detector.below.resolve_bytes(status.mem_total_bytes)
    return 0


def _most_stall_us(detector: PressureShare, status: MemoryStatus, state: EngineState) -> int | None:
    """Below this much stall since boot it cannot hold: a window that ends later shows no more than what came since the
    beginning of the one that ends now.
    """
    if detector.of != MACHINE or detector.resource != "memory" or detector.avg or not state.history:
        return None
    full = detector.kind == "full"
    now = status.psi_full_us if full else status.psi_some_us
    totals = [(each.time_us, each.full_us if full else each.some_us) for each in state.history]
    points = tuple((time_us, total) for time_us, total in totals if total is not None)
    if now is None or not points:
        return None
    begin = int(Series("", points).since(detector.over_us).points[0][1])
    most = begin + int(detector.above * FULL_ENOUGH * detector.over_us)
    return most if now < most else None

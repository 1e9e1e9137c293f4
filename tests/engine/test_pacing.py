"""How soon to look again."""

from __future__ import annotations

from typing import Any

from oomd.config.loader import default_config
from oomd.engine import pacing
from oomd.engine.credit import KILL, open_credit
from oomd.engine.detection import initial_state, observe
from oomd.model.ruleset import EngineState
from oomd.model.units import GIB, MIB
from tests.fakes.builders import alarm, candidate, status

RULES = default_config().rules


def paced(
    available_mib: int, *, triggers: bool = True, alerted: bool = False, state: EngineState | None = None
) -> pacing.Pace:
    """The pace with so much available on a machine of 64 GiB."""
    now = status(mem_available_bytes=available_mib * MIB, anon_bytes=64 * GIB - available_mib * MIB)
    detections, after = observe(RULES, now, state or initial_state(RULES))
    return pacing.pace(detections, after, triggers=triggers, alerted=alerted)


def test_far_from_danger_it_sleeps_long() -> None:
    """With pressure triggers up to 5 s, without them a second."""
    assert paced(60000) == pacing.Pace(60000 * MIB - 2 * GIB, warm=False, interval_us=pacing.QUIET_US)
    assert paced(60000, triggers=False).interval_us == pacing.POLLING_US


def test_looks_again_before_the_fastest_hog_can_arrive() -> None:
    """The headroom divided by 6000 MiB/s."""
    assert paced(2048 + 6000).interval_us == 1_000_000


def test_near_danger_it_is_warm() -> None:
    """With less than another limit of headroom processes are looked at, ten times a second."""
    near = paced(3000)
    assert near.warm
    assert near.interval_us == pacing.WARM_US
    assert paced(2100).interval_us == pacing.SHORTEST_US
    assert not paced(5000).warm


def test_pressure_keeps_it_attentive() -> None:
    """A trigger that fired a moment ago makes it warm wherever the level is."""
    assert paced(60000, alerted=True) == pacing.Pace(60000 * MIB - 2 * GIB, warm=True, interval_us=pacing.WARM_US)


def test_kill_under_way_is_followed_closely() -> None:
    """While memory is coming back it looks fifty times a second."""
    state = initial_state(RULES)
    busy = EngineState(rulesets=state.rulesets, credits=(open_credit("1", candidate(7), "level", KILL, status()),))
    assert paced(60000, state=busy).interval_us == pacing.IN_FLIGHT_US


def test_rules_without_a_level_keep_it_warm() -> None:
    """Where no rule looks at available memory, danger may always be near."""
    assert pacing.pace((alarm(),), initial_state(RULES), triggers=True, alerted=False).warm


def trend_of(*steps: tuple[int, int]) -> pacing.Trend:
    """After looks at these milliseconds and MiB available."""
    trend = pacing.STEADY
    for time_ms, available_mib in steps:
        now = status(time_us=1_000_000 + time_ms * 1000, mem_available_bytes=available_mib * MIB)
        trend = pacing.followed(trend, now)
    return trend


def test_rate_of_the_last_step_and_of_half_a_second() -> None:
    """Whichever is faster; a jolt of a few MiB between two looks tells nothing, a slow leak shows over the span."""
    assert trend_of((0, 5000)).falling == 0
    assert trend_of((0, 5000), (100, 4900)).falling == 1000 * MIB
    assert trend_of((0, 5000), (2, 4995)).falling == 2500 * MIB  # nothing older to tell by
    steady = [(time, 5000) for time in range(0, 2000, 100)]
    assert trend_of(*steady, (2000, 4995)).falling < 20 * MIB
    leak = trend_of(*((time, 5000 - time // 20) for time in range(0, 3000, 100)))
    assert 45 * MIB < leak.falling < 55 * MIB
    assert trend_of((0, 5000), (100, 5100)).falling == 0


def test_fastest_rate_ever_seen() -> None:
    """One that is faster than the field's counts from then on; what lasts a moment only does not."""
    assert trend_of((0, 5000), (100, 4000)).fastest == 10_000 * MIB
    assert trend_of((0, 5000), (100, 4000), (200, 3990), (300, 3900)).fastest == 10_000 * MIB
    assert trend_of((0, 5000), (5, 4900)).fastest == pacing.FASTEST_FILL_BYTES_PER_SECOND
    assert trend_of((0, 5000), (100, 4940)).fastest == pacing.FASTEST_FILL_BYTES_PER_SECOND
    fast = pacing.Trend(fastest=12_000 * MIB)
    now = status(mem_available_bytes=(2048 + 6000) * MIB, anon_bytes=64 * GIB - (2048 + 6000) * MIB)
    detections, after = observe(RULES, now, initial_state(RULES))
    assert pacing.pace(detections, after, triggers=True, alerted=False, trend=fast).interval_us == 500_000


def falling(available_mib: int, rate_mib: int) -> pacing.Pace:
    """The pace with so much available and so much less every second."""
    now = status(mem_available_bytes=available_mib * MIB, anon_bytes=64 * GIB - available_mib * MIB)
    detections, after = observe(RULES, now, initial_state(RULES))
    trend = pacing.Trend(falling=rate_mib * MIB)
    return pacing.pace(detections, after, triggers=True, alerted=False, trend=trend)


def test_forecast_sets_rate_and_freshness() -> None:
    """The sooner the limit (2 GiB here) will be reached, the sooner the next look, and the fresher the choice."""
    far = falling(3048, 10)  # a hundred seconds away
    assert (far.interval_us, far.fresh_us) == (pacing.WARM_US, pacing.OLDEST_US)
    near = falling(3048, 2000)  # half a second away
    assert (near.interval_us, near.fresh_us) == (62_500, 125_000)
    brink = falling(2058, 1000)  # ten milliseconds away
    assert (brink.interval_us, brink.fresh_us) == (pacing.BRINK_US, pacing.FRESHEST_US)
    between = falling(2000, 1000)  # beyond the limit that counts where all stalls only, and a second from the other
    assert (between.interval_us, between.fresh_us) == (pacing.WARM_US, 244_000)
    below = falling(1000, 1000)
    assert (below.interval_us, below.fresh_us) == (pacing.BRINK_US, pacing.OLDEST_US)


def test_far_from_danger_no_forecast_counts() -> None:
    """The distance alone does: what falls fast there is what programs do all day."""
    assert falling(60_000, 3000).interval_us == pacing.QUIET_US


def costly(available_mib: int, cost_us: int, **more: Any) -> pacing.Pace:
    """The pace where a look takes so much CPU time."""
    now = status(mem_available_bytes=available_mib * MIB, anon_bytes=64 * GIB - available_mib * MIB)
    detections, after = observe(RULES, now, initial_state(RULES))
    return pacing.pace(detections, after, triggers=True, alerted=False, cost_us=cost_us, **more)


def test_a_slow_machine_is_not_taken_up_by_looking() -> None:
    """A twentieth of the time while memory is short, a quarter while it falls; however slow, it looks every second."""
    assert costly(2100, 300).interval_us == pacing.SHORTEST_US
    assert costly(2100, 25_000).interval_us == 500_000
    assert costly(2058, 25_000, trend=pacing.Trend(falling=1000 * MIB)).interval_us == 100_000
    assert costly(2100, 1_000_000).interval_us == pacing.POLLING_US
    assert costly(60_000, 25_000).interval_us == pacing.QUIET_US
    assert not costly(4200, 200_000).warm
    assert costly(4200, 200_000).interval_us == 800_000
    assert costly(4200, 300).interval_us == costly(4200, 0).interval_us < 800_000


def test_beyond_one_limit_of_two_the_other_one_counts() -> None:
    """Little memory and much free swap: nothing can happen before that is used up, or everything stalls."""

    def beyond(swap_free_mib: int) -> int:
        now = status(
            mem_available_bytes=1000 * MIB,
            anon_bytes=63 * GIB,
            swap_total_bytes=8 * GIB,
            swap_free_bytes=swap_free_mib * MIB,
        )
        detections, after = observe(RULES, now, initial_state(RULES))
        found = pacing.pace(detections, after, triggers=True, alerted=False)
        assert found.warm
        return found.interval_us

    assert beyond(8000) == pacing.WARM_US
    assert 49_000 < beyond(1119) <= 50_000
    assert beyond(850) == pacing.SHORTEST_US
    assert beyond(800) == pacing.SHORTEST_US  # it holds

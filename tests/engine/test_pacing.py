"""How soon to look again."""

from __future__ import annotations

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
    """With pressure triggers up to 3 s, without them a second."""
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

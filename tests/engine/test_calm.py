"""What a glance may pass over."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from hypothesis import given
from hypothesis import strategies as st

from oomd.config.loader import default_config, load_config
from oomd.detectors.pressure import PressureShare
from oomd.detectors.thresholds import MEMORY, NEVER, MemoryAvailable, SwapFree
from oomd.engine import pacing
from oomd.engine.calm import COLD_SHARE, UNBOUNDED, Calm, calm, groups_of
from oomd.engine.credit import KILL, open_credit
from oomd.engine.detection import initial_state, observe, passed
from oomd.model.config import Config
from oomd.model.ruleset import EngineState, Pause, Rules, Ruleset
from oomd.model.snapshot import MemoryStatus
from oomd.model.threshold import Threshold
from oomd.model.units import GIB, MIB, SECOND_US
from tests.fakes.builders import candidate, status

if TYPE_CHECKING:
    from oomd.model.ruleset import Detector

RULES = default_config().rules
LIMIT = 2 * GIB
"""The nearest one of those on a machine of 64 GiB."""


def machine(available_mib: int, **more: Any) -> MemoryStatus:
    """A machine of 64 GiB."""
    return status(
        mem_total_bytes=64 * GIB,
        mem_available_bytes=available_mib * MIB,
        anon_bytes=64 * GIB - available_mib * MIB,
        **more,
    )


def bounds_of(now: MemoryStatus, rules: Rules = RULES, state: EngineState | None = None) -> Calm | None:
    """After a full look."""
    groups = groups_of(rules)
    assert groups is not None
    detections, after = observe(rules, now, state or initial_state(rules))
    trend = pacing.followed(pacing.STEADY, now)
    return calm(groups, now, after, pacing.pace(detections, after, triggers=True, alerted=False, trend=trend), trend)


def test_far_from_danger_a_thirtysecond_of_the_headroom() -> None:
    """Little less may be available, and the wait is that of the least that may; swap and stall do not matter."""
    fall = (20 * GIB - LIMIT) // COLD_SHARE
    found = bounds_of(machine(20 * 1024))
    assert found == Calm((20 * GIB - LIMIT - fall) * SECOND_US // pacing.FASTEST_FILL_BYTES_PER_SECOND, 20 * GIB - fall)
    assert bounds_of(machine(4100)) == bounds_of(machine(4100), state=initial_state(RULES))
    nearest = bounds_of(machine(4100))
    assert nearest is not None
    assert nearest.least_bytes == 2 * LIMIT  # from there on processes are looked at


def test_near_danger_a_jolt() -> None:
    """Memory that stands still there needs no more than glances either."""
    found = bounds_of(machine(3000))
    assert found is not None
    assert found.least_bytes == 2992 * MIB
    assert pacing.WARM_US - 2000 < found.interval_us < pacing.WARM_US
    close = bounds_of(machine(2056))
    assert close == Calm(pacing.SHORTEST_US, 2055 * MIB)


def test_beyond_a_limit_what_else_the_rule_waits_for() -> None:
    """Between the two limits stall, below both free swap: so much and no more."""
    between = bounds_of(machine(1500))
    assert between is not None
    assert between.most_full_us == 720_000  # of 800 ms in 2 s; windows need not be full to the last tenth
    assert between.most_some_us == UNBOUNDED
    assert bounds_of(machine(1500, psi_full_us=900_000)) == replace(between, most_full_us=1_620_000)
    swap = {"swap_total_bytes": 8 * GIB, "swap_free_bytes": 6 * GIB}
    below = bounds_of(machine(600, **swap))
    assert below is not None
    assert below.least_swap_bytes == 6 * GIB - pacing.JOLT_BYTES
    assert bounds_of(machine(600)) is None  # it holds
    near = bounds_of(machine(600, swap_total_bytes=8 * GIB, swap_free_bytes=835 * MIB))
    assert near is not None
    assert 833 * MIB < near.least_swap_bytes < 834 * MIB  # an eighth of the way


def test_what_keeps_it_looking() -> None:
    """Kills under way, a pause, blame, an alarm that held, memory that falls."""
    state = initial_state(RULES)
    credit = open_credit("1", candidate(7), "level", KILL, machine(60_000))
    assert bounds_of(machine(60_000), state=replace(state, credits=(credit,))) is None
    assert bounds_of(machine(60_000), state=replace(state, pause=Pause(0, SECOND_US))) is None
    groups, now = groups_of(RULES), machine(3000)
    assert groups is not None
    detections, after = observe(RULES, now, state)
    falling = pacing.Trend(falling=500 * MIB)
    paced = pacing.pace(detections, after, triggers=True, alerted=False, trend=falling)
    assert calm(groups, now, after, paced, falling) is None
    held = observe(RULES, machine(100), state)[1]
    later = observe(RULES, replace(now, time_us=2_000_000), held)[1]
    assert calm(groups, now, held, replace(paced, fresh_us=pacing.OLDEST_US), falling) is None
    assert calm(groups, now, later, replace(paced, fresh_us=pacing.OLDEST_US), falling) is not None


def rules_of(text: str) -> Rules:
    """A configuration's."""
    config = load_config("x", text=text.encode())
    assert isinstance(config, Config)
    return config.rules


def test_rules_that_see_more_than_a_glance_shows() -> None:
    """Cgroups, details, proactive reclaim, a policy with a past: every look is a full one."""
    ruleset = "rulesets: [{{name: x, when: {{any: [{{all: [{}]}}]}}, choose: {{policy: {}}}, then: [{{kill: {{}}}}]}}]"
    level = "{memory_available: {below: 1GiB}}"
    assert groups_of(rules_of(ruleset.format(level, "culprit"))) is not None
    for other in (
        "{pressure: {above: 40%, of: /system.slice/*}}",
        "{pressure: {above: 40%, avg: 10s}}",
        "{watermark: {below: low}}",
        "{thrashing: {above: 50%}}",
    ):
        assert groups_of(rules_of(ruleset.format(f"{level}, {other}", "culprit"))) is None
    assert groups_of(rules_of("proactive: {of: /system.slice/*}")) is None
    plain = groups_of(rules_of(ruleset.format("{commit: {above: 95%}}", "culprit")))
    assert plain is not None
    assert bounds_of(machine(60_000), rules_of(ruleset.format("{commit: {above: 95%}}", "culprit"))) is None


LIMITS = st.builds(MemoryAvailable, st.builds(Threshold, share=st.sampled_from([0.05, 0.1, 0.3])))
SWAPS = st.builds(SwapFree, st.just(Threshold(share=0.5)), swapless=st.sampled_from(SwapFree.choices["swapless"]))
STALLS = st.builds(
    PressureShare,
    st.sampled_from([0.1, 0.4]),
    st.sampled_from([SECOND_US, 3 * SECOND_US]),
    st.sampled_from(["some", "full"]),
)
GROUPS = st.lists(st.lists(LIMITS | SWAPS | STALLS, min_size=1, max_size=2).map(tuple), max_size=2).map(tuple)
MANY_RULES = st.lists(st.builds(Ruleset, st.just("x"), GROUPS, GROUPS), min_size=1, max_size=2).map(
    lambda rulesets: Rules(tuple(replace(each, name=f"r{place}") for place, each in enumerate(rulesets)))
)
STEPS = st.lists(
    st.tuples(
        st.integers(-300, 300) | st.integers(-8, 8),  # available memory, MiB
        st.integers(-300, 300) | st.integers(-8, 8),  # free swap, MiB
        st.integers(0, 30),  # memory that nothing can win back, of 100 MiB
        st.sampled_from([0, 0, 1, 5, 20]),  # stall, per cent
        st.sampled_from([100, 900, 5000]),  # ms
    ),
    min_size=2,
    max_size=30,
)


def moments(steps: list[tuple[int, int, int, int, int]], begin_mib: int, swap_bytes: int) -> list[MemoryStatus]:
    """A machine of 8 GiB, one moment after the other."""
    now_ms, available, swap, stall, told = 1000, begin_mib, swap_bytes // MIB // 2, 0, []
    for more, more_swap, pinned, stalled, pause_ms in steps:
        now_ms += pause_ms
        available = min(8192, max(0, available + more))
        swap = min(swap_bytes // MIB, max(0, swap + more_swap))
        stall += stalled * pause_ms * 10
        told.append(
            status(
                time_us=now_ms * 1000,
                mem_available_bytes=available * MIB,
                anon_bytes=max(0, 8192 - available - pinned * 100) * MIB,
                shmem_bytes=pinned * 100 * MIB,
                swap_total_bytes=swap_bytes,
                swap_free_bytes=swap * MIB,
                psi_some_us=2 * stall,
                psi_full_us=stall,
            )
        )
    return told


def left_us(detector: Detector, now: MemoryStatus, fastest: int) -> float:
    """How long until it can hold, if memory and swap vanish as fast as they ever did; stall may come at any time."""
    if isinstance(detector, MemoryAvailable) or (
        isinstance(detector, SwapFree) and detector.swapless == MEMORY and not now.has_swap
    ):
        return max(0, now.available_bytes - detector.below.resolve_bytes(now.base_bytes)) * SECOND_US / fastest
    if isinstance(detector, SwapFree) and now.has_swap:
        return max(0, now.swap_free_bytes - detector.below.resolve_bytes(now.swap_total_bytes)) * SECOND_US / fastest
    return float("inf") if isinstance(detector, SwapFree) and detector.swapless == NEVER else 0


@given(MANY_RULES, STEPS, st.integers(0, 8192), st.sampled_from([0, GIB]), st.booleans())
def test_a_full_look_would_have_found_nothing(
    rules: Rules, steps: list[tuple[int, int, int, int, int]], begin_mib: int, swap_bytes: int, triggers: bool
) -> None:
    """At every moment within bounds no rule holds and no step is due; nor can one hold before the next glance, however
    fast memory goes (or a full look would not look again sooner either), and where a full look would go over to looking
    ten times a second that is what glances do. As in the loop only the last glance is remembered.
    """
    groups = groups_of(rules)
    assert groups is not None
    state, trend, bounds, glanced = initial_state(rules), pacing.STEADY, None, None
    for now in moments(steps, begin_mib, swap_bytes):
        before, past = state, trend
        if glanced is not None:
            before, past = passed(rules, glanced, state), pacing.followed(trend, glanced)
        detections, after = observe(rules, now, before)
        if (
            bounds is not None
            and now.mem_available_bytes >= bounds.least_bytes
            and bounds.holds(now.swap_free_bytes, now.psi_some_us or 0, now.psi_full_us or 0)
        ):
            assert not any(detection.fired or detection.since_us is not None for detection in detections)
            assert after.rulesets == before.rulesets
            full = pacing.pace(detections, after, triggers=triggers, alerted=False)
            assert not full.warm or bounds.interval_us <= pacing.WARM_US
            for group in groups:
                if not any(isinstance(detector, PressureShare) for detector in group):
                    soonest_us = max(left_us(detector, now, trend.fastest) for detector in group)
                    assert bounds.interval_us <= max(pacing.SHORTEST_US, soonest_us, full.interval_us)
            glanced = now
            continue
        trend = pacing.followed(past, now)
        paced = pacing.pace(detections, after, triggers=triggers, alerted=False, trend=trend)
        state, glanced = after, None
        bounds = calm(groups, now, state, paced, trend)
        if bounds is not None:
            assert now.mem_available_bytes >= bounds.least_bytes
            assert bounds.interval_us <= paced.interval_us

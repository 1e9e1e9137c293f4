"""Rulesets over time."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from oomd.config.loader import default_config
from oomd.detectors.direct_reclaim import DirectReclaim
from oomd.detectors.memory_growth import MemoryGrowth
from oomd.detectors.pressure import PressureShare
from oomd.detectors.thresholds import MemoryAbove, MemoryAvailable
from oomd.engine.aftermath import acted, with_credit
from oomd.engine.credit import KILL, TERM, open_credit
from oomd.engine.detection import (
    SAMPLES_PER_WINDOW,
    among_of,
    initial_state,
    longest_window_us,
    observe,
    reloaded_state,
    wants_of,
)
from oomd.engine.selection import select
from oomd.model.decision import Detection
from oomd.model.ruleset import Choice, EngineState, Rules, Ruleset
from oomd.model.snapshot import Cgroup, MemoryStatus
from oomd.model.threshold import Threshold
from oomd.model.units import GIB, MIB, SECOND_US
from oomd.policies.metrics import PgscanRate, PressureOrder
from tests.fakes.builders import candidate, process, snapshot, status

RULES = default_config().rules
LEVEL = Rules((RULES.rulesets[0],))


def low(seconds: float, available_mib: int = 300) -> MemoryStatus:
    """The machine with this much available, its base unchanged."""
    return status(
        time_us=int(seconds * SECOND_US),
        mem_available_bytes=available_mib * MIB,
        anon_bytes=8 * GIB - available_mib * MIB,
    )


def seen(rules: Rules, *machine: MemoryStatus, state: EngineState | None = None) -> tuple[Detection, EngineState]:
    """The first ruleset's answer to the last of these, and the state."""
    state = state or initial_state(rules)
    detections: tuple[Detection, ...] = ()
    for now in machine:
        detections, state = observe(rules, now, state)
    return detections[0], state


def test_level_and_critical() -> None:
    """Below 5 % of 8 GiB it fires, below half of that it is critical, above it is quiet."""
    assert not seen(LEVEL, low(1, 500))[0].fired
    detection, _ = seen(LEVEL, low(1, 400))
    assert (detection.fired, detection.critical, detection.since_us) == (True, False, SECOND_US)
    assert seen(LEVEL, low(1, 200))[0].critical
    assert [piece.holds for piece in detection.evidence] == [True, True]


def test_free_swap_delays_the_level() -> None:
    """With swap free the level alone does not fire."""
    now = replace(low(1, 100), swap_total_bytes=GIB, swap_free_bytes=GIB // 2)
    assert not seen(LEVEL, now)[0].fired


def test_for_is_waited_for_but_not_at_the_critical_level() -> None:
    """An alarm must hold as long as ``for`` says; the critical level never waits."""
    rules = Rules((replace(LEVEL.rulesets[0], for_us=2 * SECOND_US),))
    assert not seen(rules, low(1), low(2.9))[0].fired
    assert seen(rules, low(1), low(3.1))[0].fired
    assert not seen(rules, low(1), low(2, 600), low(3.1))[0].fired
    assert seen(rules, low(1, 100))[0].fired


def test_pause_rests_but_not_at_the_critical_level() -> None:
    """After it acted a ruleset rests; the critical level does not."""
    state = acted(initial_state(LEVEL), "level", ("level",), 9 * SECOND_US)
    assert not seen(LEVEL, low(8), state=state)[0].fired
    assert seen(LEVEL, low(9), state=state)[0].fired
    assert seen(LEVEL, low(8, 100), state=state)[0].fired


def test_credit_silences_the_alarm() -> None:
    """F16: while a killed victim's memory is on its way the alarm is silent; a promise silences it too, but not the
    critical level.
    """
    killed = with_credit(initial_state(LEVEL), open_credit("1", candidate(7, 500), "level", KILL, low(1)))
    assert not seen(LEVEL, low(1.1), state=killed)[0].fired
    assert not seen(LEVEL, low(1.1, 100), state=killed)[0].fired
    asked = with_credit(initial_state(LEVEL), open_credit("1", candidate(7, 500), "level", TERM, low(1), 5 * SECOND_US))
    assert not seen(LEVEL, low(1.1), state=asked)[0].fired
    assert seen(LEVEL, low(1.1, 100), state=asked)[0].critical


def test_history_is_bounded_and_covers_the_window() -> None:
    """Whatever the tick rate, some 40 samples cover the longest window, the newest last."""
    state = initial_state(RULES)
    window = longest_window_us(RULES)
    assert window == 2 * SECOND_US
    for tick in range(2000):
        _, state = observe(RULES, status(time_us=tick * 10_000, psi_some_us=tick, psi_full_us=tick), state)
    assert len(state.history) <= 2 * SAMPLES_PER_WINDOW
    assert state.history[-1].time_us == 1999 * 10_000
    assert window <= state.history[-1].time_us - state.history[0].time_us < window * 1.1


def test_without_psi_the_stall_is_silent() -> None:
    """Where PSI is off the level works, and the stall says why it does not."""
    now = replace(low(1), psi_full_us=None, psi_some_us=None)
    detections, _ = observe(RULES, now, initial_state(RULES))
    assert [detection.fired for detection in detections] == [True, False]
    assert detections[1].evidence[0].text == "memory pressure is not known"


def test_nothing_is_remembered_without_a_window() -> None:
    """Rules that look at no past keep none."""
    assert observe(LEVEL, low(1), initial_state(LEVEL))[1].history == ()


def test_reload_keeps_kills_under_way() -> None:
    """New rules begin without memory, and know whose memory is still to come."""
    credit = open_credit("1", candidate(7), "level", KILL, low(1))
    _, state = seen(RULES, low(1), state=with_credit(initial_state(RULES), credit))
    state = reloaded_state(state, LEVEL)
    assert len(state.rulesets) == 1
    assert state.rulesets[0].since_us is None
    assert [kept.decision_id for kept in state.credits] == ["1"]


def test_futile_kills_are_forgotten_when_the_alarm_ends() -> None:
    """The count is of one shortage."""
    state = replace(initial_state(LEVEL), futile_kills=1)
    assert seen(LEVEL, low(1), state=state)[1].futile_kills == 1
    assert seen(LEVEL, low(1, 4000), state=state)[1].futile_kills == 0


@given(st.integers(0, 8192), st.integers(0, 8192), st.integers(0, 2000), st.integers(0, 2000))
def test_more_available_memory_never_turns_none_into_kill_from_a_fresh_state(
    one: int, other: int, stall_ms: int, more_stall_ms: int
) -> None:
    """From a fresh state, a machine with more available memory and less stall is never answered more harshly."""
    poor, rich = sorted((one, other))
    calm, stalled = sorted((stall_ms, more_stall_ms))
    order = {"none": 0, "term": 1, "kill": 2}
    answers = []
    for available, stall in ((rich, calm), (poor, stalled)):
        first = replace(low(1, available), psi_full_us=0)
        last = replace(low(3, available), psi_full_us=stall * 1000, psi_some_us=stall * 1000)
        _, state = observe(RULES, first, initial_state(RULES))
        detections, _ = observe(RULES, last, state)
        answers.append(order[select(RULES, snapshot(process(), status=last), detections, initial_state(RULES)).action])
    assert answers[0] <= answers[1]


FOUR_GIB = MemoryAbove(Threshold(size_bytes=4 * GIB), of="/s/*")


def in_turn(*names: str, held_s: float = 1.0) -> list[tuple[MemoryStatus, tuple[Cgroup, ...]]]:
    """Moments a second apart at which these cgroups (letters of one text) are above 4 GiB."""
    moments = []
    for second, above in enumerate(names):
        groups = (
            Cgroup(f"/s/{name}", time_us=second * SECOND_US, current_bytes=(5 if name in above else 1) * GIB)
            for name in "ab"
        )
        moments.append((status(time_us=int(second * held_s * SECOND_US)), tuple(groups)))
    return moments


def fires(ruleset: Ruleset, moments: list[tuple[MemoryStatus, tuple[Cgroup, ...]]]) -> bool:
    """Whether it fires at the last of these moments."""
    rules = Rules((ruleset,))
    state = initial_state(rules)
    detections: tuple[Detection, ...] = ()
    for now, cgroups in moments:
        detections, state = observe(rules, now, state, cgroups)
    return detections[0].fired


def test_each_cgroup_has_a_clock_of_its_own() -> None:
    """One cgroup hot for two seconds and another for two are not one hot for four (at Meta they are)."""
    ruleset = Ruleset("r", ((FOUR_GIB,),), for_us=3 * SECOND_US)
    assert not fires(ruleset, in_turn("a", "a", "b", "b", "b"))
    assert not fires(ruleset, in_turn("a", "a", "", "a", "a"))
    assert fires(ruleset, in_turn("a", "ab", "ab", "ab"))
    assert fires(ruleset, in_turn("b", "a", "a", "a", "ab"))


def test_every_detector_of_a_group_holds_long_enough() -> None:
    """The machine's alarm since long, and a cgroup's since a moment: not yet."""
    group = (MemoryAvailable(Threshold(share=1.0)), FOUR_GIB)
    ruleset = Ruleset("r", (group,), for_us=2 * SECOND_US)
    assert not fires(ruleset, in_turn("a", "b", "a", "b"))
    assert fires(ruleset, in_turn("", "a", "a", "a"))
    either = Ruleset("r", ((FOUR_GIB,), (MemoryAvailable(Threshold(share=1.0)),)), for_us=2 * SECOND_US)
    assert fires(either, in_turn("", "", ""))


def test_wants_are_those_of_all_rules_and_no_more() -> None:
    """The default rules want nothing; others what their detectors look at, and the past of what their policies rate."""
    wants = wants_of(RULES)
    assert (wants.details, wants.cgroups, wants.files) == (frozenset(), (), frozenset())
    ruleset = Ruleset(
        "r",
        ((DirectReclaim(), PressureShare(0.5, resource="io")), (MemoryGrowth(1, of="/x"),)),
        critical=((FOUR_GIB,),),
        policy=PgscanRate(),
        choice=Choice("cgroup", ("/y",), recursive=True),
    )
    wants = wants_of(Rules((ruleset,)))
    assert wants.details == {"counters", "io_pressure"}
    assert wants.cgroups == ("/s/*", "/x", "/y/**")
    assert wants.files == {"memory.stat", "memory.current"}
    assert longest_window_us(Rules((ruleset,))) == 10 * SECOND_US


def test_cgroups_that_a_choice_looks_at() -> None:
    """Among processes everywhere none; where their cgroups rank them all; among cgroups those named, and below."""
    plain = Ruleset("r", (), policy=RULES.rulesets[0].policy)
    assert among_of(plain) == ()
    assert among_of(replace(plain, policy=PressureOrder())) == ("/**",)
    assert among_of(replace(plain, choice=Choice("cgroup"))) == ("/*",)
    assert among_of(replace(plain, choice=Choice("cgroup", ("/a/*",), recursive=True))) == ("/a/*/**",)
    assert among_of(replace(plain, choice=Choice("session", ("/a",)))) == ("/a/**",)


def test_nobody_dies_for_an_alarm_that_would_not_begin() -> None:
    """The limit is 410 MiB. An alarm that nobody was signalled for holds on a little beyond it; once somebody was, the
    next one is asked for below it only, whether that memory is back or still to come.
    """
    assert seen(LEVEL, low(1, 400), low(2, 430))[0].since_us == SECOND_US
    for phase in (TERM, KILL):
        _, state = seen(LEVEL, low(1, 400))
        state = with_credit(state, open_credit("1", candidate(7, 30), "level", phase, low(1, 400)))
        held, after = seen(LEVEL, low(2, 400), state=state)
        assert (held.fired, held.since_us) == (False, None), phase  # 430 with what is still to come
        back, after = seen(LEVEL, low(2, 431), state=after)
        assert not back.fired
        assert not seen(LEVEL, low(3, 431), state=replace(after, credits=()))[0].fired
        again, _ = seen(LEVEL, low(3, 405), state=replace(after, credits=()))
        assert again.fired

"""Which step of a ladder is due: cases, and any course of the machine."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oomd.detectors.thresholds import MemoryAvailable
from oomd.engine.credit import DEAD
from oomd.engine.detection import initial_state, observe
from oomd.engine.ladder import AGAIN_US, begun, gained, is_possible, next_due, signalled, through
from oomd.engine.selection import fired, select
from oomd.model.decision import KILL, NO_ACTION, TERM, Decision
from oomd.model.ruleset import LAST_NOTHING, EngineState, Rules, Ruleset
from oomd.model.snapshot import MemoryStatus
from oomd.model.steps import FreezeStep, NotifyStep, ReclaimStep, RestartStep, ThrottleStep
from oomd.model.threshold import Threshold
from oomd.model.units import GIB, MIB, SECOND_US
from oomd.policies.freeable import Freeable
from oomd.replay.player import Player
from tests.fakes.builders import process, snapshot, status

RECLAIM, THROTTLE = ReclaimStep(timeout_us=5 * SECOND_US), ThrottleStep(timeout_us=5 * SECOND_US)
STEPS = (NotifyStep(2 * SECOND_US), ThrottleStep(timeout_us=3 * SECOND_US), FreezeStep(timeout_us=4 * SECOND_US))


def ruleset(**changes: Any) -> Ruleset:
    """Below 1 GiB an alarm, below 256 MiB critical; three gentle steps, then SIGTERM."""
    values: dict[str, Any] = {
        "name": "gentle",
        "when": ((MemoryAvailable(Threshold(size_bytes=GIB)),),),
        "critical": ((MemoryAvailable(Threshold(size_bytes=256 * MIB)),),),
        "policy": Freeable(),
        "steps": STEPS,
    }
    return Ruleset(**(values | changes))


def at(seconds: float, available_mib: int) -> MemoryStatus:
    """The machine at this moment."""
    return status(time_us=int(seconds * SECOND_US), mem_available_bytes=available_mib * MIB)


class Course:
    """One ruleset over time: what is decided at each look, and carried out on paper."""

    def __init__(self, **changes: Any) -> None:
        self.rules = Rules((ruleset(**changes),))
        self.state: EngineState = initial_state(self.rules)
        self.begun: list[tuple[float, str]] = []
        """Gentle steps and signals, with their times."""

    def look(self, seconds: float, available_mib: int) -> Decision:
        """Another look; whatever is due is begun. A victim is dead at once, and its memory back."""
        now = at(seconds, available_mib)
        detections, self.state = observe(self.rules, now, self.state)
        shown = snapshot(process(7, 300, cgroup="/a"), process(8, 100, cgroup="/b"), status=now)
        decision = select(self.rules, shown, detections, self.state)
        while decision.step is not None:
            self.state = begun(self.state, self.rules, decision, f"{len(self.begun)}")
            if is_possible(decision):
                break
            decision = select(self.rules, shown, next_due(self.rules, decision), self.state)
        if decision.action in (TERM, KILL):
            self.state = signalled(self.state, self.rules, "gentle")
        if decision.action != NO_ACTION:
            self.begun.append((seconds, decision.action))
        return decision

    @property
    def actions(self) -> list[str]:
        """What was done, in its order."""
        return [action for _, action in self.begun]


def test_one_after_the_other() -> None:
    """Each step when the one before has had its time; then somebody is asked to go, and no gentle step follows."""
    course = Course()
    for tenth in range(110):
        course.look(tenth / 10, 800)
    assert course.begun[:4] == [(0, "notify"), (2, "throttle"), (5, "freeze"), (9, "term")]
    assert set(course.actions[4:]) == {"term"}


def test_a_step_that_frees_enough_ends_the_ladder() -> None:
    """The alarm is over: nothing more is done, and how much it brought is known."""
    course = Course()
    course.look(0, 800)
    course.look(2, 790)
    (memory,) = course.state.rulesets
    assert memory.ladder is not None
    assert gained(memory.ladder, at(3, 2000)) == (1210 * MIB, 0)
    course.look(3, 2000)
    assert course.state.rulesets[0].ladder is None
    for second in range(4, 60):
        course.look(second, 2000)
    assert course.actions == ["notify", "throttle"]


def test_an_alarm_that_comes_back_soon_goes_on() -> None:
    """What helped for a moment is not tried again; after a while of quiet the ladder begins anew."""
    course = Course()
    course.look(0, 800)
    course.look(1, 2000)
    course.look(20, 800)
    assert course.actions == ["notify", "throttle"]
    course.look(21, 2000)
    course.look(21 + AGAIN_US / SECOND_US, 2000)
    course.look(60, 800)
    assert course.actions == ["notify", "throttle", "notify"]


def test_critical_overtakes() -> None:
    """In the middle of a step, and at the very first look."""
    course = Course()
    course.look(0, 800)
    assert course.look(0.1, 200).action == KILL
    assert Course().look(0, 200).action == KILL
    assert course.look(0.2, 800).action == TERM


def test_through_before_its_time() -> None:
    """A step that has done what it can lets the next one be due; one that is later than its time changes nothing."""
    course = Course()
    course.look(0, 800)
    course.state = through(course.state, course.rules, "gentle", SECOND_US)
    assert course.look(0.9, 800).action == NO_ACTION
    assert course.look(1, 800).action == "throttle"
    before = course.state
    assert through(before, course.rules, "gentle", 60 * SECOND_US) == before
    assert through(before, course.rules, "other", 0) == before


def test_a_step_that_nobody_is_there_for() -> None:
    """Is passed over at once: there is no swap, so the process is not swapped out; and the next step is another one."""
    course = Course(steps=(ReclaimStep(), RestartStep("nobody"), FreezeStep()))
    decision = course.look(0, 800)
    assert (decision.action, decision.step) == ("freeze", 2)
    assert course.actions == ["freeze"]


def test_a_ladder_without_a_kill() -> None:
    """At its end nobody is signalled, whatever happens; with a pause it begins anew after that."""
    course = Course(critical=(), last=LAST_NOTHING, steps=(NotifyStep(),))
    for second in range(100):
        course.look(second, 100)
    assert course.actions == ["notify"]
    course = Course(critical=(), last=LAST_NOTHING, steps=(NotifyStep(),), pause_us=20 * SECOND_US)
    for second in range(62):
        course.look(second, 100)
    assert course.begun == [(0, "notify"), (20, "notify"), (40, "notify"), (60, "notify")]
    course = Course(critical=(), last=LAST_NOTHING, steps=(ReclaimStep(),))
    assert course.look(0, 100).action == NO_ACTION
    assert course.actions == []


def test_a_ladder_without_a_kill_begins_anew_with_the_alarm() -> None:
    """It has no next step to go on with: an alarm that comes back has the whole ladder again, at once where the pause
    since what was enough is over, and else as soon as it is.
    """
    course = Course(critical=(), last=LAST_NOTHING, steps=(NotifyStep(),), pause_us=2 * SECOND_US)
    course.look(0, 800)
    course.look(1, 2000)
    course.look(5, 800)
    assert course.begun == [(0, "notify"), (5, "notify")]
    course.look(6, 2000)
    for tenth in range(70, 90):
        course.look(tenth / 10, 800)
    assert course.begun[2:] == [(8, "notify")]


@pytest.mark.parametrize(
    ("last", "begun"),
    [
        (RECLAIM, [(0, "throttle"), (4, "throttle")]),  # without swap nothing can be reclaimed
        (FreezeStep(timeout_us=4 * SECOND_US), [(0, "throttle"), (2, "freeze"), (33, "throttle")]),
    ],
    ids=["a reclaim", "anything else"],
)
def test_without_a_pause_only_a_reclaim_comes_again_soon(last: Any, begun: list[tuple[int, str]]) -> None:
    """Nobody wants to be frozen, or told, or restarted at every flicker of an alarm."""
    course = Course(critical=(), last=LAST_NOTHING, steps=(ThrottleStep(), last))
    course.look(0, 800)
    course.look(1, 2000)
    course.look(2, 800)
    course.look(3, 2000)
    for seconds in (3.1, 4, 32, 33):
        course.look(seconds, 800)
    assert course.begun[: len(begun)] == begun


def test_a_pause_is_not_longer_where_looks_are_rare() -> None:
    """It counts from the end of the last step, whenever that was seen."""
    course = Course(critical=(), last=LAST_NOTHING, steps=(FreezeStep(timeout_us=SECOND_US),), pause_us=2 * SECOND_US)
    for seconds in (0, 1.9, 3):
        course.look(seconds, 800)
    assert course.begun == [(0, "freeze"), (3, "freeze")]


def test_a_reclaim_that_has_brought_nothing_goes_on() -> None:
    """While its pages are being written they are neither a process's nor available, and the share that is the limit
    sinks below what is left. Once more is available than before that counts; another step does not wait for it.
    """
    quarter = ((MemoryAvailable(Threshold(share=0.25)),),)
    for step, available_mib, lasts in ((RECLAIM, 800, True), (RECLAIM, 1000, False), (THROTTLE, 800, False)):
        rules = Rules((ruleset(when=quarter, critical=(), last=LAST_NOTHING, steps=(step,)),))
        state = initial_state(rules)
        swap = {"swap_total_bytes": 4 * GIB, "swap_free_bytes": 4 * GIB}
        now = status(time_us=0, mem_available_bytes=900 * MIB, anon_bytes=3000 * MIB, **swap)
        detections, state = observe(rules, now, state)
        decision = select(rules, snapshot(process(7, 300, cgroup="/a"), status=now), detections, state)
        assert decision.step == 0
        state = begun(state, rules, decision, "1")
        later = replace(now, time_us=SECOND_US, mem_available_bytes=available_mib * MIB, anon_bytes=1500 * MIB)
        (detection,), state = observe(rules, later, state)
        assert (detection.since_us is not None, detection.fired) == (lasts, False)
        (detection,), state = observe(rules, replace(later, time_us=step.timeout_us), state)
        assert detection.since_us is None


def test_a_pause_begins_when_all_is_done() -> None:
    """Not when it has shown that it was not enough; where there was less to be done than was asked for, then."""
    changes: dict[str, Any] = {"critical": (), "last": LAST_NOTHING, "steps": (ThrottleStep(timeout_us=5 * SECOND_US),)}
    for done_us, again in ((100_000, 2.1), (None, 3.1)):
        course = Course(pause_us=2 * SECOND_US, **changes)
        course.look(0, 800)
        course.state = through(course.state, course.rules, "gentle", 1_100_000, done_us)
        for tenth in range(1, 40):
            course.look(tenth / 10, 800)
        assert course.begun == [(0, "throttle"), (again, "throttle")]


def test_another_ruleset_does_not_wait() -> None:
    """While one waits for its step the other acts."""
    waiting, other = ruleset(), ruleset(name="other", steps=(), critical=())
    rules = Rules((waiting, other))
    state = initial_state(rules)
    detections, state = observe(rules, at(0, 800), state)
    shown = snapshot(process(7, 300), status=at(0, 800))
    state = begun(state, rules, select(rules, shown, detections, state), "1")
    detections, state = observe(rules, at(0.1, 800), state)
    alarm = fired(detections)
    assert alarm is not None
    assert alarm.ruleset == "other"
    assert select(rules, shown, detections, state).action == TERM


def test_for_and_a_reload() -> None:
    """An alarm must hold as long as ``for`` says before the first step; that of a replay is begun on paper alike."""
    course = Course(for_us=2 * SECOND_US)
    assert course.look(0, 800).action == NO_ACTION
    assert course.look(2, 800).action == "notify"
    player = Player.begin(Rules((ruleset(),)))
    shown = snapshot(process(7, 300, cgroup="/a"), status=at(0, 800))
    actions = [
        player.play(at(second, 800), replace(shown, status=at(second, 800))).action for second in (0, 1, 2, 5, 9, 9.5)
    ]
    assert actions == ["notify", "none", "throttle", "freeze", "term", "none"]
    assert all(credit.phase != DEAD for credit in player.state.credits)


LOOKS = st.lists(st.tuples(st.integers(1, 200), st.sampled_from((100, 300, 800, 1500))), min_size=1, max_size=60)


@settings(max_examples=200, deadline=None)
@given(looks=LOOKS)
def test_any_course(looks: list[tuple[int, int]]) -> None:
    """Steps begin in their order, each once until the alarm has been quiet for a while; none at the critical level or
    when there is no alarm; none before the one before it has had its time; and at the critical level there is a kill.
    """
    course = Course()
    order = ["notify", "throttle", "freeze", "signal"]
    seconds, place, quiet_s, ends_s = 0.0, 0, 0.0, 0.0
    for tenths, available_mib in looks:
        seconds += tenths / 10
        action = course.look(seconds, available_mib).action
        if available_mib >= 1024:
            quiet_s = quiet_s or seconds
            assert action == NO_ACTION
            if seconds - quiet_s >= AGAIN_US / SECOND_US:
                place = 0
            ends_s = 0.0
            continue
        quiet_s = 0.0
        if available_mib < 256:
            assert action == KILL
            place, ends_s = 3, 0.0  # the step under way is passed over as well
        elif action in order[:3]:
            assert order.index(action) == place
            assert seconds >= ends_s
            ends_s = seconds + STEPS[place].timeout_us / SECOND_US
            place += 1
        elif action != NO_ACTION:
            assert (action, place) == (TERM, 3)
            assert seconds >= ends_s
        else:
            assert seconds < ends_s

"""Ladders under way: what is asked of whoever carries steps out, what is told, and what is let go of when."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from oomd.detectors.pressure import PressureShare
from oomd.detectors.thresholds import MemoryAvailable
from oomd.engine.detection import initial_state
from oomd.engine.ladder import begun
from oomd.ladders import LONGEST_SETTLE_US, SETTLE_US, Ladders
from oomd.model.decision import KILL, TERM, Candidate, Decision, Detection, Rejection, StepResult
from oomd.model.ruleset import EngineState, Rules, Ruleset
from oomd.model.steps import FreezeStep, NotifyStep, ReclaimStep, RestartStep, ThrottleStep
from oomd.model.threshold import Threshold
from oomd.model.units import MIB, SECOND_US
from tests.fakes.builders import alarm, process, status

if TYPE_CHECKING:
    from collections.abc import Callable

    from oomd.model.steps import Gentle

NOW_US = 1_000_000
LADDER: tuple[Gentle, ...] = (NotifyStep(), ReclaimStep(), ThrottleStep(), FreezeStep(), RestartStep())
RULESET = Ruleset("level", ((MemoryAvailable(Threshold(size_bytes=MIB)),),), steps=LADDER)
WEB = "/system.slice/web.service"


class FakeSteps:
    """Remembers what it was asked for."""

    def __init__(self) -> None:
        self.begun: list[tuple[str, str, dict[int, str]]] = []
        self.let: list[tuple[str, str]] = []
        self.results: list[StepResult] = []
        self.prepared: list[str] = []
        self.closed = False

    def prepare(self, steps: list[Gentle]) -> None:
        """These will be needed."""
        self.prepared = [step.name for step in steps]

    def begin(self, identity: str, step: Gentle, target: Candidate, machine: Any, spared: dict[int, str]) -> None:  # noqa: ARG002
        """It is due."""
        self.begun.append((identity, step.name, spared))

    def let_go(self, identity: str, why: str) -> None:
        """It is over."""
        self.let.append((identity, why))

    def note(self, identity: str, word: str, why: str) -> None:
        """Somebody else did it."""
        self.results.append(StepResult(identity, word, why))

    def take_results(self) -> list[StepResult]:
        """What the test has put there."""
        results, self.results = self.results, []
        return results

    def close(self) -> None:
        """The end."""
        self.closed = True


class Desk:
    """Ladders over fake steps, and the engine's state."""

    def __init__(self, ruleset: Ruleset = RULESET, *, dry_run: bool = False) -> None:
        self.events: list[dict[str, Any]] = []
        self.restarts: list[tuple[str, int, Callable[[bool, str], object]]] = []
        self.steps = FakeSteps()
        build: Any = None if dry_run else lambda: self.steps
        self.ladders = Ladders(
            lambda event, **content: self.events.append({"event": event, **content}),
            build,
            lambda unit, wait_us, done: self.restarts.append((unit, wait_us, done)),
        )
        self.rules = Rules((ruleset,))
        self.state: EngineState = initial_state(self.rules)
        self.ladders.prepare(self.rules)

    def begin(
        self,
        place: int,
        identity: str,
        *,
        target: bool = True,
        seconds: float = 1.0,
        name: str = WEB,
        **changes: Any,
    ) -> None:
        """This step of the ladder is due."""
        member = process(7, 100, cgroup=name)
        whom = Candidate(member, 1, "size", "normal", 1, kind="cgroup", name=name, members=(member,))
        now = status(time_us=int(seconds * SECOND_US))
        decision = Decision(
            LADDER[place].name,
            "level: low; nobody is there",
            now,
            ruleset="level",
            target=whom if target else None,
            step=place,
            **changes,
        )
        self.state = begun(self.state, self.rules, decision, identity)
        self.ladders.begin(identity, decision, self.rules.rulesets[0], self.state.rulesets[0].ladder)

    def say(self, *results: StepResult) -> list[tuple[str, int, int | None]]:
        """The threads say that."""
        self.steps.results += results
        return self.ladders.note_results(NOW_US)

    def advance(self, detection: Detection, seconds: float = 3.0, **machine: Any) -> None:
        """Another look at the machine."""
        self.ladders.advance((detection,), status(time_us=int(seconds * SECOND_US), **machine), self.state)

    def told(self) -> list[tuple[str, str, str]]:
        """Steps that came to an end, or were put back."""
        return [(event["id"], event["action"], event["status"]) for event in self.events]


QUIET = replace(alarm(), fired=False, since_us=None)


def test_each_end_is_told_with_what_it_brought() -> None:
    """The alarm is over: bytes and time of the step; what it changed is let go of, once."""
    desk = Desk()
    desk.begin(2, "1")
    assert desk.say(StepResult("1", "done", "memory.high 5", took_us=70)) == []
    desk.advance(alarm(), 2)
    assert desk.events == []
    desk.advance(QUIET, 3.5, mem_available_bytes=status().mem_available_bytes + 300 * MIB)
    desk.advance(QUIET, 3.6)
    (event,) = desk.events
    assert (event["status"], event["gained_bytes"], event["took_us"]) == ("enough", 300 * MIB, 2_500_000)
    assert (event["why"], event["worked_us"], event["name"]) == ("memory.high 5", 70, WEB)
    assert desk.steps.let == [("1", "the alarm is over")]
    assert desk.ladders.held == 1
    desk.say(StepResult("1", "put_back", "the alarm is over", took_us=9))
    assert desk.told()[-1] == ("1", "throttle", "put_back")
    assert desk.ladders.held == 0


def test_not_enough_and_the_next() -> None:
    """The one before has ended when the next begins; what it has changed lasts on."""
    desk = Desk()
    desk.begin(2, "1")
    desk.begin(3, "2", seconds=11)
    assert desk.told() == [("1", "throttle", "not_enough")]
    assert desk.steps.let == []
    assert desk.ladders.held == 2
    desk.advance(QUIET)
    assert [identity for identity, _ in desk.steps.let] == ["1", "2"]


def test_what_is_through_lets_the_next_be_due() -> None:
    """Memory that was taken shows at once, but for detectors that look back; what was impossible needs no time."""
    desk = Desk()
    desk.begin(1, "1")
    assert desk.say(StepResult("1", "done", "", taken_bytes=5 * MIB)) == [("level", NOW_US + SETTLE_US, NOW_US)]
    desk.begin(2, "2", seconds=12)
    assert desk.events[0]["taken_bytes"] == 5 * MIB
    assert desk.say(StepResult("2", "impossible", "is held already")) == [("level", NOW_US, None)]
    desk.begin(3, "3", seconds=13)
    assert desk.told() == [("1", "reclaim", "not_enough"), ("2", "throttle", "impossible")]
    assert desk.events[1]["why"] == "is held already"
    assert desk.say(StepResult("2", "done")) == []  # of nobody's step
    pressure = replace(RULESET, when=((PressureShare(0.5, over_us=4 * SECOND_US),),))
    slow = Desk(pressure)
    slow.begin(1, "1")
    assert slow.say(StepResult("1", "done", "there is nothing cold left")) == [("level", NOW_US + 4 * SECOND_US, None)]
    assert LONGEST_SETTLE_US > 4 * SECOND_US


def test_nobody_there() -> None:
    """A step that cannot be is told, and nothing is asked for."""
    desk = Desk()
    desk.begin(2, "1", target=False)
    assert desk.told() == [("1", "throttle", "impossible")]
    assert desk.events[0]["why"] == "nobody is there"
    assert desk.steps.begun == []
    desk.begin(0, "2", target=False)
    desk.begin(0, "3")
    assert desk.steps.begun == []  # telling is no effect
    assert desk.told()[-1] == ("2", "notify", "not_enough")


def test_whom_the_rules_save() -> None:
    """Is handed on, for what moves a whole cgroup: not the members that were chosen, nor those who own nothing."""
    rejected = (
        Rejection(process(5), "is protected by its name"),
        Rejection(process(6), "owns no anonymous memory and no swap"),
        Rejection(process(7, 100, cgroup=WEB), "is not among those that the rule may choose from"),
        Rejection(process(8), "holds x", kind="cgroup", name="/b"),
    )
    ranking = (Candidate(process(9), 1, "size", "avoid", 1),)
    desk = Desk()
    for place in (1, 2, 3):
        desk.begin(place, str(place), rejected=rejected, ranking=ranking)
    protected = {5: "is protected by its name"}
    assert [spared for _, _, spared in desk.steps.begun] == [{}, protected, {**protected, 9: "is avoided"}]


def test_a_signal_ends_the_ladder() -> None:
    """A victim in a frozen cgroup is thawed before it is asked to go; the rest when somebody is signalled."""
    desk = Desk()
    desk.begin(3, "1")
    victim = Candidate(process(7, 100, cgroup=f"{WEB}/deep"), 1, "size", "normal", 1)
    other = Candidate(process(8, 100, cgroup="/b"), 1, "size", "normal", 1)
    term = Decision(TERM, "", status(), ruleset="else", target=other)
    desk.ladders.before_signal(term)
    assert desk.steps.let == []
    desk.ladders.before_signal(replace(term, target=victim))
    assert desk.steps.let == [("1", "a process in it is signalled")]
    desk = Desk()
    desk.begin(3, "1")
    kill = Decision(KILL, "", status(time_us=5 * SECOND_US), ruleset="level", target=other)
    desk.ladders.before_signal(kill)
    assert desk.steps.let == []
    desk.ladders.after_signal(kill, critical=True)
    assert desk.told() == [("1", "freeze", "overtaken")]
    assert desk.steps.let == [("1", "somebody is signalled")]
    desk.ladders.after_signal(kill, critical=False)
    assert len(desk.steps.let) == 1


def test_reclaim_ends_with_its_step() -> None:
    """Nobody goes on reclaiming for a ladder that is over."""
    desk = Desk()
    desk.begin(1, "1")
    desk.advance(QUIET)
    assert desk.steps.let == [("1", "")]


def test_what_reclaim_brought_is_told_when_it_is_known() -> None:
    """The alarm is over before the last piece is: how much it was in all comes with that, once; at the end at once."""
    desk = Desk()
    desk.begin(1, "1")
    desk.advance(QUIET, 3, mem_available_bytes=status().mem_available_bytes + 60 * MIB)
    assert desk.told() == []
    assert desk.say(StepResult("1", "done", "it is wanted no longer", taken_bytes=64 * MIB, took_us=900)) == []
    desk.advance(QUIET, 4)
    (event,) = desk.events
    assert (event["status"], event["why"]) == ("enough", "it is wanted no longer")
    figures = (event["gained_bytes"], event["taken_bytes"], event["took_us"], event["worked_us"])
    assert figures == (60 * MIB, 64 * MIB, 2_000_000, 900)
    desk.begin(1, "2")
    desk.advance(QUIET)
    desk.ladders.close(status())
    assert desk.told()[1:] == [("2", "reclaim", "enough")]
    assert desk.events[1]["worked_us"] is None


def test_a_ladder_at_its_end() -> None:
    """One without a kill ends while the alarm holds; what it changed lasts until its time is over."""
    desk = Desk()
    desk.begin(2, "1")
    desk.state = replace(desk.state, rulesets=(replace(desk.state.rulesets[0], ladder=None),))
    desk.advance(alarm())
    assert desk.told() == [("1", "throttle", "not_enough")]
    assert desk.steps.let == []


def test_a_unit_is_restarted_outside() -> None:
    """Once everybody in it is under warrant: by its name, and what comes of it is the step's result."""
    desk = Desk()
    desk.begin(4, "1")
    assert desk.restarts == []
    assert desk.say(StepResult("1", "proved")) == []
    ((unit, wait_us, done),) = desk.restarts
    assert (unit, wait_us) == ("web.service", LADDER[4].timeout_us)
    done(True, "restarted")
    assert desk.say() == [("level", NOW_US + SETTLE_US, None)]
    desk.begin(4, "2", seconds=40)
    desk.say(StepResult("2", "proved"))
    desk.restarts[-1][2](False, "no answer in time")
    assert desk.say() == [("level", NOW_US, None)]


def test_what_is_restarted_is_let_go_of_first() -> None:
    """A frozen service could not end: systemd would wait for it in vain. Others stay as they are."""
    desk = Desk()
    desk.begin(2, "1")
    desk.begin(3, "2", seconds=11, name="/b")
    desk.begin(4, "3", seconds=21)
    assert desk.steps.let == [("1", "its unit is restarted")]
    assert [name for _, name, _ in desk.steps.begun] == ["throttle", "freeze", "restart_unit"]


def test_an_alarm_that_ends_before_the_manager_answers() -> None:
    """A restart gives its memory back at once, so the alarm is over first: the step is told with the answer. Was the
    manager not asked yet, it is not asked any more, and there is nothing to wait for.
    """
    desk = Desk()
    desk.begin(4, "1")
    desk.say(StepResult("1", "proved"))
    desk.advance(QUIET)
    assert desk.told() == []
    desk.restarts[-1][2](True, "web.service is active")
    assert desk.say() == []
    assert desk.told() == [("1", "restart_unit", "enough")]
    desk.begin(4, "2", seconds=40)
    desk.advance(QUIET)
    assert desk.told()[1:] == [("2", "restart_unit", "enough")]
    assert desk.say(StepResult("2", "proved")) == []
    assert len(desk.restarts) == 1


def test_other_rules_and_the_end() -> None:
    """Everything is let go of; at the end it is put back before anybody is told."""
    desk = Desk()
    desk.begin(2, "1")
    desk.ladders.end_all(status(), "other rules are in force")
    assert desk.told() == [("1", "throttle", "ended")]
    assert desk.steps.let == [("1", "other rules are in force")]
    desk = Desk()
    desk.begin(3, "1")
    desk.steps.results.append(StepResult("1", "put_back", "oomd ends", took_us=5))
    desk.ladders.close(None)
    assert desk.steps.closed
    assert desk.told() == [("1", "freeze", "ended"), ("1", "freeze", "put_back")]


def test_the_end_in_the_moment_of_a_change() -> None:
    """The thread says that it has changed it, and that it has put it back, before anybody listens: told as what it
    is.
    """
    desk = Desk()
    desk.begin(2, "1")
    desk.steps.results += [StepResult("1", "done", "memory.high 1"), StepResult("1", "put_back", "oomd ends")]
    desk.ladders.close(status())
    assert [word for _, _, word in desk.told()] == ["ended", "put_back"]
    assert [event["why"] for event in desk.events if event.get("status") == "put_back"] == ["oomd ends"]


def test_dry_run_tells_only() -> None:
    """No step is carried out, and each says so."""
    desk = Desk(dry_run=True)
    desk.begin(2, "1")
    desk.begin(3, "2", seconds=11)
    desk.advance(QUIET)
    assert (desk.steps.begun, desk.steps.let) == ([], [])
    assert [event["dry_run"] for event in desk.events] == [True, True]
    desk.ladders.close(None)
    assert not desk.steps.closed


def test_loaded_only_where_it_is_needed() -> None:
    """Rules without gentle steps build nothing; a reload may bring them."""
    built = []

    def build() -> Any:
        built.append(1)
        return FakeSteps()

    ladders = Ladders(lambda *_, **__: None, build)
    ladders.prepare(Rules((replace(RULESET, steps=()),)))
    assert built == []
    ladders.prepare(Rules((RULESET,)))
    ladders.prepare(Rules((RULESET,)))
    assert built == [1]
    assert ladders.steps is not None
    assert ladders.steps.prepared == [step.name for step in LADDER]  # type: ignore[attr-defined]

"""Hooks around a kill, as the killer sees them: what is asked for, how long a decision is held back, what is told."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from oomd.companion import LATE, NOBODY, Answer
from oomd.config.loader import default_config
from oomd.hooking import Hooking
from oomd.model.decision import KILL, NOTIFY, TERM, Candidate, Decision, KillOutcome
from oomd.model.hooks import Hook, Hooks
from oomd.model.units import MILLISECOND_US, SECOND_US
from tests.fakes.builders import alarm, candidate, process, status

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest

FIRST, SECOND = candidate(7, 500), candidate(8, 400)
BEFORE = Hooks(before=Hook(("/bin/before", "-x"), 200 * MILLISECOND_US))
AFTER = Hooks(after=Hook(("/bin/after",), 5 * SECOND_US))


class Site:
    """Somebody who can be asked, a clock, and what was told."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, hooks: Hooks, *, answers: Answer | None = None) -> None:
        self.now_us = 1_000_000
        self.rules = replace(default_config().rules, hooks=hooks)
        self.asked: list[dict[str, Any]] = []
        self.done: list[Callable[[Answer], object]] = []
        self.told: list[tuple[str, dict[str, Any]]] = []
        self._answers = answers
        numbers = itertools.count(1)
        monkeypatch.setattr("oomd.hooking.clock_us", lambda: self.now_us)
        self.hooking = Hooking(
            self._ask, lambda event, **content: self.told.append((event, content)), lambda: str(next(numbers))
        )

    def _ask(self, request: str, done: Callable[[Answer], object], **content: Any) -> None:
        self.asked.append({"request": request, **content})
        self.done.append(done)
        if self._answers is not None:
            done(self._answers)

    def look(self, decision: Decision | None = None) -> Decision | None:
        """One look at the machine: an alarm that asks for this, or none."""
        self.hooking.advance()
        return None if decision is None else self.hooking.hold(decision, self.rules)


def decision(
    target: Candidate | None = FIRST, *ranking: Candidate, action: str = TERM, critical: bool = False
) -> Decision:
    """A decision of the ruleset ``level``."""
    detections = (alarm(critical=critical),)
    return Decision(action, "memory is low", status(), "level", detections, target, ranking or (FIRST, SECOND))


def test_without_hooks_nothing_is_held_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """The decision comes back as it is, and nobody is asked."""
    chosen = decision()
    for hooks in (Hooks(), AFTER):
        site = Site(monkeypatch, hooks)
        assert site.look(chosen) is chosen
        assert site.asked == []
        assert site.hooking.begin(chosen) == ("", 0)


def test_held_back_until_the_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Asked once, with everything that a hook is told; carried out under the number that it was told."""
    site = Site(monkeypatch, replace(BEFORE, prekill_us=SECOND_US))
    assert site.look(decision()) is None
    (asked,) = site.asked
    assert (asked["request"], asked["exec"], asked["exec_us"]) == ("before", ["/bin/before", "-x"], 200_000)
    assert (asked["prekill_us"], asked["deadline_us"]) == (SECOND_US, site.now_us + SECOND_US)
    facts = asked["facts"]
    assert (facts["event"], facts["id"], facts["decision"]["target"]["pid"]) == ("decision", "1", 7)
    site.now_us += 50_000
    assert site.look(decision()) is None
    site.done[0](Answer(ok=True))
    site.now_us += 10_000
    chosen = decision()
    assert site.look(chosen) is chosen
    assert site.hooking.begin(chosen) == ("1", 60_000)
    assert site.hooking.begin(chosen) == ("", 0)
    assert len(site.asked) == 1


def test_held_back_no_longer_than_the_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody answers: the deadline is the killer's own."""
    site = Site(monkeypatch, BEFORE)
    assert site.look(decision()) is None
    site.now_us += 199_999
    assert site.look(decision()) is None
    site.now_us += 1
    assert site.look(decision()) is not None
    assert site.hooking.begin(decision())[1] == 200_000
    site.done[0](Answer(ok=False, text=LATE))  # the answer comes after all
    assert site.look(decision()) is None  # the next alarm waits for its own hooks
    assert len(site.asked) == 2


def test_nobody_there_is_no_reason_to_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """The outside process is gone: at once."""
    site = Site(monkeypatch, BEFORE, answers=Answer(ok=False, text=NOBODY))
    chosen = decision()
    assert site.look(chosen) is chosen
    assert site.hooking.begin(chosen) == ("1", 0)


def test_nobody_else_is_taken_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another one is foremost by now: it is the first that hooks were told of, and that goes."""
    site = Site(monkeypatch, BEFORE)
    assert site.look(decision()) is None
    assert site.look(decision(SECOND, SECOND, FIRST)) is None
    site.done[0](Answer(ok=True))
    carried_out = site.look(decision(SECOND, SECOND, FIRST))
    assert carried_out is not None
    assert carried_out.target == FIRST
    assert len(site.asked) == 1


def test_hooks_of_another_victim_are_told_and_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first one is gone when its hooks are done: the time was theirs."""
    site = Site(monkeypatch, BEFORE)
    assert site.look(decision()) is None
    site.done[0](Answer(ok=True))
    chosen = decision(SECOND, SECOND)
    assert site.look(chosen) is chosen
    assert [asked["facts"]["decision"]["target"]["pid"] for asked in site.asked] == [7, 8]
    assert site.hooking.begin(chosen) == ("2", 0)


def test_one_that_is_refused_is_followed_by_the_next_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The gate said no after the wait; hooks of the next victim are told of it."""
    site = Site(monkeypatch, BEFORE)
    site.hooking.tell(decision(SECOND), site.rules)
    assert site.asked[0]["facts"]["decision"]["target"]["pid"] == 8
    chosen = decision(SECOND)
    assert site.hooking.begin(chosen) == ("1", 0)
    assert site.look(decision()) is None


def test_critical_level_waits_for_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither before hooks nor in the middle of them; they are told all the same, each victim once."""
    site = Site(monkeypatch, BEFORE)
    chosen = decision(action=KILL, critical=True)
    assert site.look(chosen) is chosen
    assert len(site.asked) == 1
    site.hooking.begin(chosen)
    assert site.look(decision()) is None
    site.now_us += 30_000
    assert site.look(chosen) is chosen  # the same victim: its hooks run already
    assert len(site.asked) == 2
    assert site.hooking.begin(chosen) == ("2", 30_000)
    assert site.look(decision()) is None
    other = decision(SECOND, action=KILL, critical=True)
    assert site.look(other) is other
    assert len(site.asked) == 4


def test_an_alarm_that_ends_meanwhile_costs_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hook may have freed enough; the next alarm begins anew."""
    site = Site(monkeypatch, BEFORE)
    assert site.look(decision()) is None
    site.look()
    assert site.told == []  # the look at which nobody asked
    site.look()
    ((event, content),) = site.told
    assert event == "note"
    assert "the alarm ended while hooks ran" in content["text"]
    site.done[0](Answer(ok=True))
    assert site.look(decision()) is None
    assert len(site.asked) == 2


def test_an_alarm_that_waits_for_a_measurement_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """It asks still, only it is not known for whom."""
    site = Site(monkeypatch, BEFORE)
    assert site.look(decision()) is None
    for _ in range(3):
        site.look()
        site.hooking.touch()
    site.done[0](Answer(ok=True))
    assert site.look(decision()) is not None
    assert len(site.asked) == 1


def test_decisions_that_signal_nobody_have_no_hooks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody may be killed, or a gentle step only tells."""
    site = Site(monkeypatch, BEFORE)
    quiet = decision(None, action=NOTIFY)
    assert site.look(quiet) is quiet
    assert site.asked == []


def test_ruleset_has_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the place of those for all."""
    site = Site(monkeypatch, BEFORE)
    level, stall = site.rules.rulesets
    site.rules = replace(site.rules, rulesets=(replace(level, hooks=Hooks()), stall))
    chosen = decision()
    assert site.look(chosen) is chosen


def test_a_dry_run_runs_nothing() -> None:
    """There is nobody to ask."""
    told: list[str] = []
    hooking = Hooking(None, lambda event, **content: told.append(event), lambda: "1")
    rules = replace(default_config().rules, hooks=replace(BEFORE, after=AFTER.after))
    chosen = decision()
    assert hooking.hold(chosen, rules) is chosen
    hooking.note_signal("1", chosen, rules)
    hooking.note_outcomes((outcome("1", 7),), set())
    assert told == []


def outcome(identity: str, pid: int, **changes: Any) -> KillOutcome:
    """What came of one process."""
    return KillOutcome(identity, process(pid, 500), "killed", expected_bytes=10, returned_bytes=9, **changes)


def test_after_hook_is_run_once_for_each_decision(monkeypatch: pytest.MonkeyPatch) -> None:
    """When nothing more is to be expected of any of those that died together; with what came back of all."""
    site = Site(monkeypatch, AFTER)
    site.hooking.note_signal("3", decision(), site.rules)
    site.hooking.note_outcomes((outcome("3", 8), outcome("4", 9)), {"3"})
    assert site.told == []
    site.hooking.note_outcomes((outcome("3", 7),), set())
    ((event, content),) = site.told
    assert (event, content["exec"], content["exec_us"]) == ("after", ["/bin/after"], 5 * SECOND_US)
    facts = content["facts"]
    assert (facts["event"], facts["id"], facts["pid"], facts["status"]) == ("outcome", "3", 7, "killed")
    assert (facts["expected_bytes"], facts["returned_bytes"], len(facts["outcomes"])) == (20, 18, 2)
    assert facts["decision"]["ruleset"] == "level"
    site.hooking.note_outcomes((outcome("3", 7),), set())
    assert len(site.told) == 1


def test_after_hook_of_a_kill_that_nothing_came_of(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its victim was refused later: there is no outcome, and nothing to run."""
    site = Site(monkeypatch, AFTER)
    site.hooking.note_signal("3", decision(), site.rules)
    site.hooking.note_outcomes((), set())
    assert site.told == []

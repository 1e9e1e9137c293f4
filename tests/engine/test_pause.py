"""A pause as a value: while it holds no alarm chooses anybody, and the reason says so."""

from __future__ import annotations

import pytest

from oomd.config.loader import default_config
from oomd.engine.detection import asked_for, initial_state, reloaded_state
from oomd.engine.pause import pause_of, pause_words
from oomd.engine.selection import may_choose, select
from oomd.model.decision import ASKED, KILL, NO_ACTION, TERM
from oomd.model.ruleset import EngineState, Pause
from oomd.model.values import replace
from tests.fakes.builders import alarm, process, snapshot, status

PAUSE = Pause(1_000_000, 61_000_000, "backup", "uid 0 (root)")
RULES = default_config().rules


def paused() -> EngineState:
    """A state in which it holds."""
    return replace(initial_state(RULES), pause=PAUSE)


@pytest.mark.parametrize("critical", [False, True])
def test_no_alarm_chooses_anybody(critical: bool) -> None:
    """The critical level neither; afterwards it does, without anybody's help."""
    fired = (alarm(critical=critical),)
    assert not may_choose(fired, paused(), 60_999_999)
    assert may_choose(fired, paused(), 61_000_000)
    during = select(RULES, snapshot(process(7), status=status(time_us=31_000_000)), fired, paused())
    assert (during.action, during.target) == (NO_ACTION, None)
    assert during.reason == "paused by uid 0 (root) for 30s more: backup"
    assert during.ranking
    after = select(RULES, snapshot(process(7), status=status(time_us=61_000_000)), fired, paused())
    assert after.action == (KILL if critical else TERM)


def test_it_is_part_of_the_state() -> None:
    """So a reload keeps it; a state without one says so."""
    assert reloaded_state(paused(), RULES).pause == PAUSE
    assert pause_of(initial_state(RULES), 5) is None
    assert pause_of(paused(), 5) == PAUSE
    assert pause_words(replace(PAUSE, why=""), 1_000_000) == "paused by uid 0 (root) for 1min more"


def test_a_kill_on_request_stands_alone() -> None:
    """Only the first ruleset fires, never critically, and its reason is who asked."""
    detections = asked_for((alarm(critical=True), alarm(critical=True)), "asked by x")
    assert [(each.fired, each.critical) for each in detections] == [(True, False), (False, False)]
    assert detections[0].evidence[0].detector == ASKED
    decision = select(RULES, snapshot(process(7, 100)), detections, initial_state(RULES))
    assert decision.reason.startswith(f"{detections[0].ruleset}: asked by x; p7 (7) gives back")

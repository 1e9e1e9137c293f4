"""Whose a decision is when hooks were waited for."""

from __future__ import annotations

from dataclasses import replace

from oomd.engine.holding import is_critical, is_same, resumed, signals
from oomd.model.decision import KILL, NO_ACTION, NOTIFY, TERM, Candidate, Decision
from tests.fakes.builders import alarm, candidate, process, status

FIRST, SECOND = candidate(7, 500), candidate(8, 400)


def decision(target: Candidate | None, *ranking: Candidate, action: str = TERM, **changes: object) -> Decision:
    """A decision of the ruleset ``level``."""
    return replace(
        Decision(action, f"because of {changes}", status(), "level", (alarm(),), target, ranking or (FIRST, SECOND)),
        **changes,  # type: ignore[arg-type]
    )


def test_the_victim_that_hooks_were_told_of_stays_the_victim() -> None:
    """Somebody else is foremost by now; the figures are those of now, the reason is that of then."""
    grown = candidate(8, 600)
    now = candidate(7, 510)
    fresh = decision(grown, grown, now, reason="p8 is the largest")
    result = resumed(decision(FIRST, reason="p7 is the largest"), fresh)
    assert (result.target, result.reason, result.ranking) == (now, "p7 is the largest", fresh.ranking)


def test_nothing_changes_where_nothing_changed() -> None:
    """The fresh decision is taken as it is."""
    fresh = decision(candidate(7, 510), candidate(7, 510), SECOND, action=KILL)
    assert resumed(decision(FIRST), fresh) is fresh


def test_a_victim_that_may_no_longer_be_taken_is_let_go() -> None:
    """It is gone, or protected by now, or its number is another process's."""
    for ranking in ((SECOND,), (SECOND, candidate(7, 500, start_ticks=9))):
        fresh = decision(SECOND, *ranking)
        assert resumed(decision(FIRST), fresh) is fresh


def test_other_rules_have_their_own_victim() -> None:
    """The ruleset that held its victim back no longer fires, another one does; or nobody is to be signalled at all."""
    other = decision(SECOND, ruleset="stall")
    assert resumed(decision(FIRST), other) is other
    for action in (NO_ACTION, NOTIFY):
        quiet = decision(SECOND, action=action)
        assert resumed(decision(FIRST), quiet) is quiet


def test_sets_are_the_same_by_their_name() -> None:
    """A cgroup stays the same one whoever is the largest in it now; a process of it is another thing."""
    whole = replace(FIRST, kind="cgroup", name="/a", members=(FIRST.process, SECOND.process))
    grown = replace(SECOND, kind="cgroup", name="/a", members=(SECOND.process,))
    assert is_same(whole, grown)
    assert not is_same(whole, replace(grown, name="/b"))
    assert not is_same(whole, FIRST)
    assert not is_same(None, None)
    assert resumed(decision(whole), decision(FIRST, FIRST, grown)).target == grown


def test_what_cannot_wait_and_what_signals_nobody() -> None:
    """Critical is what its own ruleset says."""
    assert is_critical(decision(FIRST, detections=(alarm(critical=True),)))
    assert not is_critical(decision(FIRST, detections=(alarm(), alarm(critical=True, ruleset="stall"))))
    assert signals(decision(FIRST))
    assert not signals(decision(None))
    assert not signals(decision(FIRST, action=NOTIFY))


def test_same_process_needs_the_same_start() -> None:
    """A reused number is somebody else."""
    assert is_same(FIRST, candidate(7, 1))
    assert not is_same(FIRST, replace(FIRST, process=process(7, 500, start_ticks=9)))

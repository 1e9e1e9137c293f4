"""Escalation, the end of a credit, and kills that return nothing."""

from __future__ import annotations

from dataclasses import replace

import pytest

from oomd.engine import aftermath
from oomd.engine import credit as credits
from oomd.model.decision import Credit
from oomd.model.ruleset import EngineState, RulesetState, Sample
from oomd.model.units import GIB, MIB, SECOND_US
from tests.fakes.builders import alarm, candidate, status

LOW = status(mem_available_bytes=400 * MIB)


def asked(pid: int = 7) -> Credit:
    """A victim in its grace of 5 s."""
    return credits.open_credit("1", candidate(pid), "level", credits.TERM, LOW, 5 * SECOND_US)


@pytest.mark.parametrize(
    ("seconds", "available_mib", "critical", "why"),
    [
        (1, 400, False, ""),
        (4.9, 301, False, ""),
        (5, 400, False, "its grace is over"),
        (1, 400, True, "memory reached the critical level"),
        (1, 299, False, "memory kept falling"),
    ],
)
def test_grace_and_its_end(seconds: float, available_mib: int, critical: bool, why: str) -> None:
    """F1, F2: SIGKILL follows when the grace is over, at the critical level, or when memory falls by a quarter."""
    now = replace(LOW, time_us=1_000_000 + int(seconds * SECOND_US), mem_available_bytes=available_mib * MIB)
    assert aftermath.why_kill_now(asked(), (alarm(critical=critical),), now) == why


def test_who_was_killed_is_not_killed_again() -> None:
    """Escalation is for victims that were only asked."""
    assert aftermath.why_kill_now(credits.killed(asked(), 2_000_000), (alarm(critical=True),), LOW) == ""


def test_settled_kills_leave_and_the_window_begins_anew() -> None:
    """Stall from before the memory came back does not count for the next kill."""
    dead = replace(credits.died(asked(), 1_100_000), memory_us=1_200_000)
    state = EngineState(credits=(dead, asked(8)), history=(Sample(0, 0, 0),))
    done, state = aftermath.settled(state, 1_200_000)
    assert [credit.process.id.pid for credit in done] == [7]
    assert [credit.process.id.pid for credit in state.credits] == [8]
    assert state.history == ()
    assert state.refusals == ()


def test_nothing_settled_changes_nothing() -> None:
    """A state without settled kills stays as it is."""
    state = EngineState(credits=(asked(),), history=(Sample(0, 0, 0),))
    assert aftermath.settled(state, 1_200_000) == ((), state)


def test_stuck_victim_is_left_out() -> None:
    """F16: a victim that does not die by its deadline is not chosen for ever, except in a dry run."""
    state = EngineState(credits=(credits.killed(asked(), 1_000_000),))
    done, after = aftermath.settled(state, 3_000_000)
    assert [refusal.why for refusal in after.refusals] == ["was killed and does not die"]
    assert len(done) == 1
    assert aftermath.settled(state, 3_000_000, dry_run=True)[1].refusals == ()


def test_reap_under_way_is_waited_for_until_the_deadline() -> None:
    """The outcome is told with the reaper's result, unless the reaper itself hangs."""
    dead = replace(credits.died(asked(), 1_100_000), memory_us=1_200_000)
    state = EngineState(credits=(dead,))
    busy = frozenset({dead.process.id})
    assert aftermath.settled(state, 1_200_000, busy=busy)[0] == ()
    assert len(aftermath.settled(state, 2_200_000, busy=busy)[0]) == 1


def test_two_futile_kills_lead_to_a_rest_that_grows() -> None:
    """F13 of tmpfs: two kills that returned almost nothing end the spree for 10 s, then 20, at most 60."""
    dead = credits.died(asked(), 1_100_000)
    state = EngineState(rulesets=(RulesetState(),))
    rests = []
    for _ in range(6):
        state = aftermath.learned(state, dead, LOW)
        rests.append((state.resting_until_us - LOW.time_us) // SECOND_US if state.resting_until_us else 0)
    assert rests == [0, 10, 20, 40, 60, 60]


def test_fruitful_kill_ends_the_count() -> None:
    """One kill that returned something begins the count anew."""
    dead = credits.died(asked(), 1_100_000)
    state = aftermath.learned(EngineState(), dead, LOW)
    assert state.futile_kills == 1
    assert aftermath.learned(state, replace(dead, returned_bytes=100 * MIB), LOW).futile_kills == 0


def test_little_of_much_is_futile() -> None:
    """A tenth of what was expected, or a 256th of the base, is almost nothing; a kill that is not over says nothing."""
    big = replace(credits.died(asked(), 0), expected_bytes=GIB, returned_bytes=100 * MIB)
    assert aftermath.learned(EngineState(), big, LOW).futile_kills == 1
    small = replace(credits.died(asked(), 0), expected_bytes=10 * MIB, returned_bytes=10 * MIB)
    assert aftermath.learned(EngineState(), small, status()).futile_kills == 1
    assert aftermath.learned(EngineState(), asked(), LOW).futile_kills == 0
    assert aftermath.learned(EngineState(), replace(big, ruleset=""), LOW).futile_kills == 0  # somebody else's kill


def test_refused_forgets_the_credit() -> None:
    """Who could not be signalled gives back nothing and is not chosen again; the list is bounded."""
    state = aftermath.refused(EngineState(credits=(asked(),)), asked().process.id, "may not")
    assert state.credits == ()
    for pid in range(200):
        state = aftermath.refused(state, candidate(pid + 1).process.id, "may not")
    assert len(state.refusals) == aftermath.MOST_REFUSALS


def test_acting_rests_one_ruleset() -> None:
    """The pause is the ruleset's own."""
    state = aftermath.acted(EngineState(rulesets=(RulesetState(), RulesetState())), "b", ("a", "b"), 77)
    assert [memory.paused_until_us for memory in state.rulesets] == [0, 77]


def test_small_part_of_a_set_is_no_lesson() -> None:
    """One of several that died together gave back what it had: small, but all that was expected of it."""
    state = EngineState(rulesets=(RulesetState(),), futile_kills=1)
    part = replace(asked(), phase=credits.DEAD, expected_bytes=MIB, returned_bytes=MIB)
    assert aftermath.learned(state, part, status()).futile_kills == 2
    assert aftermath.learned(state, replace(part, part_of="cgroup /a"), status()).futile_kills == 0
    nothing = replace(part, part_of="cgroup /a", returned_bytes=0)
    assert aftermath.learned(state, nothing, status()).futile_kills == 2

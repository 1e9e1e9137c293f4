"""The state that steps carry over, and what a kill in a replay means for later steps."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from oomd.config.loader import default_config
from oomd.model.ruleset import Rules
from oomd.model.units import GIB, MIB, SECOND_US
from oomd.replay.player import Player
from tests.fakes.builders import process, snapshot, status

LOW = {"mem_available_bytes": 250 * MIB, "mem_free_bytes": 100 * MIB, "anon_bytes": 6 * GIB}
CRITICAL = {"mem_available_bytes": 50 * MIB, "mem_free_bytes": 40 * MIB, "anon_bytes": 6 * GIB}
BIG, SMALL, TINY = process(50, 3072, comm="big"), process(60, 1024, comm="small"), process(70, 40, comm="tiny")


def rules(**changes: Any) -> Rules:
    """The default level alone, with these changes."""
    level = default_config().rules.rulesets[0]
    return Rules((replace(level, **changes),))


def play(player: Player, seconds: float, *processes: Any, **memory: Any) -> tuple[str, int | None]:
    """The action and the victim of one step."""
    now = status(time_us=int(seconds * SECOND_US), **memory)
    decision = player.play(now, snapshot(*processes, status=now))
    return decision.action, None if decision.target is None else decision.target.process.id.pid


def test_grace_runs_in_the_time_of_the_trace() -> None:
    """Asked, waited for, killed when the grace is over; chosen again only after the credit's deadline (1 s and 1 s per
    GiB).
    """
    player = Player.begin(rules())
    answers = [play(player, second, BIG, SMALL, **LOW) for second in range(12)]
    assert answers[0] == ("term", 50)
    assert answers[1:5] == [("none", None)] * 4
    assert answers[5] == ("kill", 50)
    assert answers[6:9] == [("none", None)] * 3
    assert answers[9] == ("term", 50)  # nobody was really killed, so nobody is stuck


def test_a_victim_that_is_gone_is_dead() -> None:
    """Its memory is what the trace shows then; after a second for the counters the next one is asked."""
    player = Player.begin(rules())
    assert play(player, 0, BIG, SMALL, **LOW) == ("term", 50)
    assert play(player, 1, SMALL, **LOW) == ("none", None)
    assert play(player, 2, SMALL, **LOW) == ("term", 60)


def test_a_zombie_is_dead() -> None:
    """It owns nothing, whoever forgot to wait for it."""
    player = Player.begin(rules())
    play(player, 0, BIG, SMALL, **LOW)
    play(player, 1, replace(BIG, state="Z"), SMALL, **LOW)
    assert play(player, 2, replace(BIG, state="Z"), SMALL, **LOW) == ("term", 60)


def test_a_reused_pid_is_another_process() -> None:
    """The victim is its pid and its start time."""
    player = Player.begin(rules())
    play(player, 0, BIG, SMALL, **LOW)
    other = process(50, 10, comm="other", start_ticks=99_999)
    play(player, 1, other, SMALL, **LOW)
    assert play(player, 2, other, SMALL, **LOW) == ("term", 60)


def test_what_is_counted_is_told() -> None:
    """A step at which nothing fires because of a credit says so."""
    player = Player.begin(rules(grace_us=0))
    play(player, 0, BIG, SMALL, **LOW)
    now = status(time_us=SECOND_US, **LOW)
    decision = player.play(now, snapshot(BIG, SMALL, status=now))
    assert decision.reason == "nothing fired, counting what big (50) will give back"


def test_a_credit_that_does_not_suffice_lets_the_next_one_die() -> None:
    """At the critical level a second victim goes when the first gives back too little."""
    player = Player.begin(rules())
    assert play(player, 0, TINY, **CRITICAL) == ("kill", 70)
    assert play(player, 0.1, TINY, SMALL, **CRITICAL) == ("kill", 60)


def test_somebody_elses_victim_is_waited_for() -> None:
    """A process that is dying already gets a credit, and nobody else is asked meanwhile."""
    player = Player.begin(rules())
    dying = replace(BIG, kill_pending=True)
    assert play(player, 0, dying, SMALL, **LOW) == ("none", 50)
    assert play(player, 1, dying, SMALL, **LOW) == ("none", None)


def test_for_and_pause() -> None:
    """The alarm must hold so long before anybody is asked, and the ruleset rests so long afterwards."""
    player = Player.begin(rules(for_us=2 * SECOND_US, pause_us=10 * SECOND_US))
    answers = [play(player, second, TINY, **LOW)[0] for second in range(3)]
    assert answers == ["none", "none", "term"]
    later = [play(player, second, SMALL, **LOW)[0] for second in range(3, 15)]
    assert later.index("term") == 12 - 3


@given(
    st.lists(
        st.tuples(st.integers(1, 5000), st.integers(10, 8000), st.sets(st.integers(2, 6), max_size=5)), max_size=30
    )
)
def test_never_a_victim_that_the_step_does_not_show(trace: list[tuple[int, int, set[int]]]) -> None:
    """Whatever the trace, each target lives in its own step, and the same trace gives the same decisions."""
    first, second = Player.begin(rules()), Player.begin(rules())
    now = 0
    for pause_ms, available, pids in trace:
        now += pause_ms * 1000
        seen = status(time_us=now, mem_available_bytes=available * MIB, anon_bytes=6 * GIB)
        shown = snapshot(*(process(pid, 100 * pid) for pid in sorted(pids)), status=seen)
        decision = first.play(seen, shown)
        assert decision == second.play(seen, shown)
        if decision.target is not None:
            assert decision.target.process.id.pid in pids

"""How short memory is: levels, when they end, and when they are told again."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from oomd.engine.credit import open_credit
from oomd.engine.shortage import AGAIN_US, LAPSE_US, Shortage, judged
from oomd.model.decision import KILL
from oomd.model.snapshot import MemoryStatus
from oomd.model.telling import CRITICAL, LOW, MEDIUM, OKAY, LowMemoryOptions
from oomd.model.threshold import Threshold
from oomd.model.units import MIB, SECOND_US
from tests.fakes.builders import candidate, status

OPTIONS = LowMemoryOptions(
    Threshold(size_bytes=1000 * MIB), Threshold(size_bytes=500 * MIB), Threshold(size_bytes=200 * MIB), 0.2
)


def look(seconds: float, available_mib: float, **changes: Any) -> MemoryStatus:
    """The machine at one instant, without stall unless it is given."""
    changes = {"psi_full_us": 0, **changes}
    return status(time_us=int(seconds * SECOND_US), mem_available_bytes=int(available_mib * MIB), **changes)


def play(*looks: MemoryStatus, options: LowMemoryOptions = OPTIONS) -> tuple[list[int], list[int]]:
    """The level at each look, and the levels that were told."""
    state, levels, told = Shortage(), [], []
    for each in looks:
        state, news = judged(options, each, (), state)
        levels.append(state.level)
        told += [state.level] if news else []
    return levels, told


def test_each_level_is_told_when_it_begins() -> None:
    """Below its limit, and not at it."""
    levels, told = play(look(1, 1001), look(2, 1000), look(3, 999), look(4, 499), look(5, 199))
    assert levels == [OKAY, OKAY, LOW, MEDIUM, CRITICAL]
    assert told == [LOW, MEDIUM, CRITICAL]


def test_levels_may_be_passed_over() -> None:
    """Memory falls faster than anybody looks."""
    assert play(look(1, 4000), look(2, 100)) == ([OKAY, CRITICAL], [CRITICAL])


def test_a_level_ends_a_little_above_its_limit() -> None:
    """Memory that stands still there is no news for ever."""
    levels, told = play(look(1, 990), look(2, 1050), look(3, 990), look(4, 1101), look(5, 1050))
    assert levels == [LOW, LOW, LOW, OKAY, OKAY]
    assert told == [LOW]


def test_what_comes_back_soon_is_no_news() -> None:
    """A level that was told a moment ago; later it is one again."""
    soon, later = LAPSE_US / SECOND_US - 1, LAPSE_US / SECOND_US + 1
    assert play(look(1, 990), look(2, 2000), look(1 + soon, 990))[1] == [LOW]
    assert play(look(1, 990), look(2, 2000), look(1 + later, 2000), look(2 + later, 990))[1] == [LOW, LOW]
    falling = (look(1, 100), look(2, 400), look(1 + later, 400), look(2 + later, 100))
    assert play(*falling)[1] == [CRITICAL, CRITICAL]


def test_levels_that_hold_are_told_again() -> None:
    """The higher the sooner; the lowest is told once."""
    seconds = [1.0 + number for number in range(100)]
    for available, level in ((100, CRITICAL), (400, MEDIUM)):
        every = AGAIN_US[level] / SECOND_US
        assert play(*(look(at, available) for at in seconds))[1] == [level] * (1 + int(99 // every))
    assert play(*(look(at, 900) for at in seconds))[1] == [LOW]


def test_stall_makes_one_level_more() -> None:
    """A fifth of the last two seconds; never without a shortage, never beyond the highest."""
    stalled = {"psi_full_us": SECOND_US}
    levels, told = play(look(1, 900), look(4, 900, **stalled))
    assert (levels, told) == ([LOW, MEDIUM], [LOW, MEDIUM])
    assert play(look(1, 4000), look(4, 4000, **stalled))[1] == []
    assert play(look(1, 100), look(4, 100, **stalled))[0] == [CRITICAL, CRITICAL]
    assert play(look(1, 900), look(4, 900, psi_full_us=SECOND_US // 2))[0] == [LOW, LOW]


def test_old_stall_is_forgotten() -> None:
    """The window moves on with the looks."""
    looks = [look(at, 900, psi_full_us=min(at, 4) * SECOND_US) for at in range(1, 12)]
    levels, _ = play(*looks)
    assert MEDIUM in levels[:6]
    assert levels[-1] == LOW


def test_without_pressure_the_level_alone_counts() -> None:
    """A kernel without PSI."""
    assert play(look(1, 900, psi_full_us=None), look(9, 400, psi_full_us=None))[0] == [LOW, MEDIUM]


def test_what_a_kill_gives_back_counts() -> None:
    """Nobody is asked to trim for memory that is about to come back."""
    short = look(1, 900)
    credit = open_credit("1", candidate(7, 800), "level", KILL, short)
    state, told = judged(OPTIONS, replace(short, time_us=short.time_us + 1), (credit,), Shortage())
    assert (state.level, told) == (OKAY, False)


@given(st.lists(st.tuples(st.integers(1, 5_000_000), st.integers(0, 2000), st.integers(0, 3_000_000)), max_size=60))
def test_nobody_is_told_more_often_than_it_is_worth(steps: list[tuple[int, int, int]]) -> None:
    """Whatever memory does: the same level is told again only after its time, or after it was better for a while; and a
    level that begins higher than all that was told is told at once.
    """
    state, now, stall = Shortage(), 1_000_000, 0
    last: dict[int, int] = {}
    for pause_us, available, stalled_us in steps:
        now, stall = now + pause_us, stall + min(stalled_us, pause_us)
        before = state
        state, told = judged(OPTIONS, look(now / SECOND_US, available, psi_full_us=stall), (), before)
        if told:
            assert state.level > OKAY
            assert now - last.get(state.level, -1 << 62) >= LAPSE_US
            last[state.level] = now
        else:
            assert state.level <= before.told

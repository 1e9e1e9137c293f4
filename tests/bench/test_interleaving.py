"""The order of the runs, and which of them count."""

from __future__ import annotations

from collections import Counter
from itertools import chain, repeat

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oomd.bench.interleaving import LONGEST_WAIT_S, REFERENCE, WAIT_PER_RUN_S, Schedule, is_disturbed, plan
from oomd.bench.killers import BACKENDS
from oomd.bench.stages import KINDS

VICTIMS = st.lists(st.sampled_from(KINDS), min_size=1, unique=True).map(tuple)
WAYS = st.lists(st.sampled_from(BACKENDS), min_size=1, unique=True).map(tuple)
REPEAT = st.integers(1, 5)


@given(VICTIMS, WAYS, REPEAT)
def test_plan_is_interleaved(victims: tuple[str, ...], backends: tuple[str, ...], times: int) -> None:
    """Every pair as often as asked for, in rounds, and the reference in every round."""
    planned = plan(victims, backends, times)
    pairs = {*((victim, backend) for victim in victims for backend in backends), REFERENCE}
    size = len(planned) // times
    rounds = [planned[start : start + size] for start in range(0, len(planned), size)]
    assert len(rounds) == times
    assert all(set(each) == pairs and len(each) == len(pairs) for each in rounds)


@given(VICTIMS, WAYS, REPEAT, st.lists(st.booleans(), max_size=200), st.booleans())
def test_every_pair_counts_as_often_as_asked_for(
    victims: tuple[str, ...], backends: tuple[str, ...], times: int, disturbances: list[bool], rest: bool
) -> None:
    """However the machine behaves: no pair has more or fewer runs that count, none is tried more than twice as often,
    and the first round comes before anything is made again.
    """
    schedule, story = Schedule(victims, backends, times), chain(disturbances, repeat(rest))
    tried: list[tuple[str, str]] = []
    counted: Counter[tuple[str, str]] = Counter()
    disturbed = 0
    while (pair := schedule.take()) is not None:
        tried.append(pair)
        each = next(story)
        disturbed += each
        counted[pair] += schedule.counts(pair, disturbed=each)
    planned = plan(victims, backends, times)
    assert tried[: len(planned)] == planned
    assert counted == Counter(planned)
    assert max(Counter(tried).values()) <= 2 * times
    assert schedule.made_again + schedule.kept == disturbed
    assert schedule.made_again == len(tried) - len(planned)


@given(VICTIMS, WAYS, REPEAT, st.integers(0, 20), st.sampled_from(KINDS))
def test_who_is_skipped_is_not_tried_any_more(
    victims: tuple[str, ...], backends: tuple[str, ...], times: int, begun: int, skipped: str
) -> None:
    """Neither planned runs nor those to be made again; nobody else loses a run."""
    schedule, before = Schedule(victims, backends, times), []
    for _ in range(begun):
        if (pair := schedule.take()) is not None:
            before.append(pair)
            schedule.counts(pair, disturbed=True)
    schedule.skip(skipped)
    after = []
    while (pair := schedule.take()) is not None:
        after.append(pair)
        schedule.counts(pair, disturbed=False)
    assert all(victim != skipped for victim, _ in after)
    tried, wanted = Counter(before + after), Counter(plan(victims, backends, times))
    again = Counter(before)
    others = [pair for pair in wanted if pair[0] != skipped]
    assert all(tried[pair] == wanted[pair] + again[pair] for pair in others if again[pair] <= times)


@pytest.mark.parametrize(
    ("returned", "busy", "dead", "disturbed"),
    [
        (1.0, 0.05, True, False),
        (0.04, 0.05, False, False),  # starved, and never came back: that is what is measured
        (-0.02, 0.0, False, False),
        (1.05, 0.25, True, False),
        (0.94, 0.05, True, False),
        (0.49, 0.05, True, True),
        (0.49, 0.05, False, False),
        (1.40, 0.05, True, True),
        (1.40, 0.05, False, True),
        (-0.20, 0.05, False, True),
        (1.0, 0.60, True, True),
        (0.04, 0.60, False, True),
    ],
)
def test_foreign_load(returned: float, busy: float, dead: bool, disturbed: bool) -> None:
    """More back than the victims held, less than nothing, less than all of the dead, busy CPUs afterwards: that was
    somebody else.
    """
    assert is_disturbed(returned, busy, dead=dead) is disturbed


@given(VICTIMS, WAYS, REPEAT, st.lists(st.floats(0, 2 * LONGEST_WAIT_S), max_size=300))
def test_waiting_has_an_end(
    victims: tuple[str, ...], backends: tuple[str, ...], times: int, waits: list[float]
) -> None:
    """A machine that is never quiet costs two seconds per planned run, whatever is made again."""
    schedule, waited = Schedule(victims, backends, times), 0.0
    for wait in waits:
        longest = schedule.longest_wait_s()
        assert 0 <= longest <= LONGEST_WAIT_S
        waited += min(wait, longest)
        schedule.note_wait(min(wait, longest))
    assert waited <= WAIT_PER_RUN_S * len(plan(victims, backends, times)) + 1e-6

"""Who caused the shortage."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oomd.model.decision import Candidate
from oomd.model.snapshot import HORIZONS_US, Snapshot
from oomd.model.units import MIB
from oomd.policies.culprit import CREW_FLOOR, CREW_SHARE, FLOOR, WORTH_SHARE, Culprit
from oomd.policies.freeable import Freeable
from tests.fakes.builders import candidate, snapshot, status

MACHINE = snapshot(status=status())
"""8 GiB, so that 128 MiB of growth name a culprit."""
WORTH_MIB = 8 * 1024 // WORTH_SHARE
CREW_MIB = 8 * 1024 // CREW_SHARE


def grown(pid: int, size_mib: int, *growth_mib: int, **changes: object) -> Candidate:
    """A candidate that grew by so much over each horizon; the last figure stands for the rest."""
    growth = (growth_mib + growth_mib[-1:] * len(HORIZONS_US))[: len(HORIZONS_US)]
    return candidate(pid, size_mib, grown=tuple(mib * MIB for mib in growth), **changes)  # type: ignore[arg-type]


def pids(*candidates: Candidate, machine: Snapshot = MACHINE) -> list[int]:
    """The order, best victim first."""
    return [each.process.id.pid for each in Culprit().rank(candidates, machine)]


def test_large_steady_database_outlives_the_smaller_leaker() -> None:
    """Half of the memory stands still, 30 % of it grow: the leaker dies."""
    assert pids(grown(1, 4096, 0), grown(2, 2458, 150)) == [2, 1]


def test_slow_leak_is_found_over_the_longer_horizons() -> None:
    """1.5 MiB/s for two minutes: nothing in the last seconds, but enough in all."""
    assert pids(grown(1, 4096, 0), grown(2, 2458, 3, 12, 48, 192)) == [2, 1]


def test_tiny_grower_does_not_die_for_the_real_one() -> None:
    """A tab of 20 MiB that doubled lives; the leaker of 2 GiB beside it does not, nor does one that filled the memory
    an hour ago and stands still now.
    """
    assert pids(grown(1, 20, 10), grown(2, 2048, 140))[0] == 2
    assert pids(grown(1, 20, 10), grown(2, 6144, 0))[0] == 2
    assert pids(grown(1, 140, 135), grown(2, 6144, 0))[0] == 2


def test_who_grew_long_ago_and_is_the_only_large_one_is_chosen() -> None:
    """Nobody grows: the order is that of size."""
    assert pids(grown(1, 100, 0), grown(2, 5000, 0), grown(3, 200, 0)) == [2, 3, 1]


def test_breathing_is_no_cause() -> None:
    """Growth of less than one part in 64 of the memory, all together, weighs nothing."""
    assert pids(grown(1, 4096, 0), grown(2, 2048, WORTH_MIB - 1)) == [1, 2]
    assert pids(grown(1, 4096, 0), grown(2, 2048, WORTH_MIB)) == [2, 1]


def test_a_build_comes_before_what_stands_still() -> None:
    """Eight compilers that grow together share the blame, and none hides behind the others."""
    crew = [grown(pid, 520, 100) for pid in range(10, 18)]
    assert pids(grown(1, 4096, 0), *crew)[-1] == 1


def test_unknown_growth_falls_back_to_size() -> None:
    """Nobody was looked at before: the order and the scores of ``freeable``."""
    candidates = (candidate(1, 300), candidate(2, 500, oom_score_adj=-10), candidate(3, 100))
    assert Culprit().rank(candidates, MACHINE) == Freeable().rank(candidates, MACHINE)


def test_shared_memory_is_not_its_growth() -> None:
    """A fork that shows all of its parent's memory as its own has grown by what only it holds."""
    forked = replace(grown(2, 2000, 2000), freeable_bytes=20 * MIB)
    assert pids(grown(1, 4096, 200), forked) == [1, 2]


def test_weight_of_growth() -> None:
    """The floor for who stands still, 1 for who grew most, in between in proportion."""
    for scale, floor in ((1, FLOOR), (4, CREW_FLOOR)):
        crowd = (grown(1, 300 * scale, 200), grown(2, 300 * scale, 50), grown(3, 300 * scale, 0))
        scores = {each.process.id.pid: each.score for each in Culprit().rank(crowd, MACHINE)}
        size = 300 * scale * MIB
        assert scores[1] == size
        assert scores[2] == pytest.approx(size * (floor + (1 - floor) / 4), rel=1e-6)
        assert scores[3] == pytest.approx(size * floor, rel=1e-6)


def test_a_crew_of_small_ones_is_the_cause_together() -> None:
    """Twelve compilers, each a tenth of the database: one of them goes. Three of that size are not enough to be the
    cause of anything, and one large process that filled the memory long ago is the better choice.
    """
    crew = [grown(pid, 150, 100) for pid in range(10, 22)]
    assert pids(grown(1, 1500, 0), *crew)[-1] == 1
    assert CREW_MIB > 3 * 150
    assert pids(grown(1, 1500, 0), *crew[:3])[0] == 1


def test_many_that_are_hardly_worth_it_are_no_crew() -> None:
    """Forty tabs, opened at once: together they are large, but one by one none of them is worth its death."""
    tabs = [grown(pid, 60, 20) for pid in range(10, 50)]
    assert pids(grown(1, 1500, 0), *tabs)[0] == 1


def test_protection_by_adj_is_not_weighed_away() -> None:
    """What a negative oom_score_adj protects stays protected, however fast it grows."""
    assert pids(grown(1, 1000, 500, oom_score_adj=-500), grown(2, 10, 0)) == [2, 1]


def test_groups_grow_as_their_members_do() -> None:
    """The growth of what dies as one is that of all of it."""
    members = (grown(1, 500, 80).process, grown(2, 500, 80).process)
    group = replace(grown(1, 500, 80), kind="group", name="1", members=members, freeable_bytes=1000 * MIB)
    assert pids(grown(3, 4096, 0), group) == [1, 3]


CANDIDATES = st.lists(
    st.builds(
        grown,
        st.integers(1, 10**6),
        st.integers(0, 8192),
        st.integers(-1000, 8192),
        st.integers(-1000, 8192),
        preference=st.sampled_from(["prefer", "normal", "avoid"]),
        oom_score_adj=st.integers(-999, 1000),
    ),
    unique_by=lambda each: each.process.id,
)


@given(CANDIDATES)
def test_permutation_and_bound(candidates: list[Candidate]) -> None:
    """Nobody is lost or made up, the order does not depend on who was read first, and no score is above the size: the
    process table's proof rests on that.
    """
    ranked = Culprit().rank(tuple(candidates), MACHINE)
    assert sorted(each.process.id.pid for each in ranked) == sorted(each.process.id.pid for each in candidates)
    assert ranked == Culprit().rank(tuple(reversed(candidates)), MACHINE)
    assert all(each.score <= each.process.size_bytes for each in ranked)


@given(st.integers(WORTH_MIB, 8000), st.integers(0, 8000), st.integers(0, 8000))
def test_sole_grower_is_taken_when_its_death_is_worth_it(growth: int, size: int, steady: int) -> None:
    """The leaker before the steady one exactly as long as it gives back an eighth of that, or (once it owns a sixteenth
    of the memory) a 64th; near-ties aside.
    """
    leaker = grown(1, growth + size, growth)
    first = pids(leaker, grown(2, steady, 0))[0]
    floor = CREW_FLOOR if growth + size >= CREW_MIB else FLOOR
    if (growth + size) > floor * steady * 1.06:
        assert first == 1
    elif (growth + size) < floor * steady * 0.94:
        assert first == 2


def test_words() -> None:
    """The order as a sentence."""
    assert "grew" in Culprit().words()

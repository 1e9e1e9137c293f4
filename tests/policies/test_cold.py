"""Whose memory was not touched lately."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from oomd.model.decision import Candidate
from oomd.model.snapshot import Cgroup, Snapshot
from oomd.model.units import GIB, MIB
from oomd.policies.cold import Cold, cold_bytes
from tests.fakes.builders import candidate, snapshot


def in_cgroup(one: Candidate, active: int, inactive: int, **cgroup: Any) -> Candidate:
    """The candidate in a cgroup whose lists hold so many MiB."""
    lists = {"active_anon_bytes": active * MIB, "inactive_anon_bytes": inactive * MIB, **cgroup}
    return replace(one, cgroup=replace(Cgroup(f"/c{one.process.id.pid}", time_us=2_000_000), **lists))


def pids(*candidates: Candidate, machine: Snapshot | None = None) -> list[int]:
    """The order, best victim first."""
    return [each.process.id.pid for each in Cold().rank(candidates, machine or snapshot())]


def test_swap_and_the_inactive_share_of_the_cgroup() -> None:
    """Swap is cold; of anonymous memory the share that lies on the inactive list."""
    warm, cold = in_cgroup(candidate(1, 1000), 1024, 0), in_cgroup(candidate(2, 400), 1024, 1024)
    swapped = candidate(3, 1, swap_bytes=300 * MIB)
    assert pids(warm, cold, swapped) == [3, 2, 1]
    assert cold_bytes(cold, snapshot()) == 200 * MIB


def test_what_was_wanted_back_is_not_cold() -> None:
    """Of 1 GiB on the inactive list a quarter came back from swap since: that much of everybody's share is warm, and
    nobody pays for all of it.
    """
    cold = in_cgroup(candidate(2, 400), 1024, 1024, refault_anon=1000 + 256 * 256)
    assert cold.cgroup is not None
    machine = snapshot(earlier=(replace(cold.cgroup, time_us=1, refault_anon=1000),))
    assert cold_bytes(cold, machine) == 150 * MIB
    storm = replace(cold, cgroup=replace(cold.cgroup, refault_anon=10**9))
    assert cold_bytes(storm, machine) == 0


def test_two_of_one_cgroup_are_told_apart_where_they_were_read() -> None:
    """The kernel has looked at both: one touched all that it has since, the other nothing. The share of their cgroup
    is the same, so what was seen of each decides.
    """
    hot = in_cgroup(candidate(1, 1000, untouched_bytes=0), 1024, 1024)
    cold = in_cgroup(candidate(2, 900, untouched_bytes=880 * MIB), 1024, 1024)
    assert pids(hot, cold) == [2, 1]
    assert cold_bytes(cold, snapshot()) == 880 * MIB


def test_what_the_kernel_has_not_looked_at_is_no_proof_of_warmth() -> None:
    """While memory is plentiful everything counts as touched: a large process that was read does not therefore live at
    the cost of a small one that was not.
    """
    read = in_cgroup(candidate(1, 2000, untouched_bytes=0), 1024, 1024)
    unread = in_cgroup(candidate(2, 200), 1024, 1024)
    assert pids(read, unread) == [1, 2]


def test_who_was_watched_is_believed() -> None:
    """Watched, a process of which the lists say nothing good turns out to use all that it has."""
    watched = in_cgroup(candidate(1, 2000, untouched_bytes=10 * MIB, untouched_over_us=4_000_000), 1024, 1024)
    assert cold_bytes(watched, snapshot()) == 10 * MIB
    assert pids(watched, in_cgroup(candidate(2, 200), 1024, 1024)) == [2, 1]


def test_without_cgroups() -> None:
    """Version 1, or the root: what was read of processes is all there is."""
    assert pids(candidate(1, 3000), candidate(2, 100, untouched_bytes=90 * MIB)) == [2, 1]


def test_shared_memory_is_not_given_back() -> None:
    """Cold pages that a fork shares stay when one of the family dies."""
    forked = replace(candidate(1, 2000, untouched_bytes=2000 * MIB), freeable_bytes=20 * MIB)
    assert cold_bytes(forked, snapshot()) == 20 * MIB


def test_sets_are_as_cold_as_their_members() -> None:
    """Of a cgroup: its swap, what was read of some members, and the share of the lists for the others."""
    members = (
        candidate(1, 500, untouched_bytes=400 * MIB, untouched_over_us=2_000_000).process,
        candidate(2, 100).process,
    )
    whole = replace(
        in_cgroup(candidate(1, 500), 512, 512, swap_bytes=50 * MIB),
        kind="cgroup",
        name="/c1",
        members=members,
        freeable_bytes=GIB,
    )
    assert cold_bytes(whole, snapshot()) == (50 + 400 + 50) * MIB


def test_wants() -> None:
    """Nobody is held up unless the rule says so."""
    assert not Cold().wants.touches
    assert Cold(clear_refs=True).wants.touches
    assert Cold().wants.files == {"memory.stat"}
    assert Cold(clear_refs=True).words().endswith("(the foremost are watched with clear_refs)")


@given(
    st.integers(0, 4096), st.integers(0, 4096), st.integers(0, 4096), st.none() | st.integers(0, 5000), st.booleans()
)
def test_never_more_than_the_death_gives_back(
    size: int, active: int, inactive: int, untouched: int | None, watched: bool
) -> None:
    """Between nothing and what it owns, whatever the files say."""
    seen = None if untouched is None else untouched * MIB
    one = in_cgroup(
        candidate(1, size, untouched_bytes=seen, untouched_over_us=watched * 10**6, swap_bytes=5 * MIB),
        active,
        inactive,
    )
    assert 0 <= cold_bytes(one, snapshot()) <= one.freeable_bytes

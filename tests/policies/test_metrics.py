"""Orders by one metric."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oomd import policies
from oomd.model.decision import Candidate
from oomd.model.snapshot import Cgroup, DeviceIo
from oomd.model.threshold import Threshold
from oomd.model.units import MIB
from oomd.policies.metrics import IoCost, OomScore, PgscanRate, PressureOrder, Resident, Swap, Youngest
from tests.fakes.builders import candidate, pressure, snapshot, status


def pids(policy: Any, candidates: tuple[Candidate, ...], **machine: Any) -> list[int]:
    """The order, best victim first."""
    return [each.process.id.pid for each in policy.rank(candidates, snapshot(**machine))]


def in_cgroup(pid: int, size_mib: int = 100, **cgroup: Any) -> Candidate:
    """A candidate whose cgroup shows this."""
    return replace(candidate(pid, size_mib), cgroup=Cgroup(f"/c{pid}", time_us=2_000_000, **cgroup))


def test_resident_counts_files_and_shared_memory() -> None:
    """What a list of processes shows; of a cgroup what is charged to it."""
    shared = candidate(1, 100, rss_shmem_bytes=900 * MIB)
    mapped = candidate(2, 100, rss_file_bytes=500 * MIB)
    whole = replace(candidate(3, 1), kind="cgroup", cgroup=Cgroup("/c", current_bytes=700 * MIB))
    assert pids(Resident(), (candidate(4, 400), mapped, whole, shared)) == [1, 3, 2, 4]


def test_oom_score_is_the_kernels() -> None:
    """A thousandth of all memory for each point of oom_score_adj: 100 of 8 GiB outweigh 800 MiB."""
    small = candidate(1, 10, oom_score_adj=100)
    assert pids(OomScore(), (candidate(2, 800), small, candidate(3, 850))) == [3, 1, 2]
    tables = candidate(4, 840, page_tables_bytes=20 * MIB)
    assert pids(OomScore(), (candidate(3, 850), tables)) == [4, 3]


@pytest.mark.parametrize(("swap", "order"), [((20, 60, 40), [2, 3, 1]), ((1, 2, 3), [3, 2, 1]), ((0, 0, 0), [3, 2, 1])])
def test_swap_of_metas_catalogue(swap: tuple[int, int, int], order: list[int]) -> None:
    """S1: the most swap. S7: with none anywhere Meta's oomd kills nobody; here size decides, as a confirmed alarm has a
    victim if one is allowed at all.
    """
    candidates = tuple(
        candidate(pid, 100 + pid, swap_bytes=mib * MIB) for pid, mib in zip((1, 2, 3), swap, strict=True)
    )
    assert pids(Swap(), candidates) == order


def test_swap_floor_is_a_rank_and_no_exemption() -> None:
    """S2: below 20 % of the swap nobody dies at Meta, 20/60/40 lets the second go. Here those below the floor come
    last, by size: fragmented swap must not mean that nothing is ever done (systemd-oomd's floor of 5 % does).
    """
    machine = {"status": status(swap_total_bytes=100 * MIB, swap_free_bytes=0)}
    floor = Swap(at_least=Threshold(share=0.2))
    candidates = tuple(candidate(pid, 10 * pid, swap_bytes=mib * MIB) for pid, mib in ((1, 19), (2, 60), (3, 1)))
    assert pids(floor, candidates, **machine) == [2, 3, 1]


def test_pressure_of_metas_catalogue() -> None:
    """P1: io full avg10/avg60 of 60/60, 50/70, 80/80: the third; a sibling at 99 before it; unknown ones last."""
    averages = {1: (0.6, 0.6), 2: (0.5, 0.7), 3: (0.8, 0.8)}
    candidates = tuple(in_cgroup(pid, io_pressure=pressure(*each)) for pid, each in averages.items())
    assert pids(PressureOrder(resource="io"), (candidate(9, 900), *candidates))[0] == 3
    sibling = in_cgroup(8, io_pressure=pressure(0.99, 0.99))
    assert pids(PressureOrder(resource="io"), (*candidates, sibling))[0] == 8
    assert pids(PressureOrder(resource="io"), (candidate(9, 900), *candidates))[-1] == 9
    assert PressureOrder(resource="cpu").wants.files == {"cpu.pressure"}


def test_pgscan_of_metas_catalogue() -> None:
    """G1: 10000→10010, 5000→5030, 6000→6050 in a second: the third. At the first look there is no rate: Meta's oomd
    waits a tick, here size decides at once.
    """
    now = {1: 10010, 2: 5030, 3: 6050}
    before = {1: 10000, 2: 5000, 3: 6000}
    candidates = tuple(in_cgroup(pid, 100 - pid, pgscan=count) for pid, count in now.items())
    earlier = tuple(Cgroup(f"/c{pid}", time_us=1_000_000, pgscan=count) for pid, count in before.items())
    assert pids(PgscanRate(), candidates, earlier=earlier) == [3, 2, 1]
    assert pids(PgscanRate(), candidates) == [1, 2, 3]


def test_rates_are_per_second_and_of_the_same_cgroup() -> None:
    """Seen twice as long ago, half as fast; one made anew under an old path has no rate; a counter that went back is
    none.
    """
    earlier = (
        Cgroup("/c1", time_us=0, pgscan=0),
        Cgroup("/c2", time_us=1_000_000, pgscan=0),
        Cgroup("/c3", inode=9, time_us=1_000_000, pgscan=0),
        Cgroup("/c4", time_us=1_000_000, pgscan=10**6),
    )
    candidates = tuple(in_cgroup(pid, pgscan=count) for pid, count in ((1, 150), (2, 100), (3, 10**6), (4, 0)))
    assert pids(PgscanRate(), candidates, earlier=earlier) == [2, 1, 4, 3]


def test_io_cost_by_the_model_of_the_device() -> None:
    """Writes cost a disk dearly and an SSD little."""
    reader = in_cgroup(1, io=(DeviceIo("8:0", reads=1000),))
    writer = in_cgroup(2, io=(DeviceIo("8:0", writes=100),))
    earlier = tuple(Cgroup(f"/c{pid}", time_us=1_000_000, io=()) for pid in (1, 2))
    assert pids(IoCost("ssd"), (reader, writer), earlier=earlier) == [1, 2]
    assert pids(IoCost("hdd"), (reader, writer), earlier=earlier) == [2, 1]


def test_youngest_first() -> None:
    """Started last, first; of a group the oldest member speaks."""
    old, young = candidate(1, start_ticks=10), candidate(2, start_ticks=99)
    group = replace(candidate(3, start_ticks=500), members=(candidate(3, start_ticks=500).process, old.process))
    assert pids(Youngest(), (old, group, young)) == [2, 1, 3]


@given(
    st.sampled_from(policies.ALL),
    st.lists(
        st.builds(
            candidate,
            st.integers(1, 10**6),
            st.integers(0, 10**5),
            preference=st.sampled_from(["prefer", "normal", "avoid"]),
            oom_score_adj=st.integers(-999, 1000),
            swap_bytes=st.integers(0, 10**9),
        ),
        unique_by=lambda each: each.process.id,
    ),
)
def test_the_ranking_is_a_permutation_of_the_eligible(declared: Any, candidates: list[Candidate]) -> None:
    """By every policy, the same whoever was read first; avoided ones after all others."""
    ranked = declared().rank(tuple(candidates), snapshot())
    assert sorted(each.process.id.pid for each in ranked) == sorted(each.process.id.pid for each in candidates)
    again = declared().rank(tuple(reversed(candidates)), snapshot())
    assert [each.process.id for each in ranked] == [each.process.id for each in again]
    avoided = [each.preference == "avoid" for each in ranked]
    assert avoided == sorted(avoided)
    if declared.by_size:
        assert all(each.score <= each.process.size_bytes for each in ranked)


@pytest.mark.parametrize("declared", policies.ALL, ids=lambda declared: declared.name)
def test_words(declared: Any) -> None:
    """Every order completes the sentence "to the process …"."""
    assert declared().words().split()[0] in {"whose", "with", "that", "in"}

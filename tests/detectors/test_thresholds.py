"""Detectors that compare one amount with a limit."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from oomd.detectors.thresholds import (
    Commit,
    DyingDescendants,
    MemoryAbove,
    MemoryAvailable,
    ProcessCount,
    SwapFree,
    SwapUtilisation,
)
from oomd.model.ruleset import View
from oomd.model.snapshot import Budget, Cgroup, Counters, Details, MemoryStatus
from oomd.model.threshold import Threshold
from oomd.model.units import GIB, MIB
from tests.fakes.builders import moment, over_time, status

FIVE_PERCENT = Threshold(share=0.05)


def view(now: MemoryStatus, available: int | None = None, swap: int | None = None) -> View:
    """What the engine hands over without any credit."""
    return View(
        now, now.available_bytes if available is None else available, now.swap_free_bytes if swap is None else swap
    )


@pytest.mark.parametrize(("available_mib", "holds"), [(409, True), (410, False), (0, True), (-5, True)])
def test_available_below_its_limit(available_mib: int, holds: bool) -> None:
    """Below 5 % of a base of 8 GiB, and not at it."""
    now = status()
    assert MemoryAvailable(FIVE_PERCENT).detect(view(now, available_mib * MIB), firing=False).holds is holds


def test_tmpfs_is_no_part_of_the_base() -> None:
    """Half of the machine in tmpfs: the base is what is available and anonymous, so 5 % are 5 % of that."""
    now = status(mem_available_bytes=300 * MIB, anon_bytes=3796 * MIB, shmem_bytes=4 * GIB)
    evidence = MemoryAvailable(FIVE_PERCENT).detect(view(now), firing=False)
    assert not evidence.holds
    assert evidence.limit == int(4096 * MIB * 0.05)


def test_hysteresis_lets_go_a_little_higher() -> None:
    """An alarm that holds ends at 1.1 times its limit, one that does not begins at the limit."""
    detector, now = MemoryAvailable(Threshold(size_bytes=100 * MIB)), status()
    assert detector.detect(view(now, 105 * MIB), firing=True).holds
    assert not detector.detect(view(now, 105 * MIB), firing=False).holds
    assert not detector.detect(view(now, 111 * MIB), firing=True).holds


def test_budget_is_the_base_of_its_shares() -> None:
    """Under a budget shares are of the budget."""
    now = replace(status(), budget=Budget(GIB, GIB - 40 * MIB, "processes"))
    assert MemoryAvailable(FIVE_PERCENT).detect(view(now), firing=False).holds


@pytest.mark.parametrize(
    ("total", "free", "firing", "holds"),
    [(GIB, 102 * MIB, False, True), (GIB, 103 * MIB, False, False), (GIB, 110 * MIB, True, True)],
)
def test_swap_free(total: int, free: int, firing: bool, holds: bool) -> None:
    """Below its share, with hysteresis."""
    now = status(swap_total_bytes=total, swap_free_bytes=free)
    assert SwapFree(Threshold(share=0.10)).detect(view(now), firing=firing).holds is holds


@pytest.mark.parametrize(
    ("swapless", "available_mib", "firing", "holds"),
    [
        ("memory", 819, False, True),
        ("memory", 820, False, False),
        ("memory", 900, True, True),
        ("memory", 902, True, False),
        ("holds", 4096, False, True),
        ("never", 0, False, False),
    ],
)
def test_without_swap(swapless: str, available_mib: int, firing: bool, holds: bool) -> None:
    """Available memory stands for free swap (10 % of 8 GiB, with the same hysteresis), unless the rule says that it
    holds or does not.
    """
    now = status(mem_available_bytes=available_mib * MIB, anon_bytes=(8192 - available_mib) * MIB)
    detector = SwapFree(Threshold(share=0.10), swapless=swapless)
    assert detector.detect(view(now), firing=firing).holds is holds


def test_swap_does_not_delay_a_budget() -> None:
    """A budget counts swap as usage, so free swap of the machine is no help: what counts is what is left of it."""
    for used, holds in ((0, False), (950 * MIB, True)):
        now = replace(status(swap_total_bytes=GIB, swap_free_bytes=GIB), budget=Budget(GIB, used, "processes"))
        assert SwapFree(Threshold(share=0.10)).detect(view(now), firing=False).holds is holds


def test_swap_free_of_metas_catalogue() -> None:
    """D6: 20 % of 20971512 KiB. Without swap Meta's oomd is silent for ever; here the rule speaks when as little memory
    is available, as nothing delays the end then.
    """
    detector, total = SwapFree(Threshold(share=0.2)), 20971512 * 1024
    for used, holds in ((20971440 * 1024, True), (3310136 * 1024, False)):
        now = status(swap_total_bytes=total, swap_free_bytes=total - used)
        assert detector.detect(view(now), firing=False).holds is holds
    assert not detector.detect(view(status()), firing=False).holds
    assert detector.detect(view(status(mem_available_bytes=GIB, anon_bytes=7 * GIB)), firing=False).holds


def test_swap_out_rate() -> None:
    """With a rate it holds only while so much is swapped out per second, and never at the first look."""
    detector = SwapFree(Threshold(share=0.5), swapout_above=40 * MIB)

    def look(seconds: float, pages: int) -> View:
        details = Details(counters=Counters(0, 0, 0, 0, pages, 0, 0), page_bytes=4096)
        return moment(seconds, details, swap_total_bytes=GIB, swap_free_bytes=GIB // 4)

    assert not detector.detect(over_time(look(0, 10**9)), firing=False).holds
    assert detector.detect(over_time(look(0, 0), look(2, 2 * 40 * 256)), firing=False).holds
    slow = detector.detect(over_time(look(0, 0), look(2, 40 * 256)), firing=False)
    assert not slow.holds
    assert slow.text.endswith(", swapping out 20 MiB/s")
    assert detector.window_us == 5_000_000
    assert detector.wants.details == {"counters"}


@pytest.mark.parametrize(
    ("above", "kind", "current", "anon", "holds"),
    [
        (Threshold(size_bytes=1536 * MIB), "total", 2 * GIB, 0, True),
        (Threshold(size_bytes=1536 * MIB), "total", GIB, 0, False),
        (Threshold(share=0.1), "total", 2 * GIB, 0, True),
        (Threshold(size_bytes=1536 * MIB), "anon", GIB, 2 * GIB, True),
        (Threshold(size_bytes=1536 * MIB), "anon", 2 * GIB, GIB, False),
    ],
)
def test_memory_above_of_metas_catalogue(above: Threshold, kind: str, current: int, anon: int, holds: bool) -> None:
    """D4: sizes and shares of 8 GiB, of all memory or the anonymous; any of several cgroups suffices."""
    detector = MemoryAbove(above, kind, "/a/*")
    groups = (Cgroup("/a/x", current_bytes=current, anon_bytes=anon), Cgroup("/a/y", current_bytes=1, anon_bytes=1))
    evidence = detector.detect(moment(0, cgroups=(*groups, Cgroup("/b/z", current_bytes=9 * GIB))), firing=False)
    assert evidence.holds is holds
    assert evidence.cgroups == (("/a/x",) if holds else ())


def test_memory_above_of_the_machine() -> None:
    """Of the machine it is all but what is available, anonymous memory, or the budget's usage."""
    now = moment(0, mem_available_bytes=3 * GIB, anon_bytes=2 * GIB)
    assert MemoryAbove(Threshold(share=0.6)).detect(now, firing=False).value == 5 * GIB
    assert MemoryAbove(Threshold(share=0.6), "anon").detect(now, firing=False).value == 2 * GIB
    budget = replace(now, status=replace(now.status, budget=Budget(GIB, 700 * MIB, "processes")))
    assert MemoryAbove(Threshold(share=0.6)).detect(budget, firing=False).holds
    unknown = MemoryAbove(Threshold(share=0.6), of="/nowhere").detect(now, firing=False)
    assert (unknown.holds, unknown.text) == (False, "/nowhere: memory in use is not known")


def test_commit() -> None:
    """Promised memory against CommitLimit; silent where the kernel tells no limit."""
    assert Commit(0.95).detect(moment(0, commit_limit_bytes=100, committed_bytes=96), firing=False).holds
    assert not Commit(0.95).detect(moment(0, commit_limit_bytes=100, committed_bytes=95), firing=False).holds
    assert Commit(0.95).detect(moment(0, commit_limit_bytes=100, committed_bytes=90), firing=True).holds
    assert not Commit(0.95).detect(moment(0, committed_bytes=90), firing=False).holds


def test_swap_utilisation() -> None:
    """900 MiB of 1 GiB that could be swapped out are; silent without swap."""
    shares: dict[str, Any] = {"anon_bytes": 64 * MIB, "shmem_bytes": 60 * MIB, "swap_total_bytes": 4 * GIB}
    full = moment(0, swap_free_bytes=4 * GIB - 900 * MIB, **shares)
    assert not SwapUtilisation(0.9).detect(full, firing=False).holds
    assert SwapUtilisation(0.85).detect(full, firing=False).holds
    assert SwapUtilisation(0.9).detect(full, firing=True).holds
    assert SwapUtilisation(0.9).detect(moment(0), firing=False).text == "no swap"


def test_process_count() -> None:
    """Of the machine, and of any of several cgroups."""
    assert ProcessCount(500).detect(moment(0, Details(tasks=501)), firing=False).holds
    assert not ProcessCount(500).detect(moment(0, Details(tasks=500)), firing=False).holds
    assert not ProcessCount(500).detect(moment(0), firing=False).holds
    groups = (Cgroup("/a", pids=3), Cgroup("/b", pids=600))
    assert ProcessCount(500, "/*").detect(moment(0, cgroups=groups), firing=False).cgroups == ("/b",)
    assert ProcessCount(5).wants.details == {"tasks"}
    assert ProcessCount(5, "/b").wants.files == {"pids.current"}


@pytest.mark.parametrize(
    ("detector", "path", "dying", "holds"),
    [
        (DyingDescendants("/a", at_most=100), "/a", 123, False),
        (DyingDescendants("/a", at_most=100), "/a", 90, True),
        (DyingDescendants("/a", above=100), "/a", 123, True),
        (DyingDescendants("/a", above=100), "/a", 90, False),
        (DyingDescendants(above=29), "/", 30, True),
    ],
)
def test_dying_descendants_of_metas_catalogue(detector: DyingDescendants, path: str, dying: int, holds: bool) -> None:
    """D9: both polarities, and the root's count."""
    view = moment(0, cgroups=(Cgroup(path, dying_descendants=dying),))
    assert detector.detect(view, firing=False).holds is holds


def test_any_of_several_dying() -> None:
    """D9: one cgroup that fits suffices."""
    groups = (Cgroup("/a/x", dying_descendants=1), Cgroup("/a/y", dying_descendants=1000))
    view = moment(0, cgroups=groups)
    assert DyingDescendants("/a/*", at_most=100).detect(view, firing=False).cgroups == ("/a/x",)
    assert DyingDescendants("/a/*", above=100).detect(view, firing=False).cgroups == ("/a/y",)


def test_words() -> None:
    """Rules read as sentences."""
    assert MemoryAvailable(Threshold(0.05, GIB)).words() == "available memory is below min(5%, 1GiB)"
    assert SwapFree(Threshold(0.1)).words() == "free swap is below 10%, or available memory where there is none"
    assert SwapFree(Threshold(0.1), swapless="holds").words() == "free swap is below 10% (or there is none)"
    assert SwapFree(Threshold(0.1), swapless="never").words() == "free swap is below 10%"
    assert (MemoryAvailable(FIVE_PERCENT).window_us, SwapFree(FIVE_PERCENT).window_us) == (0, 0)
    assert MemoryAbove(FIVE_PERCENT, of="/a,/b").words() == "total memory of /a or /b is above 5%"
    assert Commit(1.5).words() == "promised memory (Committed_AS) is above 150% of CommitLimit"
    assert ProcessCount(7).words() == "the machine has more than 7 tasks"
    assert DyingDescendants(at_most=7).words() == "at most 7 removed cgroups below / still hold memory"

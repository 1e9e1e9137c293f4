"""Detectors that compare one amount with a limit."""

from __future__ import annotations

from dataclasses import replace

import pytest

from oomd.detectors.thresholds import MemoryAvailable, SwapFree
from oomd.model.ruleset import View
from oomd.model.snapshot import Budget, MemoryStatus
from oomd.model.threshold import Threshold
from oomd.model.units import GIB, MIB
from tests.fakes.builders import status

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
    [(0, 0, False, True), (GIB, 102 * MIB, False, True), (GIB, 103 * MIB, False, False), (GIB, 110 * MIB, True, True)],
)
def test_swap_free(total: int, free: int, firing: bool, holds: bool) -> None:
    """Without swap it always holds, else below its share, with hysteresis."""
    now = status(swap_total_bytes=total, swap_free_bytes=free)
    assert SwapFree(Threshold(share=0.10)).detect(view(now), firing=firing).holds is holds


def test_swap_does_not_delay_a_budget() -> None:
    """A budget counts swap as usage, so free swap of the machine is no help."""
    now = replace(status(swap_total_bytes=GIB, swap_free_bytes=GIB), budget=Budget(GIB, 0, "processes"))
    assert SwapFree(Threshold(share=0.10)).detect(view(now), firing=False).holds


def test_words() -> None:
    """Rules read as sentences."""
    assert MemoryAvailable(Threshold(0.05, GIB)).words() == "available memory is below min(5%, 1GiB)"
    assert SwapFree(Threshold(0.1)).words() == "free swap is below 10% (or there is none)"
    assert (MemoryAvailable(FIVE_PERCENT).window_us, SwapFree(FIVE_PERCENT).window_us) == (0, 0)

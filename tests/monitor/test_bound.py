"""The growth bound: sound whatever processes do, and tight where it can be."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from oomd.kernel.files import PAGE_BYTES, KernelFile
from oomd.model.units import MIB
from oomd.monitor.bound import UNKNOWN_BYTES, GrowthBound, Rise
from tests.ends import until_end
from tests.fakes.proc_tree import ProcTree

if TYPE_CHECKING:
    from pathlib import Path

SLACK = 10


@given(st.integers(0, 1000), st.lists(st.tuples(st.integers(-300, 300), st.integers(-SLACK // 2, SLACK // 2))))
def test_a_rise_never_proves_more_than_was_allocated(size: int, steps: list[tuple[int, int]]) -> None:
    """Whatever a process takes and gives back, and however its readings sway within the slack."""
    rise, allocated, proved = Rise(size), 0, 0
    for change, error in steps:
        allocated += max(0, change)
        size = max(0, size + change)
        proved += rise.note(max(0, size + error), SLACK)
        assert proved <= allocated


@given(st.lists(st.integers(-300, 300)))
def test_without_errors_every_rise_is_proved_to_the_last_byte(steps: list[int]) -> None:
    """One that shrinks and grows again has allocated again, and that is explained too."""
    size, allocated, proved, rise = 10_000, 0, 0, Rise(10_000)
    for change in steps:
        size += change
        allocated += max(0, change)
        proved += rise.note(size, 0)
    assert proved == allocated


def test_what_sways_within_the_slack_proves_nothing() -> None:
    """A thousand readings that differ by less are one size."""
    rise = Rise(1000)
    assert sum(rise.note(1000 + (SLACK - 1) * (number % 2), SLACK) for number in range(1000)) == 0


def allocate(tree: ProcTree, pages: int) -> None:
    """So many more pages by so many faults."""
    tree.set_vmstat(pgalloc_normal=1000 + pages, pgfault=1000 + pages)


def test_bound_since_the_scan_and_since_the_look(tmp_path: Path) -> None:
    """Growth that was explained comes off both; what a look itself has explained lay before it."""
    tree = ProcTree(tmp_path)
    allocate(tree, 0)
    bound = GrowthBound(until_end(KernelFile(f"{tmp_path}/vmstat")), PAGE_BYTES)
    bound.begin_scan()
    rise = Rise(0)
    allocate(tree, 100)
    bound.measure()
    assert bound.since_scan_bytes() == bound.since_look_bytes() == 100 * PAGE_BYTES
    bound.begin_look()
    bound.explain(rise, 60 * PAGE_BYTES)
    bound.end_look()
    allocate(tree, 130)
    bound.measure()
    assert (bound.since_scan_bytes(), bound.since_look_bytes()) == (70 * PAGE_BYTES, 30 * PAGE_BYTES)
    bound.explain(rise, 80 * PAGE_BYTES)
    assert (bound.since_scan_bytes(), bound.since_look_bytes()) == (50 * PAGE_BYTES, 10 * PAGE_BYTES)
    bound.begin_scan()
    assert (bound.since_scan_bytes(), bound.since_look_bytes()) == (0, 0)


def test_without_counters_nothing_is_bound(tmp_path: Path) -> None:
    """Nor with a file that counts nothing."""
    (tmp_path / "vmstat").write_bytes(b"nr_free_pages 5\n")
    for bound in (GrowthBound(None, PAGE_BYTES), GrowthBound(until_end(KernelFile(f"{tmp_path}/vmstat")), PAGE_BYTES)):
        bound.begin_scan()
        bound.measure()
        assert bound.since_scan_bytes() >= UNKNOWN_BYTES


def test_larger_folios_count_from_the_next_scan_on(tmp_path: Path) -> None:
    """They may be switched on at any time."""
    tree, pages = ProcTree(tmp_path), [1]
    tree.set_vmstat(pgalloc_normal=1000, pgfault=1000)
    bound = GrowthBound(until_end(KernelFile(f"{tmp_path}/vmstat")), PAGE_BYTES, lambda: pages[0], slack_bytes=MIB)
    bound.begin_scan()
    pages[0] = 16
    tree.set_vmstat(pgalloc_normal=2000, pgfault=1010)
    bound.measure()
    assert bound.since_scan_bytes() == 10 * PAGE_BYTES
    bound.begin_scan()
    tree.set_vmstat(pgalloc_normal=3000, pgfault=1020)
    bound.measure()
    assert bound.since_scan_bytes() == 160 * PAGE_BYTES
    assert bound.since_look_bytes() == 160 * PAGE_BYTES + MIB

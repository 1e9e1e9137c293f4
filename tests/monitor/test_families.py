"""What families come off the growth bound: on real processes, with the real counters."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from oomd.kernel.files import PAGE_BYTES, KernelFile
from oomd.model.units import MIB
from oomd.monitor.bound import UNEXPLAINED_BYTES, GrowthBound, Rise
from oomd.monitor.families import IDLE_LOOKS, MOST_FAMILIES, TICK_NS, UNDER_WAY, Families
from oomd.monitor.rows import Row, read_row
from tests.ends import until_end
from tests.fakes.proc_tree import ProcTree
from tests.kinfolk import Kinfolk, faults_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SOME = 3000
"""Pages; more than the machine needs to fork a few times."""


class Watch:
    """Families of the real procfs, beside the real counters."""

    def __init__(self) -> None:
        self.proc_fd = os.open("/proc", os.O_RDONLY | os.O_DIRECTORY)
        self.families = Families(self.proc_fd, PAGE_BYTES)
        self.vmstat = until_end(KernelFile("/proc/vmstat"))
        self.bound = GrowthBound(self.vmstat, PAGE_BYTES, families=self.families)
        self.bound.begin_scan()

    def know(self, folk: Kinfolk) -> None:
        """The first one's family, from now on: by a child, as newcomers tell it."""
        end = time.monotonic() + 90
        while self.row(folk.first).start_ticks * TICK_NS >= time.clock_gettime_ns(time.CLOCK_BOOTTIME) - TICK_NS:
            assert time.monotonic() < end
        self.bound.begin_scan()
        assert self.families.find(folk.fork(folk.first), swapped=False)
        assert [each.row.pid for each in self.families.known] == [folk.first]

    def row(self, pid: int) -> Row:
        """What is known of this one."""
        row = read_row(self.proc_fd, pid, PAGE_BYTES)
        assert row is not None
        return row

    def close(self) -> None:
        """Everything."""
        self.bound.close()
        self.vmstat.close()
        os.close(self.proc_fd)


@pytest.fixture
def folk() -> Iterator[Kinfolk]:
    with Kinfolk() as made:
        yield made


@pytest.fixture
def watch() -> Iterator[Watch]:
    made = Watch()
    yield made
    made.close()


def test_what_dead_children_and_the_parent_have_faulted(folk: Kinfolk, watch: Watch) -> None:
    """Comes off; a living child's does not, before it is dead and waited for."""
    watch.know(folk)
    child = folk.fork(folk.first)
    folk.touch(child, SOME)
    watch.bound.measure()
    assert watch.families.since_scan(()) < SOME
    folk.end(child)
    folk.wait(folk.first)
    watch.bound.measure()
    assert SOME - UNDER_WAY <= watch.families.since_scan(()) < 2 * SOME
    folk.touch(folk.first, SOME)
    watch.bound.measure()
    assert 2 * SOME - UNDER_WAY <= watch.families.since_scan(()) < 3 * SOME
    assert SOME - UNDER_WAY <= watch.families.since_scan([folk.first]) < 2 * SOME


def test_what_a_child_had_faulted_before_never_comes_off(folk: Kinfolk, watch: Watch) -> None:
    """Neither before the last scan, nor before the last look."""
    old = folk.fork(folk.first)
    folk.touch(old, SOME)
    watch.know(folk)
    watch.bound.begin_scan()
    folk.end(old)
    folk.wait(folk.first)
    watch.bound.measure()
    assert watch.families.since_scan(()) < SOME
    young = folk.fork(folk.first)
    folk.touch(young, SOME)
    watch.bound.begin_look()
    watch.bound.end_look()
    folk.end(young)
    folk.wait(folk.first)
    watch.bound.measure()
    assert watch.families.since_look(()) < SOME
    assert SOME - UNDER_WAY <= watch.families.since_scan(()) < 2 * SOME


def test_a_grandchild_before_and_after(folk: Kinfolk, watch: Watch) -> None:
    """Whatever passes through a child that goes on belongs to nobody yet; then all that is new comes off."""
    middle = folk.fork(folk.first)
    old = folk.fork(middle)
    folk.touch(old, SOME)
    watch.know(folk)
    watch.bound.begin_scan()
    young = folk.fork(middle)
    folk.touch(young, SOME)
    for child in (old, young):
        folk.end(child)
        folk.wait(middle)
    watch.bound.measure()
    assert watch.families.since_scan(()) < SOME
    folk.end(middle)
    folk.wait(folk.first)
    watch.bound.measure()
    assert SOME - 1000 <= watch.families.since_scan(()) < 2 * SOME


def test_a_thousand_forks_leave_nothing(folk: Kinfolk, watch: Watch) -> None:
    """What a parent forks and waits for is told to the last fault, but for those under way."""
    watch.know(folk)
    watch.bound.begin_scan()
    before = faults_of(folk.first)
    folk.churn(folk.first, 300)
    after = faults_of(folk.first)
    watch.bound.measure()
    family = watch.families.known[0]
    assert after - before > 300
    assert after - before - UNDER_WAY - (family.scan[2] or 0) <= watch.families.since_scan(()) <= after - before
    watch.bound.begin_look()
    watch.bound.end_look()
    folk.churn(folk.first, 50)
    watch.bound.measure()
    assert 0 < watch.families.since_look(()) <= faults_of(folk.first) - after


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["fork", "touch", "end", "wait", "churn", "look"]), st.integers(0, 3), st.integers(1, 600)
    ),
    min_size=3,
    max_size=14,
)


@settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck))
@given(before=STEPS, after=STEPS)
def test_the_bound_holds_for_a_stranger(before: list[tuple[str, int, int]], after: list[tuple[str, int, int]]) -> None:
    """Whatever a family does before and after the scan: an old process that grows beside it is within the bound. The
    machine's counters are made up of what ours have faulted, so that nobody else's faults hide an error.
    """
    watch = Watch()
    with Kinfolk() as folk:
        watch.know(folk)
        ours = [folk.first]
        gone = 0

        def step(kind: str, which: int, number: int) -> None:
            nonlocal gone
            pid = ours[which % len(ours)]
            if kind == "fork":
                ours.append(folk.fork(pid))
            elif kind == "touch":
                folk.touch(pid, number)
            elif kind == "churn":
                folk.churn(pid, number % 20)
            elif kind == "end" and pid != folk.first:
                folk.end(pid)
                ours.remove(pid)
            elif kind == "wait" and (ended := folk.waiting(pid)):
                kept = faults_of(pid)
                reaped = folk.wait(pid)
                assert reaped in ended
                assert faults_of(pid) >= kept
            elif kind == "look":
                watch.bound.begin_look()
                watch.bound.end_look()

        for each in before:
            step(*each)
        watch.bound.begin_scan()
        start = folk.faults()
        for each in after:
            step(*each)
        watch.bound.measure()
        faulted = folk.faults() - start
        assert watch.families.since_scan(()) <= faulted
    watch.close()


def test_who_is_no_parent(tmp_path: Path) -> None:
    """Kernel threads, the first of a PID namespace, who came after the scan himself, and who has too many children."""
    tree = ProcTree(tmp_path)
    tree.add_process(1, ppid=0, start_ticks=1)
    tree.add_process(2, ppid=0, flags=0x00200000, start_ticks=1)
    tree.add_process(20, start_ticks=2)
    for pid in range(30, 130):
        tree.add_process(pid, ppid=20, start_ticks=3)
    tree.add_process(300, ppid=130, start_ticks=900)
    tree.add_process(131, start_ticks=4)
    tree.add_process(132, ppid=131, start_ticks=4)
    fd = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    families = Families(fd, PAGE_BYTES, lambda: 100)
    families.begin(scan=True, swapped=False)
    for number, parent in enumerate((1, 2, 20, 300, 4000)):
        tree.add_process(400 + number, ppid=parent, start_ticks=900)
        assert not families.find(400 + number, swapped=False)
    tree.add_process(500, ppid=132, start_ticks=900)
    tree.add_process(501, ppid=500, start_ticks=900)
    assert families.find(501, swapped=False)
    assert not families.find(500, swapped=False)
    assert [each.row.pid for each in families.known] == [132]
    families.close()
    assert not families.known
    os.close(fd)


def made(tmp_path: Path, count: int) -> tuple[ProcTree, Families, int]:
    """So many parents, found by a child each."""
    tree = ProcTree(tmp_path)
    tree.add_process(1, ppid=0, start_ticks=1)
    fd = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    families = Families(fd, PAGE_BYTES, lambda: 100)
    families.begin(scan=True, swapped=False)
    for pid in range(10, 10 + count):
        tree.add_process(pid, start_ticks=pid)
        tree.add_process(1000 + pid, ppid=pid, start_ticks=900)
        families.find(1000 + pid, swapped=False)
    return tree, families, fd


def test_only_some_are_known_and_the_idle_are_let_go(tmp_path: Path) -> None:
    """The oldest first; who does nothing for many looks, or next to nothing between scans, makes room."""
    tree, families, fd = made(tmp_path, MOST_FAMILIES + 1)
    assert [each.row.pid for each in families.known] == list(range(10, 10 + MOST_FAMILIES))
    for each in range(IDLE_LOOKS):
        tree.change_process(10, faults=1000 * each)
        tree.change_process(11, reaped_faults=10 * each)
        families.begin(scan=False, swapped=False)
        families.looked()
    assert [each.row.pid for each in families.known] == [10]
    assert families.find(1011, swapped=False)
    families.read(swapped=False)
    families.begin(scan=True, swapped=False)
    assert [each.row.pid for each in families.known] == [10]
    tree.remove_process(10)
    families.read(swapped=False)
    assert not families.known
    os.close(fd)


def test_one_that_is_condemned_is_read_no_more(tmp_path: Path) -> None:
    """A victim's memory must not be held by its readers."""
    _, families, fd = made(tmp_path, 2)
    row = families.known[0].row
    families.forget(10)
    assert [each.row.pid for each in families.known] == [11]
    assert not row.is_kept
    families.close()
    os.close(fd)


def test_what_leaders_explain_beside_a_family(tmp_path: Path) -> None:
    """Those who are no kin always; a child of it as long as it lives, or it would come off twice."""
    tree, families, fd = made(tmp_path, 1)
    tree.add_process(50, start_ticks=50)
    tree.set_vmstat(pgalloc_normal=1, pgfault=1)
    vmstat = until_end(KernelFile(f"{tmp_path}/vmstat"))
    bound = GrowthBound(vmstat, PAGE_BYTES, families=families)
    bound.begin_scan()
    rows = {pid: read_row(fd, pid, PAGE_BYTES) for pid in (50, 1010)}
    for row in rows.values():
        assert row is not None
        row.keep(fd)
        row.rise = Rise(0)
        bound.leaders.append(row)
    bound.tell_apart(bound.leaders)
    assert [row.rise is not None and row.rise.apart for row in bound.leaders] == [True, False]
    pages = 2 * UNEXPLAINED_BYTES // PAGE_BYTES
    tree.change_process(1010, faults=pages)
    tree.set_vmstat(pgalloc_normal=10 * pages, pgfault=1 + 3 * pages)
    for row in bound.leaders:
        assert row.rise is not None
        bound.explain(row.rise, pages * PAGE_BYTES)
    bound.measure()
    assert bound.most_since_scan_bytes(0) == max(MIB, pages * PAGE_BYTES)
    tree.remove_process(1010)
    tree.change_process(10, reaped_faults=pages)
    bound.measure()
    assert bound.since_scan_bytes() == pages * PAGE_BYTES
    faulted = (pages + UNDER_WAY) * PAGE_BYTES
    assert bound.most_since_scan_bytes(0) == min(pages * PAGE_BYTES, MIB + faulted)
    for row in bound.leaders:
        row.drop()
    bound.close()
    vmstat.close()
    os.close(fd)


def test_the_parent_itself_may_be_the_largest(tmp_path: Path) -> None:
    """Its faults come off, so what it owns now counts, in swap too; and what it takes after it was read."""
    tree, families, fd = made(tmp_path, 1)
    tree.set_vmstat(pgalloc_normal=1, pgfault=1)
    vmstat = until_end(KernelFile(f"{tmp_path}/vmstat"))
    bound = GrowthBound(vmstat, PAGE_BYTES, families=families)
    bound.begin_scan()
    pages = 40 * MIB // PAGE_BYTES
    tree.change_process(10, rss_anon=40 * MIB, faults=pages)
    tree.set_vmstat(pgalloc_normal=1 + 3 * pages, pgfault=1 + pages)
    bound.measure()
    assert bound.most_since_scan_bytes(MIB) == 40 * MIB + UNDER_WAY * PAGE_BYTES
    tree.change_process(10, rss_anon=10 * MIB, swap=50 * MIB, faults=2 * pages)
    tree.set_vmstat(pgalloc_normal=1 + 3 * pages, pgfault=1 + 2 * pages)
    bound.swapped = True
    bound.measure()
    assert bound.most_since_scan_bytes(MIB) == 60 * MIB + UNDER_WAY * PAGE_BYTES
    bound.close()
    vmstat.close()
    os.close(fd)


def test_who_is_apart(tmp_path: Path) -> None:
    """Whoever was there at the scan, and is no kin of a parent that is known: neither a newcomer, whose parents nobody
    knows, nor a child that was found to be one since.
    """
    tree, families, fd = made(tmp_path, 1)
    bound = GrowthBound(None, PAGE_BYTES, families=families)  # nothing is explained where nothing is counted
    tree.add_process(20, start_ticks=20)
    tree.add_process(21, ppid=20, start_ticks=21)
    tree.add_process(901, ppid=20, start_ticks=900)
    for pid in (20, 21, 901, 1010):
        row = read_row(fd, pid, PAGE_BYTES)
        assert row is not None
        row.rise = Rise(0)
        bound.leaders.append(row)
    bound.tell_apart(bound.leaders)
    assert [row.pid for row in bound.leaders if row.rise is not None and row.rise.apart] == [20, 21]
    bound.find_family(901)
    assert [each.row.pid for each in families.known] == [10, 20]
    assert [row.pid for row in bound.leaders if row.rise is not None and row.rise.apart] == [20]
    bound.close()
    os.close(fd)

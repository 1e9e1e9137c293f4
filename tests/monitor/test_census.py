"""Everybody's size, on a fake procfs."""

from __future__ import annotations

import os
import subprocess
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from unittest.mock import patch

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from oomd.kernel.files import PAGE_BYTES
from oomd.kernel.pids import FIRST_SPAN, PidRange
from oomd.model.units import GIB, MIB
from oomd.monitor import census
from oomd.monitor.census import KTHREADD, LIKELY, PID_BITS, SizeReader, Sizes, read_rows
from tests.fakes.proc_tree import PF_KTHREAD, ProcTree

if TYPE_CHECKING:
    from collections.abc import Iterator


IN_MEMORY = "/dev/shm"
FEW = 6


@contextmanager
def reader(tree: ProcTree) -> Iterator[SizeReader]:
    """Of this tree."""
    proc_fd = os.open(tree.root, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield SizeReader(proc_fd, PAGE_BYTES)
    finally:
        os.close(proc_fd)


PIDS = st.integers(1, (1 << PID_BITS) - 1)


@given(st.dictionaries(PIDS, st.integers(1, 1 << 38), max_size=30))
def test_sizes_come_back_largest_first(owned: dict[int, int]) -> None:
    """Of equal ones the lower pid; up to a petabyte, and any pid that there can be."""
    sizes = Sizes(PAGE_BYTES)
    for pid, pages in owned.items():
        sizes.add(pid, pages * PAGE_BYTES)
    expected = sorted(((pid, pages * PAGE_BYTES) for pid, pages in owned.items()), key=lambda each: (-each[1], each[0]))
    with patch.object(census, "SOUGHT", 3):
        assert list(sizes.largest_first()) == expected
    assert list(sizes.largest_first()) == expected
    some = set(list(owned)[::2])
    assert sizes.of(some) == {pid: owned[pid] * PAGE_BYTES for pid in some}
    assert len(sizes) == len(owned)


def test_anonymous_memory_alone_and_swap_where_there_is_some(tmp_path: Path) -> None:
    """File and shared pages do not count; kernel threads, zombies and those that are skipped own nothing."""
    tree = ProcTree(tmp_path)
    tree.add_process(10, rss_anon=5 * MIB, rss_file=GIB, rss_shmem=GIB, swap=7 * MIB)
    tree.add_process(11, rss_anon=6 * MIB)
    tree.add_process(12, flags=PF_KTHREAD)
    tree.add_process(13, state="Z", rss_anon=GIB)
    tree.add_process(14, rss_anon=GIB)
    with reader(tree) as sizes:
        assert list(sizes.read({14}, swapped=False).largest_first()) == [(11, 6 * MIB), (10, 5 * MIB)]
        assert list(sizes.read({14}, swapped=True).largest_first()) == [(10, 12 * MIB), (11, 6 * MIB)]
        assert (sizes.read_one(10, swapped=False), sizes.read_one(10, swapped=True)) == (5 * MIB, 12 * MIB)
        assert (sizes.read_one(99, swapped=False), sizes.read_one(12, swapped=True)) == (None, 0)


def test_a_dead_main_thread_hides_no_memory(tmp_path: Path) -> None:
    """F15: statm is empty, the threads that live tell."""
    tree = ProcTree(tmp_path)
    tree.add_process(10, state="Z", threads=3, rss_anon=GIB)
    tree.add_process(11, rss_anon=MIB)
    with reader(tree) as sizes:
        for _ in range(2):
            assert list(sizes.read((), swapped=False).largest_first()) == [(10, GIB), (11, MIB)]


def test_kernel_threads_are_asked_once(tmp_path: Path) -> None:
    """Who they are is remembered as long as they show no memory; but of those that may yet execute a program."""
    tree = ProcTree(tmp_path)
    tree.add_process(10, flags=PF_KTHREAD, ppid=KTHREADD)
    tree.add_process(11, flags=PF_KTHREAD, ppid=10)
    with reader(tree) as sizes:
        sizes.read((), swapped=False)
        (tree.root / "10" / "stat").unlink()
        sizes.read((), swapped=False)
        assert sizes._kernel_threads == {10}
        tree.add_process(10, rss_anon=MIB)
        assert list(sizes.read((), swapped=False).largest_first()) == [(10, MIB)]
        assert sizes._kernel_threads == set()


def test_kernel_threads_are_not_asked_for_memory(tmp_path: Path) -> None:
    """Where one is sought: whoever has the pid of one that lasts is that one, until it is handed out anew."""
    tree = ProcTree(tmp_path)
    for pid, parent in ((10, KTHREADD), (11, KTHREADD), (12, 10)):
        tree.add_process(pid, flags=PF_KTHREAD, ppid=parent)
    with reader(tree) as sizes:
        before = sizes.read((), swapped=False)
        for pid in (10, 11, 12):
            tree.add_process(pid, rss_anon=pid * MIB)
        assert dict(seek_all(sizes, before)) == {12: 12 * MIB}
        sizes.forget(11)
        assert dict(seek_all(sizes, before)) == {11: 11 * MIB, 12: 12 * MIB}
        sizes.forget()  # any pid may have been handed out anew
        assert dict(seek_all(sizes, before)) == {pid: pid * MIB for pid in (10, 11, 12)}
        assert dict(sizes.read((), swapped=False).largest_first()) == {pid: pid * MIB for pid in (10, 11, 12)}


def seek_all(sizes: SizeReader, before: Sizes, skip: frozenset[int] = frozenset()) -> list[tuple[int, int]]:
    """Who is told, in order, where nobody is enough."""
    told: list[tuple[int, int]] = []

    def enough(pid: int, size: int) -> bool:
        told.append((pid, size))
        return False

    found = sizes.seek(before, range(0), skip, swapped=False, enough=enough)
    assert found.complete
    return told


@given(
    before=st.dictionaries(st.integers(10, 60), st.integers(0, 90), max_size=40),
    now=st.dictionaries(st.integers(10, 70), st.integers(2, 90), max_size=40),
    skip=st.frozensets(st.integers(10, 70), max_size=5),
)
@patch.object(census, "LIKELY", FEW)
@settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow])
def test_everybody_is_sought_once_whatever_was_known(
    before: dict[int, int], now: dict[int, int], skip: frozenset[int]
) -> None:
    """The order is a guess; whom it leaves out, or takes for somebody who is gone, is a matter of it alone."""
    with tempfile.TemporaryDirectory(dir=IN_MEMORY if os.path.isdir(IN_MEMORY) else None) as folder:
        tree = ProcTree(Path(folder))
        former = Sizes(PAGE_BYTES)
        for pid, mib in before.items():
            former.add(pid, mib * MIB)
        for pid, mib in now.items():
            tree.add_process(pid, rss_anon=mib * MIB)
        with reader(tree) as sizes:
            told = seek_all(sizes, former, skip)
    assert sorted(told) == sorted((pid, mib * MIB) for pid, mib in now.items() if pid not in skip)
    likely = former.likely()
    assert likely == sorted((pid for pid, mib in before.items() if mib), key=lambda pid: (-before[pid], pid))[:FEW]
    known = [pid for pid in likely if pid in now and pid not in skip]
    assert [pid for pid, _ in told[: len(known)]] == known


def test_known_rows_stay_the_same_objects(tmp_path: Path) -> None:
    """A process keeps its row with all that is known of it; another one under its pid gets its own."""
    tree = ProcTree(tmp_path)
    tree.add_process(10)
    tree.add_process(11)
    proc_fd = os.open(tree.root, os.O_RDONLY | os.O_DIRECTORY)
    try:
        before = read_rows(proc_fd, [10, 11, 99], {}, PAGE_BYTES)
        assert before.keys() == {10, 11}
        tree.change_process(11, start_ticks=9)
        after = read_rows(proc_fd, [10, 11], before, PAGE_BYTES)
        assert after[10] is before[10]
        assert after[11] is not before[11]
    finally:
        os.close(proc_fd)


def test_the_newest_alone_are_listed_at_first() -> None:
    """Where procfs can do that: whoever is sought among those born since, or among the largest, is found without a
    listing of everybody.
    """
    proc_fd = os.open("/proc", os.O_RDONLY | os.O_DIRECTORY)
    ranges = PidRange(proc_fd)
    sizes = SizeReader(proc_fd, PAGE_BYTES, ranges)
    before = sizes.read((), swapped=False)
    with subprocess.Popen(["sleep", "60"]) as child:
        born, likely, *others = sizes._likely_first(before, range(child.pid, child.pid + 1), set())
        child.kill()
    assert born == [child.pid]
    assert likely == [pid for pid, _ in before.largest_first()][:LIKELY]
    listed = [*born, *likely, *(pid for piece in others for pid in piece)]
    assert len(listed) == len({*listed})
    assert {1, os.getpid(), os.getppid()} <= {*listed}
    for below in (sizes._newest_pid, 0):
        pieces = [*sizes._newest_first(below)]
        listed = [pid for each in pieces for pid in each]
        assert listed == sorted(set(listed), reverse=True)
        assert {1, os.getpid(), os.getppid()} <= set(listed)
        oldest_of_first = (below or listed[0]) - FIRST_SPAN - 64  # others come and go meanwhile
        assert all(pid >= oldest_of_first for pid in pieces[0])  # nobody, where the newest was gone among a handful
    sizes.most = 3
    newest = [pid for piece in sizes._newest_first() for pid in piece]
    assert len(newest) == 3 or len(listed) < 4  # others come and go meanwhile
    assert newest == sorted(newest, reverse=True)
    assert min(newest) > 1 or len(listed) <= 4
    ranges.close()
    os.close(proc_fd)

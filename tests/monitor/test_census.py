"""Everybody's size, on a fake procfs."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from oomd.kernel.files import PAGE_BYTES
from oomd.model.units import GIB, MIB
from oomd.monitor.census import PID_BITS, SizeReader, Sizes, read_rows
from tests.fakes.proc_tree import PF_KTHREAD, ProcTree

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


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
    """Who they are is remembered as long as they show no memory."""
    tree = ProcTree(tmp_path)
    tree.add_process(10, flags=PF_KTHREAD)
    with reader(tree) as sizes:
        sizes.read((), swapped=False)
        (tree.root / "10" / "stat").unlink()
        sizes.read((), swapped=False)
        assert sizes._kernel_threads == {10}
        tree.add_process(10, rss_anon=MIB)
        assert list(sizes.read((), swapped=False).largest_first()) == [(10, MIB)]
        assert sizes._kernel_threads == set()


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

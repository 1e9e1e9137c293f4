"""Who descends from whom, and what they have faulted: on real processes."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from oomd.kernel.files import KernelFormatError
from oomd.kernel.kin import UnclearError, count_descendants, parse_faults
from tests.fakes.proc_tree import ProcTree
from tests.kinfolk import Kinfolk

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def folk() -> Iterator[Kinfolk]:
    with Kinfolk() as made:
        yield made


@pytest.fixture
def proc_fd() -> Iterator[int]:
    fd = os.open("/proc", os.O_RDONLY | os.O_DIRECTORY)
    yield fd
    os.close(fd)


def faults_of(proc_fd: int, pid: int) -> tuple[int, int]:
    """Its own and those it took over."""
    fd = os.open(f"{pid}/stat", os.O_RDONLY, dir_fd=proc_fd)
    try:
        own, reaped, _, _ = parse_faults(os.read(fd, 1024))
    finally:
        os.close(fd)
    return own, reaped


def test_faults_move_from_a_child_to_its_parent_when_it_waits(folk: Kinfolk, proc_fd: int) -> None:
    """Each page that is touched is one; the child's are the parent's once it was reaped, and not before."""
    child = folk.fork(folk.first)
    before, none = faults_of(proc_fd, child), faults_of(proc_fd, folk.first)[1]
    folk.touch(child, 1000)
    after = faults_of(proc_fd, child)
    assert 1000 <= after[0] - before[0] < 1200
    folk.end(child)
    assert faults_of(proc_fd, folk.first)[1] == none
    folk.wait(folk.first)
    assert faults_of(proc_fd, folk.first)[1] - none >= after[0]


def test_descendants_and_what_they_have_faulted(folk: Kinfolk, proc_fd: int) -> None:
    """Children, their children, and those whom these have reaped."""
    child = folk.fork(folk.first)
    grandchild, dead = folk.fork(child), folk.fork(child)
    folk.touch(dead, 500)
    folk.end(dead)
    folk.wait(child)
    other = folk.fork(folk.first)
    found = count_descendants(proc_fd, folk.first, 10)
    assert found.keys() == {child, grandchild, other}
    assert found[child] == sum(faults_of(proc_fd, child)) >= 500
    assert found[grandchild] == faults_of(proc_fd, grandchild)[0]


def test_one_that_has_ended_counts_until_it_was_reaped(folk: Kinfolk, proc_fd: int) -> None:
    """Its faults go to the parent then."""
    child = folk.fork(folk.first)
    folk.touch(child, 300)
    folk.end(child)
    assert count_descendants(proc_fd, folk.first, 10)[child] >= 300


def test_children_of_all_threads(folk: Kinfolk, proc_fd: int) -> None:
    """Each thread has children of its own."""
    one, other = folk.fork(folk.first), folk.fork_by_thread(folk.first)
    assert count_descendants(proc_fd, folk.first, 10).keys() == {one, other}


def test_too_many_are_unclear(folk: Kinfolk, proc_fd: int) -> None:
    """As many as are allowed are not."""
    for _ in range(3):
        folk.fork(folk.first)
    assert len(count_descendants(proc_fd, folk.first, 3)) == 3
    with pytest.raises(UnclearError):
        count_descendants(proc_fd, folk.first, 2)


def test_one_that_is_gone_is_unclear(tmp_path: Path) -> None:
    """So is a kernel that tells no children; and who was told and is not there has perhaps hidden another."""
    tree = ProcTree(tmp_path)
    tree.add_process(5)
    tree.add_process(6, ppid=5)
    fd = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    assert count_descendants(fd, 5, 9).keys() == {6}
    (tmp_path / "5/task/5/children").write_bytes(b"6 7 ")
    with pytest.raises(UnclearError):
        count_descendants(fd, 5, 9)
    (tmp_path / "5/task/5/children").unlink()
    with pytest.raises(UnclearError):
        count_descendants(fd, 5, 9)
    os.close(fd)


def test_who_ends_meanwhile_is_counted_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its children are somebody else's by then, perhaps of one who was asked already."""
    tree = ProcTree(tmp_path)
    for pid, parent in ((5, 1), (6, 5), (7, 6)):
        tree.add_process(pid, ppid=parent, faults=100 * pid)
    fd, reads, pread = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY), [0], os.pread

    def reading(*arguments: int) -> bytes:
        reads[0] += 1
        if reads[0] == 2:  # 5 was asked for its children; 6 will be
            tree.change_process(6, state="Z")
            tree.change_process(7, ppid=5)
        return pread(*arguments)

    monkeypatch.setattr(os, "pread", reading)
    assert count_descendants(fd, 5, 9) == {6: 600, 7: 700}
    assert reads[0] == 4 + 6
    os.close(fd)


@pytest.mark.parametrize("text", [b"", b"5 (x) S 1 2 3", b"5 (x) " + b"x " * 40])
def test_nonsense_is_refused(text: bytes) -> None:
    """With the file's name."""
    with pytest.raises(KernelFormatError):
        parse_faults(text)

"""Command lines and executables in the background; marks and owners of cgroups."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from oomd.kernel.files import PAGE_BYTES
from oomd.monitor.facts import MARKS_AGE_US, MOST_BYTES, FactsReader, MarkReader, read_all, read_cmdline, read_exe
from oomd.monitor.rows import Row, read_row
from tests.ends import stop_at_end, until_end
from tests.fakes.cgroup_tree import CgroupTree
from tests.fakes.proc_tree import ProcTree

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

BOTH = frozenset(("cmdline", "exe"))


@pytest.fixture
def proc_fd() -> int:
    """The real procfs."""
    return until_end(os.open("/proc", os.O_RDONLY | os.O_DIRECTORY))


@pytest.fixture
def sleeper() -> Iterator[int]:
    """A process of ours with words of its own; its pid."""
    code = "import time; print(1, flush=True); time.sleep(300)"
    with subprocess.Popen([sys.executable, "-c", code, "some", "wörds"], stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        yield child.pid
        child.kill()


def row_of(proc_fd: int, pid: int) -> Row:
    """Its row."""
    row = read_row(proc_fd, pid, PAGE_BYTES)
    assert row is not None
    return row


def collected(reader: FactsReader, row: Row) -> None:
    """Wait for the answer."""
    end = time.monotonic() + 90
    while row.read_as is None:
        assert time.monotonic() < end
        reader.collect({row.pid: row})
        os.sched_yield()


def test_a_real_process(proc_fd: int, sleeper: int) -> None:
    """Words with spaces between them; the executable's real path; nothing of who is gone."""
    assert read_cmdline(proc_fd, sleeper).endswith("time.sleep(300) some wörds")
    assert read_exe(proc_fd, sleeper) == os.path.realpath(sys.executable)
    assert (read_cmdline(proc_fd, 2**22 + 1), read_exe(proc_fd, 2**22 + 1)) == ("", "")


def test_read_in_the_background(proc_fd: int, sleeper: int) -> None:
    """Asked once, awaited until it came, asked again when the name is another."""
    row = row_of(proc_fd, sleeper)
    reader = FactsReader(proc_fd, MarkReader(""), BOTH)
    reader.ask([row])
    assert reader.awaits([row])
    reader.start()
    stop_at_end(reader)
    collected(reader, row)
    assert "some" in (row.cmdline or "")
    assert not reader.awaits([row])
    reader.ask([row])
    assert not reader._pending
    row.comm = "another"
    reader.ask([row])
    assert reader._pending == {row.id}
    assert not reader.awaits([row])


def test_nobody_asks_without_need(proc_fd: int, sleeper: int) -> None:
    """Where no preference wants it, nothing is read; of a condemned process never."""
    row = row_of(proc_fd, sleeper)
    reader = FactsReader(proc_fd, MarkReader(""), frozenset())
    reader.ask([row])
    assert not reader.awaits([row])
    reader.wanted = BOTH
    reader.condemn(row.id)
    reader.ask([row])
    assert not reader.awaits([row])


def test_marks_and_owners(tmp_path: Path) -> None:
    """From the tree, or from what stands for it; remembered for a moment; a cgroup that is not there has none."""
    CgroupTree(tmp_path).add_group("/a/b")
    reader = MarkReader(str(tmp_path))
    assert reader.read("/a/b", 0) == ((), os.getuid())
    assert reader.read("/nowhere", 0) == ((), None)
    try:
        os.setxattr(tmp_path / "a" / "b", "user.oomd_avoid", b"1")
    except OSError:
        pytest.skip("this file system knows no extended attributes")
    assert reader.read("/a/b", MARKS_AGE_US - 1) == ((), os.getuid())
    assert reader.read("/a/b", MARKS_AGE_US) == ((("user.oomd_avoid", "1"),), os.getuid())
    told = MarkReader(str(tmp_path), xattrs={"/a/b": {"user.oomd_omit": "1"}}, owners={"/a/b": 7})
    assert told.read("/a/b", 0) == ((("user.oomd_omit", "1"),), 7)
    assert MarkReader("").read("/a/b", 0) == ((), None)


def test_marks_of_whoever_is_to_die_are_compared(proc_fd: int, sleeper: int, tmp_path: Path) -> None:
    """What is remembered counts only as long as it is so; once it is not, the next reading is a fresh one."""
    tree = CgroupTree(tmp_path)
    row, other = row_of(proc_fd, sleeper), row_of(proc_fd, sleeper)
    row.cgroup, other.cgroup = "/a/b", "/c"
    for each in (row, other):
        tree.add_group(each.cgroup)
    reader = FactsReader(proc_fd, MarkReader(str(tmp_path)), frozenset())
    reader.note_marks([row, other], 0)
    assert not reader.marks_changed([row])
    try:
        for each in (row, other):
            os.setxattr(f"{tmp_path}{each.cgroup}", "user.oomd_omit", b"1")
    except OSError:
        pytest.skip("this file system knows no extended attributes")
    reader.note_marks([row, other], 1)
    assert not row.marks
    assert reader.marks_changed([row])
    reader.note_marks([row, other], 1)
    assert [*row.marks, *other.marks] == [("user.oomd_omit", "1")] * 2
    assert not reader.marks_changed([row])


def test_hybrid_hosts(tmp_path: Path) -> None:
    """Where version 1 is mounted at the usual place, version 2 is beside it."""
    CgroupTree(tmp_path / "unified").add_group("/a")
    assert MarkReader(str(tmp_path)).read("/a", 0)[1] == os.getuid()


def test_everything_at_once(tmp_path: Path) -> None:
    """Commands read all rows; an endless command line is cut."""
    tree = ProcTree(tmp_path)
    tree.add_process(7, cmdline=("x" * 10_000,), cgroup="/a")
    fd = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    row = row_of(fd, 7)
    read_all(fd, [row], MarkReader("", xattrs={"/a": {"user.oomd_avoid": "1"}}, owners={"/a": 0}), 0, BOTH)
    os.close(fd)
    assert row.cmdline == "x" * MOST_BYTES
    assert (row.exe, row.marks, row.cgroup_uid) == ("", (("user.oomd_avoid", "1"),), 0)
    value = row.value(0)
    assert (value.cmdline, value.marks, value.cgroup_uid) == (row.cmdline, row.marks, 0)

"""Cgroups as values."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from oomd.kernel.cgroup_files import NO_LIMIT, parse_memory_stat
from oomd.model.snapshot import Cgroup, DeviceIo
from oomd.monitor import cgroups
from oomd.monitor.cgroups import EVERYTHING, CgroupReader
from tests.fakes.cgroup_tree import CgroupTree

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def tree(tmp_path: Path) -> CgroupTree:
    """Two services in a slice, a user's session beside them."""
    tree = CgroupTree(tmp_path / "cgroup")
    tree.add_group("/system.slice/web.service", anon=300, file=50, swap=20, pids=(7, 8), averages=(12.5, 3.0, 1.0))
    tree.add_group("/system.slice/db.service", anon=900, low=100, high=2000, oom_group=True, io="8:0 rbytes=4 rios=1\n")
    tree.add_group("/user.slice/a/b", populated=False)
    return tree


@pytest.fixture
def reader(tree: CgroupTree) -> Iterator[CgroupReader]:
    """The real reader on that tree."""
    reader = CgroupReader(str(tree.root))
    yield reader
    reader.close()


def one(reader: CgroupReader, path: str, files: frozenset[str] = EVERYTHING, **options: bool) -> Cgroup:
    """The only cgroup that fits."""
    (cgroup,) = reader.read((path,), 5, files, **options)
    return cgroup


def test_every_file_becomes_its_field(reader: CgroupReader) -> None:
    """What the tree says is what the value says."""
    web = one(reader, "/system.slice/web.service")
    assert (web.current_bytes, web.anon_bytes, web.file_bytes, web.swap_bytes, web.pids) == (350, 300, 50, 20, 2)
    assert web.memory_pressure is not None
    assert web.memory_pressure.some.avg10 == 0.125
    assert (web.max_bytes, web.oom_group, web.populated, web.time_us) == (None, False, True, 5)
    database = one(reader, "/system.slice/db.service")
    assert (database.low_bytes, database.high_bytes, database.oom_group) == (100, 2000, True)
    assert database.io == (DeviceIo("8:0", read_bytes=4, reads=1),)
    assert not one(reader, "/user.slice/a/b").populated


def test_root_has_few_files(reader: CgroupReader) -> None:
    """What the root lacks is None."""
    root = one(reader, "/")
    assert (root.current_bytes, root.max_bytes, root.dying_descendants, root.parent) == (None, None, 0, "")
    assert root.holds("/anything")


def test_patterns(reader: CgroupReader) -> None:
    """Globs stay within one level, ``**`` goes through all, and nothing leads out of the hierarchy."""
    assert reader.find(["/system.slice/*"]) == ("/system.slice/db.service", "/system.slice/web.service")
    assert reader.find(["/*"]) == ("/system.slice", "/user.slice")
    assert reader.find(["/user.slice/**"]) == ("/user.slice", "/user.slice/a", "/user.slice/a/b")
    assert reader.find(["/**/*.service", "/system.slice/w?b*"]) == (
        "/system.slice/db.service",
        "/system.slice/web.service",
    )
    assert reader.find(["/nowhere", "/nowhere/*", "/../x", "/system.slice/.."]) == ()


def test_only_what_is_asked_for_is_read(reader: CgroupReader) -> None:
    """One file asked for, one read: the other fields stay unknown."""
    web = one(reader, "/system.slice/web.service", frozenset({"memory.current"}))
    assert (web.current_bytes, web.anon_bytes, web.memory_pressure) == (350, None, None)


@pytest.mark.parametrize("keep", [True, False])
def test_changes_are_seen(tree: CgroupTree, reader: CgroupReader, keep: bool) -> None:
    """Kept open or not, the next look shows what the files say then, and the removed are gone."""
    path = "/system.slice/web.service"
    assert one(reader, path, keep=keep).current_bytes == 350
    tree.change_group(path, anon=1000)
    assert one(reader, path, keep=keep).current_bytes == 1050
    tree.remove_group(path)
    assert reader.read((path,), 6, keep=keep) == ()


def test_cgroup_made_anew_is_another_one(tree: CgroupTree, reader: CgroupReader) -> None:
    """The same path, another directory: another inode, and its own values."""
    path = "/system.slice/web.service"
    before = one(reader, path, keep=True)
    os.rename(tree.root / "system.slice/web.service", tree.root / "system.slice/old")
    tree.add_group(path, anon=1)
    after = one(reader, path, keep=True)
    assert after.inode != before.inode
    assert (before.anon_bytes, after.anon_bytes) == (300, 1)


def test_what_is_missing_or_odd_is_unknown(tree: CgroupTree, reader: CgroupReader) -> None:
    """A kernel without swap accounting, and a file that nobody understands: None, the rest is read."""
    path = "/system.slice/web.service"
    tree.without_swap_accounting(path)
    (tree.root / "system.slice/web.service/memory.max").write_text("a lot\n")
    (tree.root / "system.slice/web.service/memory.low").write_text("max\n")
    web = one(reader, path)
    assert (web.swap_bytes, web.max_bytes, web.low_bytes, web.anon_bytes) == (None, None, NO_LIMIT, 300)


def test_marks_and_owners_of_a_recorded_tree(tree: CgroupTree) -> None:
    """What a recording could not keep in files is given beside it."""
    path = "/system.slice/web.service"
    reader = CgroupReader(str(tree.root), xattrs={path: {"user.oomd_avoid": "1"}}, owners={path: 1000})
    web = one(reader, path)
    assert (web.xattrs, web.owner_uid) == ((("user.oomd_avoid", "1"),), 1000)
    assert one(reader, "/user.slice").owner_uid == os.getuid()
    reader.close()


def test_processes_of_a_cgroup(reader: CgroupReader) -> None:
    """cgroup.procs, and nobody where there is no such cgroup."""
    assert reader.read_pids("/system.slice/web.service") == (7, 8)
    assert reader.read_pids("/nowhere") == ()


def test_members_of_a_cgroup_and_of_those_below(tree: CgroupTree, reader: CgroupReader) -> None:
    """All the way down, also below a name that looks like a pattern; None where nobody can tell."""
    odd = tree.root / "system.slice/web.service/a[b]*"
    odd.mkdir()
    (odd / "cgroup.procs").write_text("9\n")
    below = odd / "c"
    below.mkdir()
    (below / "cgroup.procs").write_text("10\n")
    assert reader.members("/system.slice/web.service") == frozenset({7, 8, 9, 10})
    assert reader.members("/system.slice/web.service/a[b]*") == frozenset({9, 10})
    assert reader.members("/nowhere") is None


def test_names_that_are_no_text(tree: CgroupTree, reader: CgroupReader) -> None:
    """A cgroup may be called anything: its bytes are shown, found and read."""
    os.mkdir(os.fsencode(tree.root) + b"/user.slice/\xff")
    (found,) = reader.read(("/user.slice/?xff", "/user.slice/*f"), 1)
    assert found.path == "/user.slice/\\xff"


def test_a_text_is_parsed_once(tree: CgroupTree, reader: CgroupReader, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is looked at again and again and has not changed costs its read alone; one that nobody understands too."""
    path, parsed = "/system.slice/web.service", list[bytes]()

    def parse(data: bytes) -> dict[str, int]:
        parsed.append(data)
        return parse_memory_stat(data)

    monkeypatch.setitem(cgroups.FILES, "memory.stat", parse)
    assert {one(reader, path, keep=True).anon_bytes for _ in range(3)} == {300}
    assert len(parsed) == 1
    (tree.root / "system.slice/web.service/memory.stat").write_text("anon many\n")
    assert {one(reader, path, keep=True).anon_bytes for _ in range(3)} == {None}
    assert len(parsed) == 2
    tree.change_group(path, anon=1000)
    assert one(reader, path, keep=True).anon_bytes == 1000

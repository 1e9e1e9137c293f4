"""One cgroup held open, on trees of plain files with the kernel's names, and on a real one where there is one."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from oomd.kernel.cgroup_dir import CgroupDirectory
from tests.descriptors import open_descriptors, opened_since
from tests.fakes.cgroup_tree import CgroupTree
from tests.reap.levers import control_group, find_mount

if TYPE_CHECKING:
    from pathlib import Path


def test_members_of_it_and_below(tmp_path: Path) -> None:
    """Processes of the whole subtree and of nobody beside it; many of them come in more than one read."""
    tree = CgroupTree(tmp_path)
    many = tuple(range(1000, 21000))
    tree.add_group("/a", pids=(5,))
    tree.add_group("/a/b/c", pids=many)
    tree.add_group("/beside", pids=(7,))
    with CgroupDirectory(str(tmp_path / "a")) as cgroup:
        assert sorted(cgroup.read_members()) == [5, *many]


def test_values(tmp_path: Path) -> None:
    """Reads and writes go beneath the descriptor; what is wrong shows at once."""
    CgroupTree(tmp_path).add_group("/a", high=4096)
    with CgroupDirectory(str(tmp_path / "a")) as cgroup:
        assert cgroup.read("memory.high") == "4096"
        cgroup.write("memory.high", "8192")
        assert cgroup.read("memory.high") == "8192"
        assert cgroup.has("memory.high")
        assert not cgroup.has("memory.reclaim")
        with pytest.raises(FileNotFoundError):
            cgroup.write("memory.reclaim", "1")
        with pytest.raises(FileNotFoundError):
            cgroup.read("memory.reclaim")


def test_another_of_the_same_name(tmp_path: Path) -> None:
    """A path that means another cgroup now is refused; one that is open goes on meaning the first."""
    tree = CgroupTree(tmp_path)
    tree.add_group("/a", pids=(5,))
    before = open_descriptors()
    with CgroupDirectory(str(tmp_path / "a")) as cgroup:
        (tmp_path / "a").rename(tmp_path / "moved")
        tree.add_group("/a", pids=(6,))
        assert cgroup.read_members() == [5]
        with pytest.raises(FileNotFoundError, match="another one"):
            CgroupDirectory(str(tmp_path / "a"), cgroup.inode)
    assert opened_since(before) == []


def test_no_cgroup(tmp_path: Path) -> None:
    """Neither a missing directory nor a link to one."""
    with pytest.raises(FileNotFoundError):
        CgroupDirectory(str(tmp_path / "none"))
    (tmp_path / "link").symlink_to(tmp_path)
    with pytest.raises(OSError, match="link"):
        CgroupDirectory(str(tmp_path / "link"))


@pytest.mark.integration
def test_real_one() -> None:
    """A child of ours in a real cgroup is its member; once the cgroup is gone, so is what it said."""
    mount = find_mount("freezer", 2)
    if mount is None or not os.access(mount.point, os.W_OK):
        pytest.skip("no cgroups of version 2 that we may make")
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    with child, control_group(mount) as group:
        (group / "cgroup.procs").write_text(str(child.pid), "ascii")
        cgroup = CgroupDirectory(str(group))
        assert cgroup.read_members() == [child.pid]
        assert cgroup.read("cgroup.freeze") == "0"
        child.communicate(b"\n")
        assert cgroup.read_members() == []
    with cgroup, pytest.raises(OSError, match=r"No such (device|file)"):
        cgroup.read("cgroup.freeze")

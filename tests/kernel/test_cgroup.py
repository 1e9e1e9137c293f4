"""Memory of cgroups."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oomd.kernel.cgroup import (
    CgroupError,
    CgroupMemory,
    find_cgroup2_mount,
    find_v1_memory_mount,
    open_cgroup_memory,
)
from oomd.kernel.files import KernelFormatError
from oomd.kernel.process import parse_cgroup
from tests.fakes.cgroup_tree import CgroupTree
from tests.kernel.arbitrary import captured, mangled

if TYPE_CHECKING:
    from collections.abc import Iterator

MIB = 1024 * 1024
GIB = 1024 * MIB


@contextlib.contextmanager
def opened(path: str, root: Path, mountinfo: bytes = b"") -> Iterator[CgroupMemory]:
    """The memory of a cgroup, closed at the end."""
    memory = open_cgroup_memory(path, root=str(root), mountinfo=mountinfo)
    try:
        yield memory
    finally:
        memory.close()


def test_captured_mountinfo() -> None:
    """On a hybrid host both hierarchies are found."""
    assert find_cgroup2_mount(captured("mountinfo_hybrid")) == "/sys/fs/cgroup/unified"
    assert find_v1_memory_mount(captured("mountinfo_hybrid")) == "/sys/fs/cgroup/memory"


def test_unified_mountinfo() -> None:
    """On a v2 host there is one hierarchy; a bind mount of a part of it does not come before the whole."""
    part = b"50 23 0:26 /user.slice /srv/jail/cgroup rw shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"
    whole = b"31 23 0:26 / /sys/fs/c\\040group rw,nosuid shared:4 master:1 - cgroup2 cgroup2 rw,nsdelegate\n"
    assert find_cgroup2_mount(part + whole) == "/sys/fs/c group"
    assert find_cgroup2_mount(part) == "/srv/jail/cgroup"
    assert find_v1_memory_mount(part + whole) is None


@given(mangled("mountinfo_hybrid"))
def test_arbitrary_mountinfo(data: bytes) -> None:
    """F19: anything gives a path or None."""
    assert isinstance(find_cgroup2_mount(data), str | None)
    assert isinstance(find_v1_memory_mount(data), str | None)


@pytest.mark.parametrize("version", [1, 2])
def test_usage(tmp_path: Path, version: int) -> None:
    """Usage is anonymous memory, shmem and swap, never file cache, and is fresh at every read."""
    tree = CgroupTree(tmp_path, version=version)
    tree.add_group("/app", anon=300 * MIB, shmem=20 * MIB, swap=7 * MIB, file=900 * MIB)
    with opened("/app", tmp_path) as memory:
        assert memory.version == version
        assert memory.read_usage_bytes() == 327 * MIB
        tree.change_group("/app", anon=GIB)
        assert memory.read_usage_bytes() == GIB + 27 * MIB


def test_usage_without_swap_accounting(tmp_path: Path) -> None:
    """A kernel that does not count swap per cgroup leaves it out."""
    tree = CgroupTree(tmp_path)
    tree.add_group("/app", anon=MIB, swap=MIB)
    tree.without_swap_accounting("/app")
    with opened("/app", tmp_path) as memory:
        assert memory.read_usage_bytes() == MIB


@pytest.mark.parametrize("version", [1, 2])
def test_lowest_limit_of_the_ancestors(tmp_path: Path, version: int) -> None:
    """The limit that holds is the lowest on the way up, whoever has it; none is None."""
    tree = CgroupTree(tmp_path, version=version)
    tree.add_group("/a/b/c")
    with opened("/a/b/c", tmp_path) as memory:
        assert memory.read_limit_bytes() is None
        tree.change_group("/a", limit=2 * GIB)
        assert memory.read_limit_bytes() == 2 * GIB
        tree.change_group("/a/b/c", limit=3 * GIB)
        assert memory.read_limit_bytes() == 2 * GIB
        tree.change_group("/a/b", limit=GIB)
        assert memory.read_limit_bytes() == GIB


def test_root_cgroup(tmp_path: Path) -> None:
    """The root has no limit and no memory.current, but its memory is counted."""
    tree = CgroupTree(tmp_path)
    tree.change_group("/", anon=5 * MIB, shmem=MIB)
    with opened("/", tmp_path) as memory:
        assert (memory.read_usage_bytes(), memory.read_limit_bytes()) == (6 * MIB, None)


def test_hybrid_tree(tmp_path: Path) -> None:
    """Where v2 does not account memory the v1 hierarchy beside it is read."""
    (tmp_path / "unified" / "app").mkdir(parents=True)
    (tmp_path / "unified" / "app" / "cgroup.controllers").write_text("\n")
    CgroupTree(tmp_path / "memory", version=1).add_group("/app", anon=MIB, limit=GIB)
    with opened("/app", tmp_path) as memory:
        assert (memory.version, memory.read_usage_bytes(), memory.read_limit_bytes()) == (1, MIB, GIB)


def test_container_without_cgroup_namespace(tmp_path: Path) -> None:
    """A container that sees its own cgroup as the top of the mount, but its path from outside, is found by
    mountinfo.
    """
    CgroupTree(tmp_path, version=1).change_group("/", anon=MIB, limit=GIB)
    line = f"35 31 0:32 /docker/4711 {tmp_path} ro,relatime master:11 - cgroup cgroup rw,memory\n".encode()
    with opened("/docker/4711", Path("/nowhere"), line) as memory:
        assert (memory.read_usage_bytes(), memory.read_limit_bytes()) == (MIB, GIB)


@pytest.mark.parametrize("path", ["/absent", "app", "", "/../etc", "/app/.."])
def test_no_such_cgroup(tmp_path: Path, path: str) -> None:
    """A path that is no cgroup of the tree is an error that says which; nothing outside of the tree is read."""
    CgroupTree(tmp_path).add_group("/app")
    with pytest.raises(CgroupError, match="cgroup"):
        open_cgroup_memory(path, root=str(tmp_path))


def test_memory_controller_is_off(tmp_path: Path) -> None:
    """A v2 cgroup without the memory controller is an error, not a usage of nothing."""
    CgroupTree(tmp_path).add_group("/app")
    (tmp_path / "app" / "memory.stat").unlink()
    with pytest.raises(CgroupError, match="/app"):
        open_cgroup_memory("/app", root=str(tmp_path))


def test_malformed_files(tmp_path: Path) -> None:
    """F19: files that are not the kernel's give KernelFormatError."""
    tree = CgroupTree(tmp_path)
    tree.add_group("/app", limit=GIB)
    with opened("/app", tmp_path) as memory:
        (tmp_path / "app" / "memory.stat").write_text("anon\n")
        with pytest.raises(KernelFormatError, match=r"memory\.stat: anon"):
            memory.read_usage_bytes()
        (tmp_path / "app" / "memory.max").write_text("much\n")
        with pytest.raises(KernelFormatError, match=r"memory\.max"):
            memory.read_limit_bytes()


@given(name=st.text(st.characters(exclude_characters="/.\0\n", exclude_categories=["Cs"]), min_size=1, max_size=40))
def test_any_name(tmp_path_factory: pytest.TempPathFactory, name: str) -> None:
    """A cgroup may be called anything that is text (but the name of a file that stands beside it)."""
    root = tmp_path_factory.mktemp("names")
    path = f"/{name}"
    CgroupTree(root).add_group(path, anon=MIB, limit=GIB)
    with opened(path, root) as memory:
        assert (memory.read_usage_bytes(), memory.read_limit_bytes()) == (MIB, GIB)


def test_captured_v1_stat(tmp_path: Path) -> None:
    """The real memory.stat of v1: usage is of the whole subtree, and its way of saying "no limit" is None."""
    (tmp_path / "memory.stat").write_bytes(captured("memory_stat_v1"))
    lines = dict(line.split() for line in captured("memory_stat_v1").splitlines())
    memory = CgroupMemory(str(tmp_path), str(tmp_path), 1)
    try:
        assert memory.read_usage_bytes() == int(lines[b"total_rss"]) + int(lines[b"total_shmem"])
        assert memory.read_limit_bytes() is None
    finally:
        memory.close()


def test_this_machine() -> None:
    """Our own cgroup is found by the real mountinfo; where none is mounted, the error says which was looked for."""
    path = parse_cgroup(Path("/proc/self/cgroup").read_bytes())
    mountinfo = Path("/proc/self/mountinfo").read_bytes()
    point = find_v1_memory_mount(mountinfo) or find_cgroup2_mount(mountinfo)
    if point is None:
        with pytest.raises(CgroupError, match=path):
            open_cgroup_memory(path, mountinfo=mountinfo)
        return
    memory = open_cgroup_memory(path, mountinfo=mountinfo)
    assert memory.directory.startswith(point)
    assert memory.read_usage_bytes() >= 0
    assert (memory.read_limit_bytes() or 1) > 0
    memory.close()

"""What hinders a process in its cgroups: parsers on arbitrary bytes, readers on trees with the kernel's file names."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from oomd.kernel.cgroup_levers import (
    Lever,
    LeverMount,
    find_levers,
    parse_lever_mounts,
    parse_memberships,
    read_members,
    read_value,
    write_value,
)

MOUNTS = (
    b"29 25 0:26 / /sys/fs/cgroup/unified rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n"
    b"33 25 0:30 / /sys/fs/cgroup/cpu,cpuacct rw shared:13 - cgroup cgroup rw,cpu,cpuacct\n"
    b"34 25 0:31 /box /sys/fs/cgroup/free\\040zer rw - cgroup cgroup rw,freezer\n"
    b"35 25 0:32 / /sys/fs/cgroup/memory rw shared:15 - cgroup cgroup rw,memory\n"
    b"36 25 0:33 / /proc rw - proc proc rw\n"
)


def tree(folder: Path, files: dict[str, str]) -> None:
    """These files, with the folders that they need."""
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def v2(folder: Path, root: str = "/") -> tuple[LeverMount, ...]:
    """A unified hierarchy there."""
    return (LeverMount(str(folder), root, frozenset({"freezer", "cpu", "cpuset"}), 2),)


def v1(folder: Path, kind: str) -> tuple[LeverMount, ...]:
    """One controller's hierarchy there."""
    return (LeverMount(str(folder), "/", frozenset({kind}), 1),)


def test_mounts() -> None:
    """Both versions, escaped names and bind mounts of a part; what has no lever and what is no cgroup is left out."""
    assert [(each.point, each.root, sorted(each.controllers), each.version) for each in parse_lever_mounts(MOUNTS)] == [
        ("/sys/fs/cgroup/unified", "/", ["cpu", "cpuset", "freezer"], 2),
        ("/sys/fs/cgroup/cpu,cpuacct", "/", ["cpu"], 1),
        ("/sys/fs/cgroup/free zer", "/box", ["freezer"], 1),
    ]


def test_memberships() -> None:
    """Co-mounted controllers, named hierarchies, colons in a path and a removed cgroup."""
    data = b"4:cpu,cpuacct:/a:b\n1:name=systemd:/x\n0::/gone (deleted)\nnonsense\n"
    assert parse_memberships(data) == (
        (frozenset({"cpu", "cpuacct"}), "/a:b"),
        (frozenset({"name=systemd"}), "/x"),
        (frozenset(), "/gone"),
    )


@given(data=st.binary(max_size=300))
def test_arbitrary_bytes(data: bytes) -> None:
    """No parser fails, whatever a file says."""
    find_levers(data, parse_lever_mounts(data))
    parse_memberships(data)


def test_limits_of_all_ancestors(tmp_path: Path) -> None:
    """Version 2: a CPU limit of any ancestor hinders, "max" does not; a frozen cgroup lets SIGKILL through."""
    tree(
        tmp_path,
        {
            "a/cpu.max": "1000 100000\n",
            "a/b/cpu.max": "max 100000\n",
            "a/b/cgroup.freeze": "1\n",
            "a/b/c/cpu.max": "5000 100000\n",
        },
    )
    levers = find_levers(b"0::/a/b/c\n", v2(tmp_path))
    assert [(each.directory, each.found, each.free) for each in levers] == [
        (f"{tmp_path}/a/b/c", "5000 100000", "max"),
        (f"{tmp_path}/a", "1000 100000", "max"),
    ]
    assert levers[0].path == f"{tmp_path}/a/b/c/cpu.max"


def test_cpu_set(tmp_path: Path) -> None:
    """Version 2: only a CPU set that is smaller than its parent's hinders; an empty one inherits."""
    tree(
        tmp_path,
        {
            "cpuset.cpus.effective": "0-3\n",
            "narrow/cpuset.cpus": "1\n",
            "narrow/cpuset.cpus.effective": "1\n",
            "wide/cpuset.cpus": "0-3\n",
            "wide/cpuset.cpus.effective": "0-3\n",
            "empty/cpuset.cpus": "\n",
            "empty/cpuset.cpus.effective": "0-3\n",
        },
    )
    mounts = v2(tmp_path)
    assert find_levers(b"0::/narrow\n", mounts) == (
        Lever("cpuset", f"{tmp_path}/narrow", "cpuset.cpus", "1", "0-3", 2),
    )
    assert find_levers(b"0::/wide\n", mounts) == find_levers(b"0::/empty\n", mounts) == ()


def test_cpu_set_of_version_1(tmp_path: Path) -> None:
    """The same by what was asked for, beside another controller of the hierarchy; one that is as wide as its parent's
    does not hinder, a smaller one above does, and what has no such file has none.
    """
    tree(
        tmp_path,
        {
            "cpuset.cpus": "0-3\n",
            "box/cpuset.cpus": "2-3\n",
            "box/inner/cpuset.cpus": "2-3\n",
            "wide/cpuset.cpus": "0-3\n",
            "bare/cgroup.procs": "",
        },
    )
    mounts = v1(tmp_path, "cpuset")
    lever = Lever("cpuset", f"{tmp_path}/box", "cpuset.cpus", "2-3", "0-3", 1)
    assert find_levers(b"5:cpuset,net_cls:/box/inner\n", mounts) == find_levers(b"5:cpuset:/box\n", mounts) == (lever,)
    assert find_levers(b"5:cpuset:/wide\n", mounts) == find_levers(b"5:cpuset:/bare\n", mounts) == ()
    assert find_levers(b"5:cpuset:/\n", mounts) == ()


def test_version_1(tmp_path: Path) -> None:
    """Version 1: the cgroup that froze itself is the lever, not one frozen by its parent; -1 is no CPU limit."""
    tree(tmp_path, {"up/freezer.self_freezing": "1\n", "up/down/freezer.self_freezing": "0\n"})
    assert find_levers(b"7:freezer:/up/down\n", v1(tmp_path, "freezer")) == (
        Lever("freezer", f"{tmp_path}/up", "freezer.state", "FROZEN", "THAWED", 1),
    )
    tree(tmp_path, {"cpu/cpu.cfs_quota_us": "-1\n", "cpu/slow/cpu.cfs_quota_us": "1000\n"})
    assert find_levers(b"3:cpu,cpuacct:/slow\n", v1(tmp_path / "cpu", "cpu")) == (
        Lever("cpu", f"{tmp_path}/cpu/slow", "cpu.cfs_quota_us", "1000", "-1", 1),
    )


def test_what_is_not_ours_to_see(tmp_path: Path) -> None:
    """A path beyond the cgroup namespace, or outside of what is mounted, has no levers here."""
    tree(tmp_path, {"x/cpu.max": "1000 100000\n", "cpu.max": "1000 100000\n"})
    assert find_levers(b"0::/../x\n", v2(tmp_path)) == ()
    assert find_levers(b"0::/other/x\n", v2(tmp_path, root="/pod")) == ()
    (lever,) = find_levers(b"0::/pod/x\n", v2(tmp_path, root="/pod"))
    assert lever.directory == f"{tmp_path}/x"


def test_members_and_values(tmp_path: Path) -> None:
    """All processes of a subtree; absence is a value, and a write says at once what is wrong."""
    tree(tmp_path, {"cgroup.procs": "1\n2\n", "a/cgroup.procs": "", "a/b/cgroup.procs": "30\n", "file": "12"})
    assert sorted(read_members(str(tmp_path))) == [1, 2, 30]
    assert read_value(f"{tmp_path}/file") == "12"
    assert read_value(f"{tmp_path}/nothing") is None
    write_value(f"{tmp_path}/file", "13")
    assert read_value(f"{tmp_path}/file") == "13"
    for act in (lambda: read_members(f"{tmp_path}/nothing"), lambda: write_value(f"{tmp_path}/nothing", "1")):
        try:
            act()
        except FileNotFoundError:
            continue
        raise AssertionError

"""What a cgroup does to the speed at which its processes can die: its freezer, its CPU limit, its CPU set; read and
written. Documentation/admin-guide/cgroup-v2.rst; cgroup-v1/freezer-subsystem.rst, cgroup-v1/cpusets.rst;
scheduler/sched-bwc.rst.
"""

from __future__ import annotations

import os

from oomd.kernel.cgroup_namespace import absolute_path
from oomd.kernel.files import unescape_octal
from oomd.model.values import dataclass

CONTROLLERS = ("freezer", "cpu", "cpuset")
"""The controllers that can keep a dying process from running."""


@dataclass(frozen=True, slots=True)
class LeverMount:
    """A mounted cgroup hierarchy with at least one of the controllers."""

    point: str
    root: str
    """Which cgroup is visible at ``point``."""
    controllers: frozenset[str]
    version: int


@dataclass(frozen=True, slots=True)
class Lever:
    """One file of one cgroup that hinders, and what it must say to hinder no more."""

    kind: str
    """``freezer``, ``cpu`` or ``cpuset``."""
    directory: str
    file: str
    found: str
    """What it says now."""
    free: str
    """What lifts the hindrance."""
    version: int
    """Of the hierarchy."""

    @property
    def path(self) -> str:
        """Of the file."""
        return f"{self.directory}/{self.file}"


def parse_lever_mounts(mountinfo: bytes) -> tuple[LeverMount, ...]:
    """The hierarchies of /proc/self/mountinfo that hold a freezer, CPU limits or CPU sets; proc_pid_mountinfo(5)."""
    mounts = []
    for line in mountinfo.split(b"\n"):
        fields, _, rest = line.partition(b" - ")
        places, kinds = fields.split(b" "), rest.split(b" ")
        if len(places) < 5 or len(kinds) < 3 or kinds[0] not in (b"cgroup", b"cgroup2"):
            continue
        root, point = (os.fsdecode(unescape_octal(place)) for place in places[3:5])
        if kinds[0] == b"cgroup2":
            mounts.append(LeverMount(point, absolute_path(root), frozenset(CONTROLLERS), 2))
        elif found := frozenset(CONTROLLERS) & {os.fsdecode(option) for option in kinds[2].split(b",")}:
            mounts.append(LeverMount(point, root, found, 1))
    return tuple(mounts)


def parse_memberships(data: bytes) -> tuple[tuple[frozenset[str], str], ...]:
    """(controllers, path) of each line of /proc/PID/cgroup; version 2 has no controllers. proc_pid_cgroup(5)."""
    found = []
    for line in data.split(b"\n"):
        parts = line.split(b":", 2)
        if len(parts) == 3:
            names = frozenset(os.fsdecode(name) for name in parts[1].split(b",") if name)
            path = os.fsdecode(parts[2]).removesuffix(" (deleted)")
            found.append((names, path if names else absolute_path(path)))
    return tuple(found)


def find_levers(data: bytes, mounts: tuple[LeverMount, ...]) -> tuple[Lever, ...]:
    """What hinders a process with this /proc/PID/cgroup: in its own cgroups and in all of their ancestors."""
    levers: list[Lever] = []
    for controllers, path in parse_memberships(data):
        for mount in mounts:
            if (mount.version == 2) != (not controllers) or (controllers and not controllers & mount.controllers):
                continue
            for directory in _upwards(mount, path):
                levers += [lever for kind in CONTROLLERS if (lever := _read_lever(kind, directory, mount)) is not None]
    return tuple(levers)


def read_members(directory: str) -> list[int]:
    """The processes of a cgroup and of all below it. Raises OSError when it cannot be told."""
    members: list[int] = []
    for folder, _, files in os.walk(directory, onerror=_raise):
        if "cgroup.procs" in files:
            with open(f"{folder}/cgroup.procs", "rb") as file:
                members += [int(line) for line in file.read().split()]
    return members


def write_value(path: str, value: str) -> None:
    """One write, whose error shows at once. Raises OSError."""
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, value.encode())
    finally:
        os.close(fd)


def read_value(path: str) -> str | None:
    """The text of a small file; None where there is none, or it may not be read."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        return os.read(fd, 4096).decode("ascii", "replace").strip()
    except OSError:
        return None
    finally:
        os.close(fd)


def _upwards(mount: LeverMount, path: str) -> list[str]:
    """The cgroup's directory and those of its ancestors, without the hierarchy's root, which limits nothing."""
    top = mount.root.rstrip("/")
    if top and path != top and not path.startswith(top + "/"):
        return []
    parts = [part for part in path[len(top) :].split("/") if part]
    if ".." in parts:
        return []  # beyond the cgroup namespace: not ours to see
    base = mount.point.rstrip("/")
    return ["/".join((base, *parts[:count])) for count in range(len(parts), 0, -1)]


def _read_lever(kind: str, directory: str, mount: LeverMount) -> Lever | None:
    if kind not in mount.controllers:
        return None
    if kind == "freezer":
        # Version 2 lets SIGKILL through a frozen cgroup; in version 1 the signal waits for ever.
        found = read_value(f"{directory}/freezer.self_freezing") if mount.version == 1 else None
        return Lever(kind, directory, "freezer.state", "FROZEN", "THAWED", 1) if found == "1" else None
    if kind == "cpu" and mount.version == 2:
        found = read_value(f"{directory}/cpu.max")
        limited = found is not None and not found.startswith("max")
        return Lever(kind, directory, "cpu.max", found, "max", 2) if found is not None and limited else None
    if kind == "cpu":
        found = read_value(f"{directory}/cpu.cfs_quota_us")
        return (
            Lever(kind, directory, "cpu.cfs_quota_us", found, "-1", 1) if found is not None and found != "-1" else None
        )
    return _read_cpuset(directory, mount)


def _read_cpuset(directory: str, mount: LeverMount) -> Lever | None:
    """A CPU set that is smaller than its parent's."""
    found = read_value(f"{directory}/cpuset.cpus")
    if not found:
        return None  # empty inherits (version 2), or the controller is off there
    own, parents = ("cpuset.cpus.effective",) * 2 if mount.version == 2 else ("cpuset.cpus",) * 2
    wider = read_value(f"{os.path.dirname(directory)}/{parents}")
    if wider is None or wider == read_value(f"{directory}/{own}"):
        return None
    return Lever("cpuset", directory, "cpuset.cpus", found, wider, mount.version)


def _raise(error: OSError) -> None:
    raise error

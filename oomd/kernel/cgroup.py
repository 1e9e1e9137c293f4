"""Memory of a cgroup, version 2 or 1: its usage and its limit; Documentation/admin-guide/cgroup-v2.rst,
cgroup-v1/memory.rst.
"""

from __future__ import annotations

import os

from oomd.kernel.cgroup_namespace import absolute_path
from oomd.kernel.files import KernelFile, find_number, open_optional, parse_number, unescape_octal
from oomd.model.values import dataclass

CGROUP_ROOT = "/sys/fs/cgroup"

_NO_LIMIT_V1 = 1 << 62
"""v1 spells "no limit" as the largest number of whole pages, 2^63 - 4096 with pages of 4 KiB
(PAGE_COUNTER_MAX).
"""


class CgroupError(Exception):
    """The memory of this cgroup cannot be read; the message says why."""


@dataclass(frozen=True, slots=True)
class _Mount:
    """A line of /proc/PID/mountinfo that mounts cgroup2 or the v1 memory hierarchy."""

    point: str
    root: str
    """Which cgroup is visible at ``point``: not ``/`` in containers without a cgroup namespace."""
    version: int


def _parse_mounts(mountinfo: bytes) -> list[_Mount]:
    mounts = []
    for line in mountinfo.split(b"\n"):
        fields, _, rest = line.partition(b" - ")
        places, kinds = fields.split(b" "), rest.split(b" ")
        if len(places) < 5 or len(kinds) < 3:
            continue
        version = 2 if kinds[0] == b"cgroup2" else 1
        if version == 2 or (kinds[0] == b"cgroup" and b"memory" in kinds[2].split(b",")):
            root, point = (os.fsdecode(unescape_octal(place)) for place in places[3:5])
            mounts.append(_Mount(point, absolute_path(root) if version == 2 else root, version))
    # A whole hierarchy tells more than a part of it that is mounted somewhere else; the sort is stable.
    return sorted(mounts, key=lambda mount: mount.root != "/")


def find_cgroup2_mount(mountinfo: bytes) -> str | None:
    """Where cgroup2 is mounted, of the text of /proc/self/mountinfo; None where it is not.
    proc_pid_mountinfo(5).
    """
    return next((mount.point for mount in _parse_mounts(mountinfo) if mount.version == 2), None)


def cgroup2_root() -> str | None:
    """Where cgroup2 is mounted for us; None where it is not."""
    file = open_optional("/proc/self/mountinfo")
    if file is None:
        return None
    with file:
        return find_cgroup2_mount(file.read())


def find_v1_memory_mount(mountinfo: bytes) -> str | None:
    """Where the v1 hierarchy with the memory controller is mounted; None where it is not."""
    return next((mount.point for mount in _parse_mounts(mountinfo) if mount.version == 1), None)


class CgroupMemory:
    """Usage and limit of one cgroup, its files kept open. Made by :func:`open_cgroup_memory`.

    Reading raises OSError (ENODEV) once the cgroup was removed, and KernelFormatError.
    """

    def __init__(self, directory: str, top: str, version: int) -> None:
        """``top`` is the mount point, or the directory that stands for it: the last ancestor that is looked
        at.
        """
        self.directory = directory
        self.version = version
        self._stat = KernelFile(f"{directory}/memory.stat", single_record=True)
        # Absent without swap accounting, and in the root.
        self._swap = _open_optional(f"{directory}/memory.swap.current") if version == 2 else None
        self._limits = _open_limits(directory, top) if version == 2 else []

    def read_usage_bytes(self) -> int:
        """Anonymous memory, shmem and swap of the cgroup and all below it; never file cache, which the
        kernel drops by itself.
        """
        data = b"\n" + self._stat.read()
        if self.version == 1:
            keys = (b"\ntotal_rss ", b"\ntotal_shmem ", b"\ntotal_swap ")
            return sum(find_number(data, key, self._stat.path, default=0) for key in keys)
        usage = find_number(data, b"\nanon ", self._stat.path) + find_number(data, b"\nshmem ", self._stat.path)
        if self._swap is not None:
            usage += parse_number(self._swap.read(), self._swap.path, "bytes")
        return usage

    def read_limit_bytes(self) -> int | None:
        """The lowest limit that holds for it, its own or an ancestor's; None where nothing limits it.

        Ancestors beyond the mount point (outside of a container) are not visible and not counted.
        """
        if self.version == 1:
            data = b"\n" + self._stat.read()
            limit = find_number(data, b"\nhierarchical_memory_limit ", self._stat.path, default=_NO_LIMIT_V1)
            return limit if limit < _NO_LIMIT_V1 else None
        texts = [(file.path, file.read().strip()) for file in self._limits]
        return min((parse_number(text, path, "bytes") for path, text in texts if text != b"max"), default=None)

    def close(self) -> None:
        """Closes its files."""
        for file in (self._stat, self._swap, *self._limits):
            if file is not None:
                file.close()


def _open_optional(path: str) -> KernelFile | None:
    try:
        return KernelFile(path, size=64, single_record=True)
    except FileNotFoundError:
        return None


def _open_limits(directory: str, top: str) -> list[KernelFile]:
    """memory.max of the directory and of its ancestors up to ``top``; a root has none."""
    files = []
    while True:
        file = _open_optional(f"{directory}/memory.max")
        if file is not None:
            files.append(file)
        if len(directory) <= len(top):
            return files
        directory = directory.rpartition("/")[0]


def open_cgroup_memory(path: str, *, root: str = CGROUP_ROOT, mountinfo: bytes = b"") -> CgroupMemory:
    """The memory of the cgroup that proc_pid_cgroup(5) calls ``path`` (``/user.slice/…``), version 2 where
    that knows of memory, else 1.

    With ``mountinfo`` (the text of /proc/self/mountinfo) the mount points are taken from it, which is right
    also in a container without a cgroup namespace. Without it they are looked for below ``root`` where
    systemd puts them: the tree itself, ``unified`` and ``memory``.

    Raises :class:`CgroupError` when there is no such cgroup or its memory is not accounted.
    """
    if not path.startswith("/") or ".." in path.split("/"):
        raise CgroupError(f"{path!r} is no cgroup: it looks like /user.slice")
    root = root.rstrip("/")
    mounts = [
        _Mount(root, "/", 2),
        _Mount(f"{root}/unified", "/", 2),
        _Mount(f"{root}/memory", "/", 1),
        _Mount(root, "/", 1),
    ]
    for mount in _parse_mounts(mountinfo) if mountinfo else mounts:
        top = mount.point.rstrip("/")
        directory = f"{top}/{_relative_path(path, mount.root)}".rstrip("/")
        # v1 has a limit in its root too; the root of v2 has no limit, but it counts.
        own_file = "memory.limit_in_bytes" if mount.version == 1 else "cgroup.controllers"
        if os.path.exists(f"{directory}/{own_file}") and os.path.exists(f"{directory}/memory.stat"):
            try:
                return CgroupMemory(directory, top, mount.version)
            except OSError as error:
                raise CgroupError(f"cgroup {path}: {error}") from error
    raise CgroupError(f"cgroup {path}: there is no such cgroup, or the memory controller is off there")


def _relative_path(path: str, mount_root: str) -> str:
    """``path`` as seen from a mount that shows ``mount_root`` as its top."""
    mount_root = mount_root.rstrip("/")
    if path == mount_root or path.startswith(mount_root + "/"):
        path = path[len(mount_root) :]
    return path.strip("/")

"""A cgroup hierarchy of plain files, built by verbs: version 2, or the memory hierarchy of version 1."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

_NO_LIMIT_V1 = 9223372036854771712
"""What v1 prints for "no limit" with pages of 4 KiB."""


@dataclass(frozen=True)
class FakeCgroup:
    """One cgroup; sizes in bytes, each as its file shows it, so with all that lies below it counted in."""

    path: str
    limit: int | None = None
    """memory.max or memory.limit_in_bytes; None for no limit."""
    anon: int = 0
    shmem: int = 0
    file: int = 0
    """All page cache, shmem among it."""
    swap: int = 0
    current: int | None = None
    """memory.current; None: anon + file."""
    pids: tuple[int, ...] = ()
    some_us: int = 0
    full_us: int = 0
    """Memory pressure since boot; ``averages`` stand beside it, and are those of io and cpu too."""
    averages: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """avg10, avg60, avg300 of both lines, per cent."""
    io_full_us: int = 0
    cpu_full_us: int = 0
    min: int = 0
    low: int = 0
    high: int | None = None
    swap_max: int | None = None
    oom_group: bool = False
    populated: bool = True
    pgscan: int = 0
    refault_anon: int = 0
    refault_file: int = 0
    active_anon: int = 0
    active_file: int = 0
    dying: int = 0
    tasks: int | None = None
    """pids.current; None: one for each of ``pids``."""
    io: str = ""
    """The text of io.stat."""


class CgroupTree:
    """The hierarchy whose mount point is ``root``; it begins with the root cgroup alone."""

    def __init__(self, root: Path, *, version: int = 2) -> None:
        """Makes ``root`` and its files."""
        self.root = root
        self.version = version
        self._groups: dict[str, FakeCgroup] = {}
        self.add_group("/")

    def add_group(self, path: str, **values: Any) -> FakeCgroup:
        """A cgroup (``/user.slice/app``) with the values of :class:`FakeCgroup`; its ancestors are made too."""
        parent = path.rpartition("/")[0]
        if parent and parent not in self._groups:
            self.add_group(parent)
        group = self._groups[path] = FakeCgroup(path, **values)
        self._write_all(path)
        return group

    def change_group(self, path: str, **values: Any) -> FakeCgroup:
        """The same cgroup, other values."""
        group = self._groups[path] = replace(self._groups[path], **values)
        self._write_all(path)
        return group

    def remove_group(self, path: str) -> None:
        """It and all below it are gone."""
        for name in [name for name in self._groups if name == path or name.startswith(path + "/")]:
            del self._groups[name]
        shutil.rmtree(self._directory(path))

    def without_swap_accounting(self, path: str) -> None:
        """As a kernel that does not count swap per cgroup: no memory.swap.current. The next verb brings it
        back.
        """
        (self._directory(path) / "memory.swap.current").unlink()

    def _directory(self, path: str) -> Path:
        return self.root / path.lstrip("/")

    def _write_all(self, path: str) -> None:
        # A limit reaches down: v1 shows it in the files of all below.
        for group in self._groups.values():
            if group.path == path or group.path.startswith(path.rstrip("/") + "/"):
                write = self._write_v2 if self.version == 2 else self._write_v1
                write(group)

    def _write_v2(self, group: FakeCgroup) -> None:
        self._write(group, "cgroup.controllers", "cpu io memory pids\n")
        self._write(group, "cgroup.procs", "".join(f"{pid}\n" for pid in group.pids))
        self._write(group, "memory.stat", _memory_stat(group))
        self._write(group, "memory.pressure", _pressure(group, group.some_us, group.full_us))
        self._write(group, "io.pressure", _pressure(group, group.io_full_us, group.io_full_us))
        self._write(group, "cpu.pressure", _pressure(group, group.cpu_full_us, group.cpu_full_us))
        self._write(group, "cgroup.stat", f"nr_descendants 0\nnr_dying_descendants {group.dying}\n")
        self._write(group, "io.stat", group.io)
        if group.path == "/":
            return  # the root has no limits and no usage of its own
        self._write(group, "cgroup.events", f"populated {int(group.populated)}\nfrozen 0\n")
        self._write(group, "memory.oom.group", f"{int(group.oom_group)}\n")
        tasks = len(group.pids) if group.tasks is None else group.tasks
        self._write(group, "pids.current", f"{tasks}\n")
        for name, protection in (("min", group.min), ("low", group.low)):
            self._write(group, f"memory.{name}", f"{protection}\n")
        for name, limit in (("high", group.high), ("swap.max", group.swap_max)):
            self._write(group, f"memory.{name}", "max\n" if limit is None else f"{limit}\n")
        current = group.anon + group.file if group.current is None else group.current
        self._write(group, "memory.current", f"{current}\n")
        self._write(group, "memory.max", "max\n" if group.limit is None else f"{group.limit}\n")
        self._write(group, "memory.swap.current", f"{group.swap}\n")

    def _write_v1(self, group: FakeCgroup) -> None:
        self._write(group, "cgroup.procs", "".join(f"{pid}\n" for pid in group.pids))
        own = _NO_LIMIT_V1 if group.limit is None else group.limit
        self._write(group, "memory.limit_in_bytes", f"{own}\n")
        sizes = {"cache": group.file, "rss": group.anon, "shmem": group.shmem, "swap": group.swap}
        lines = "".join(f"{name} {size}\n" for name, size in sizes.items())
        lines += f"hierarchical_memory_limit {self._lowest_limit(group.path)}\n"
        lines += "".join(f"total_{name} {size}\n" for name, size in sizes.items())
        self._write(group, "memory.stat", lines)

    def _lowest_limit(self, path: str) -> int:
        limits = [_NO_LIMIT_V1]
        for group in self._groups.values():
            holds = path == group.path or path.startswith(group.path.rstrip("/") + "/")
            if holds and group.limit is not None:
                limits.append(group.limit)
        return min(limits)

    def _write(self, group: FakeCgroup, name: str, text: str) -> None:
        """In place, so that descriptors that a reader keeps open see the change."""
        directory = self._directory(group.path)
        directory.mkdir(parents=True, exist_ok=True)
        data = text.encode()
        fd = os.open(directory / name, os.O_WRONLY | os.O_CREAT, 0o644)
        try:
            os.pwrite(fd, data, 0)
            os.ftruncate(fd, len(data))
        finally:
            os.close(fd)


def _memory_stat(group: FakeCgroup) -> str:
    sizes = {"anon": group.anon, "file": group.file, "kernel": 0, "shmem": group.shmem, "file_mapped": 0}
    sizes |= {"inactive_anon": max(0, group.anon - group.active_anon), "active_anon": group.active_anon}
    sizes |= {"inactive_file": max(0, group.file - group.active_file), "active_file": group.active_file}
    sizes |= {"workingset_refault_anon": group.refault_anon, "workingset_refault_file": group.refault_file}
    sizes |= {"pgscan": group.pgscan}
    return "".join(f"{name} {size}\n" for name, size in sizes.items())


def _pressure(group: FakeCgroup, some_us: int, full_us: int) -> str:
    average = " ".join(
        f"{name}={share:.2f}" for name, share in zip(("avg10", "avg60", "avg300"), group.averages, strict=True)
    )
    return f"some {average} total={some_us}\nfull {average} total={full_us}\n"

"""Cgroups of version 2 as values: found by patterns, read file by file, only what is asked for.

Nothing here runs unless a rule asks for cgroups. Directories stay open, and so do the files that are read at every
look; what is read once, for a decision, is opened beneath its directory and closed again.
"""

from __future__ import annotations

import os

from oomd.kernel.cgroup_files import (
    parse_amount,
    parse_dying_descendants,
    parse_io_stat,
    parse_memory_stat,
    parse_pids,
    parse_populated,
    parse_protection,
    read_marks,
)
from oomd.kernel.files import KernelFile, parse_number
from oomd.kernel.process import decode_name
from oomd.kernel.psi import parse_pressure
from oomd.model import wildcards
from oomd.model.snapshot import Cgroup

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import Any

DEEP = "**"
"""In a pattern: any number of levels, none included."""
MOST_FOUND = 2000
"""More cgroups than this are not looked at: a rule that names so many names nobody."""
MOST_KEPT = 512
"""Files kept open."""
_FILE_BYTES = 8192
_READ = (OSError, ValueError)
"""What reading a cgroup may raise at any moment: removed (ENOENT, ENODEV), hidden, PSI off (EOPNOTSUPP), odd."""

FILES: dict[str, Callable[[bytes], dict[str, Any]]] = {
    "memory.current": lambda data: {"current_bytes": parse_number(data, "memory.current", "bytes")},
    "memory.swap.current": lambda data: {"swap_bytes": parse_number(data, "memory.swap.current", "bytes")},
    "memory.min": lambda data: {"min_bytes": parse_protection(data, "memory.min")},
    "memory.low": lambda data: {"low_bytes": parse_protection(data, "memory.low")},
    "memory.high": lambda data: {"high_bytes": parse_amount(data, "memory.high")},
    "memory.max": lambda data: {"max_bytes": parse_amount(data, "memory.max")},
    "memory.swap.max": lambda data: {"swap_max_bytes": parse_amount(data, "memory.swap.max")},
    "memory.oom.group": lambda data: {"oom_group": parse_number(data, "memory.oom.group", "flag") != 0},
    "memory.stat": parse_memory_stat,
    "memory.pressure": lambda data: {"memory_pressure": parse_pressure(data)},
    "io.pressure": lambda data: {"io_pressure": parse_pressure(data)},
    "cpu.pressure": lambda data: {"cpu_pressure": parse_pressure(data)},
    "cgroup.events": lambda data: {"populated": parse_populated(data)},
    "cgroup.stat": lambda data: {"dying_descendants": parse_dying_descendants(data)},
    "pids.current": lambda data: {"pids": parse_number(data, "pids.current", "tasks")},
    "io.stat": lambda data: {"io": parse_io_stat(data)},
}
"""Every file that a :class:`Cgroup` is made of, and how its text becomes fields."""
EVERYTHING = frozenset(FILES)


_LITERALLY = {ord(sign): f"[{sign}]" for sign in "[*?"}
"""From a path to the pattern that only it fits."""


class CgroupReader:
    """Reads the hierarchy whose mount point is ``root``: the kernel's, or a recorded tree."""

    def __init__(
        self,
        root: str,
        *,
        xattrs: Mapping[str, Mapping[str, str]] | None = None,
        owners: Mapping[str, int] | None = None,
    ) -> None:
        """``xattrs`` and ``owners``, by path, take the place of what a recorded tree could not keep. Raises OSError
        when there is no such directory.
        """
        self._root_fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._xattrs = xattrs or {}
        self._owners = owners or {}
        self._known: dict[str, _Directory] = {}
        self._kept = 0

    def find(self, patterns: Iterable[str]) -> tuple[str, ...]:
        """The paths of the cgroups that fit any of these patterns, sorted: ``*``, ``?`` and ``[…]`` within a name,
        ``**`` for any number of levels.
        """
        found: set[str] = set()
        for pattern in patterns:
            parts = [part for part in pattern.split("/") if part]
            if not {".", ".."} & set(parts):
                self._find("/", parts, found)
        return tuple(sorted(found))

    def read(
        self, patterns: Iterable[str], now_us: int, files: frozenset[str] = EVERYTHING, *, keep: bool = False
    ) -> tuple[Cgroup, ...]:
        """The cgroups that fit, by path, with these of their files. ``keep``: they will be read again and again, so
        their files stay open.
        """
        cgroups = (self._read_one(path, now_us, files, keep=keep) for path in self.find(patterns))
        return tuple(cgroup for cgroup in cgroups if cgroup is not None)

    def read_pids(self, path: str) -> tuple[int, ...]:
        """The processes in this cgroup (not below it), as cgroup.procs says now; none where it is gone."""
        directory = self._directory(path)
        data = None if directory is None else directory.read_once("cgroup.procs")
        try:
            return () if data is None else parse_pids(data)
        except ValueError:
            return ()

    def members(self, path: str) -> frozenset[int] | None:
        """The processes in this cgroup and in those below it; None where it is gone, or a recording does not tell."""
        directory = self._directory(path)
        if directory is None or directory.read_once("cgroup.procs") is None:
            return None
        below = self.find([f"{path.translate(_LITERALLY)}/**"])
        return frozenset(pid for each in {path, *below} for pid in self.read_pids(each))

    def close(self) -> None:
        """Close every descriptor."""
        for directory in self._known.values():
            directory.close()
        self._known.clear()
        os.close(self._root_fd)

    def _read_one(self, path: str, now_us: int, files: frozenset[str], *, keep: bool) -> Cgroup | None:
        directory = self._directory(path)
        if directory is None:
            return None
        values: dict[str, Any] = {}
        for name in FILES:
            if name in files:
                data = self._read_kept(directory, name) if keep else directory.read_once(name)
                values.update(directory.parse(name, data) if data is not None else {})
        shown = decode_name(os.fsencode(path))
        marks = tuple(self._xattrs[shown].items()) if shown in self._xattrs else read_marks(directory.fd)
        owner = self._owners.get(shown, directory.owner_uid)
        return Cgroup(shown, directory.inode, now_us, owner, xattrs=marks, **values)

    def _read_kept(self, directory: _Directory, name: str) -> bytes | None:
        if name not in directory.files and self._kept >= MOST_KEPT:
            return directory.read_once(name)
        if name not in directory.files:
            self._kept += 1
        return directory.read_kept(name)

    def _directory(self, path: str) -> _Directory | None:
        """The open directory of this path; None where there is none. One made anew under an old path is opened anew."""
        known = self._known.get(path)
        relative = os.fsencode(path.strip("/") or ".")
        try:
            state = os.stat(relative, dir_fd=self._root_fd)
            if known is not None and known.inode == state.st_ino:
                known.owner_uid = state.st_uid
                return known
            self._forget(path)
            opened = _Directory(os.open(relative, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=self._root_fd))
        except _READ:
            self._forget(path)
            return None
        if len(self._known) >= MOST_FOUND:
            self._forget(next(iter(self._known)))
        self._known[path] = opened
        return opened

    def _forget(self, path: str) -> None:
        directory = self._known.pop(path, None)
        if directory is not None:
            self._kept -= len(directory.files)
            directory.close()

    def _find(self, path: str, parts: list[str], found: set[str]) -> None:
        if len(found) >= MOST_FOUND:
            return
        if not parts:
            if self._directory(path) is not None:
                found.add(path)
            return
        part, rest = parts[0], parts[1:]
        if part == DEEP:
            self._find(path, rest, found)
            for name in self._children(path):
                self._find(_join(path, name), parts, found)
        elif not any(sign in part for sign in "*?["):
            self._find(_join(path, part), rest, found)
        else:
            for name in self._children(path):
                if wildcards.matches(part, decode_name(os.fsencode(name))):
                    self._find(_join(path, name), rest, found)

    def _children(self, path: str) -> list[str]:
        directory = self._directory(path)
        if directory is None:
            return []
        try:
            with os.scandir(directory.fd) as entries:
                return sorted(entry.name for entry in entries if entry.is_dir(follow_symlinks=False))
        except OSError:
            return []


class _Directory:
    """One cgroup's directory, held open: what is read through it is this cgroup's, whatever its path becomes."""

    __slots__ = ("fd", "files", "inode", "owner_uid", "parsed")

    def __init__(self, fd: int) -> None:
        self.fd = fd
        state = os.fstat(fd)
        self.inode = state.st_ino
        self.owner_uid = state.st_uid
        self.files: dict[str, KernelFile | None] = {}
        self.parsed: dict[str, tuple[bytes, dict[str, Any]]] = {}
        """By name, of the files that are kept: the text last read, and what it says."""

    def parse(self, name: str, data: bytes) -> dict[str, Any]:
        """The fields that this text of a file fills. Where nobody works most texts are the same at the next look."""
        known = self.parsed.get(name)
        if known is not None and known[0] == data:
            return known[1]
        try:
            values = FILES[name](data)
        except ValueError:
            values = {}  # a form that this kernel alone has: as though it were not there
        if name in self.files:
            self.parsed[name] = data, values
        return values

    def read_once(self, name: str) -> bytes | None:
        """The file's text; None where it is not there or cannot be read."""
        try:
            fd = os.open(name, os.O_RDONLY | os.O_CLOEXEC, dir_fd=self.fd)
        except OSError:
            return None
        try:
            data = os.read(fd, _FILE_BYTES)
            while data and (more := os.read(fd, _FILE_BYTES)):
                data += more
        except OSError:
            return None
        else:
            return data
        finally:
            os.close(fd)

    def read_kept(self, name: str) -> bytes | None:
        """The same through a descriptor that stays open."""
        if name not in self.files:
            try:
                self.files[name] = KernelFile(name, dir_fd=self.fd, size=_FILE_BYTES, single_record=True)
            except OSError:
                self.files[name] = None
        file = self.files[name]
        try:
            return None if file is None else file.read()
        except OSError:
            return None

    def close(self) -> None:
        for file in self.files.values():
            if file is not None:
                file.close()
        os.close(self.fd)


def _join(path: str, name: str) -> str:
    return f"{path.rstrip('/')}/{name}"

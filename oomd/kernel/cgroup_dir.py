"""One cgroup of version 2, its directory held open: what is read and written goes to this very cgroup, whatever becomes
of its path. Documentation/admin-guide/cgroup-v2.rst.
"""

from __future__ import annotations

import errno
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Self

_GONE = (errno.ENOENT, errno.ENODEV)
"""A cgroup below that was removed just now: nobody was in it."""
MOST_BYTES = 4096
"""Of a file that holds a value; pids are read to their end."""


class CgroupDirectory:
    """Reads and writes the files of one cgroup. Everything raises OSError as the kernel gives it: ENODEV once the
    cgroup was removed.
    """

    def __init__(self, path: str, inode: int = 0) -> None:
        """``inode``: of the cgroup that is meant; one made anew under the same path is refused (FileNotFoundError)."""
        self.path = path
        self.fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW)
        self.inode = os.fstat(self.fd).st_ino
        if inode not in (0, self.inode):
            self.close()
            raise FileNotFoundError(errno.ENOENT, "was removed, and another one made under its name", path)

    def read_members(self) -> list[int]:
        """The processes in it and in all below it; 0 stands for one of another PID namespace. A threaded cgroup cannot
        tell (EOPNOTSUPP).
        """
        members: list[int] = []
        for _, _, files, folder_fd in os.fwalk(".", onerror=_unless_gone, dir_fd=self.fd):
            if "cgroup.procs" in files:
                members += _read_pids(folder_fd)
        return members

    def read(self, name: str) -> str:
        """The text of a small file, without its end of line."""
        fd = os.open(name, os.O_RDONLY | os.O_CLOEXEC, dir_fd=self.fd)
        try:
            return os.read(fd, MOST_BYTES).decode("ascii", "replace").strip()
        finally:
            os.close(fd)

    def write(self, name: str, value: str) -> None:
        """One write, whose error shows at once; O_TRUNC as a shell's ``>``, for trees of plain files."""
        fd = os.open(name, os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC, dir_fd=self.fd)
        try:
            os.write(fd, value.encode())
        finally:
            os.close(fd)

    def has(self, name: str) -> bool:
        """Whether there is such a file: controllers that are off have none."""
        return os.access(name, os.F_OK, dir_fd=self.fd)

    def close(self) -> None:
        """Close it; again does nothing."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def directory_of(root: str, path: str) -> str:
    """Where the cgroup of this path lies, in a hierarchy that is mounted at ``root``."""
    return os.path.normpath(f"{root}/{path}")


def _read_pids(folder_fd: int) -> list[int]:
    try:
        fd = os.open("cgroup.procs", os.O_RDONLY | os.O_CLOEXEC, dir_fd=folder_fd)
    except OSError as error:
        _unless_gone(error)
        return []
    try:
        data = b""
        while more := os.read(fd, 1 << 16):
            data += more
    except OSError as error:
        _unless_gone(error)
        return []
    finally:
        os.close(fd)
    return [int(line) for line in data.split()]


def _unless_gone(error: OSError) -> None:
    if error.errno not in _GONE:
        raise error

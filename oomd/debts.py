"""What was changed in cgroups and must be put back, written down before it is done: a file in the runtime directory.

A throttled or frozen cgroup must not stay so because oomd died. The outside process puts everything back when it finds
that the killer has ended; where both were killed together the service manager does (ExecStopPost=), or the next start.
Each looks first
whether it is still the same cgroup (by the inode of its directory), and whether the value is still the one that oomd
wrote: a cgroup that was made anew, and a limit that somebody else has set meanwhile, are left alone.

Why a file and not the outside process's memory alone: a service manager kills both at once. Why not a mark on the
cgroup itself: a user may write on the directories that are his, and would have root put back what never was.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading

from oomd.kernel.cgroup_dir import CgroupDirectory
from oomd.model.values import dataclass

NAME = "debts"
_FRESH = "debts.new"
_HEADER = "oomd debts 1"
_MOST_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Debt:
    """One value of one cgroup."""

    file: str
    """``memory.high`` or ``cgroup.freeze``."""
    inode: int
    """Of the cgroup's directory."""
    directory: str
    found: str
    """What it said, and shall say again."""
    ours: tuple[str, ...]
    """What it says while it is ours."""

    @property
    def key(self) -> tuple[str, str]:
        """There is one for each."""
        return self.directory, self.file

    def line(self) -> bytes:
        """As it stands in the file. Raises ValueError for a name that would end the line."""
        name = os.fsencode(self.directory)
        if b"\n" in name:
            raise ValueError("its name cannot be written down")
        return f"{self.file} {self.inode} {self.found} {','.join(self.ours)} ".encode() + name + b"\n"


class Debts:
    """The file, and what stands in it. For several threads."""

    def __init__(self, folder: str, token: str) -> None:
        """``token`` tells this oomd from one that is started later in the same folder. Raises OSError."""
        self._fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._token = token
        # What one before us left that nobody could put back stays there, for the next try.
        self._debts = {debt.key: debt for debt in read_debts(folder)[1]}
        self._lock = threading.Lock()

    def write_down(self, debt: Debt) -> None:
        """Before anything is changed. Raises OSError, ValueError, and nothing may be changed then."""
        debt.line()
        with self._lock:
            self._write({**self._debts, debt.key: debt})

    def strike_out(self, debt: Debt) -> None:
        """It is as it was before, or not ours any more."""
        with self._lock, contextlib.suppress(OSError):  # what stands there too long is looked at, and left alone
            self._write({key: each for key, each in self._debts.items() if key != debt.key})

    def leave(self, debts: list[Debt]) -> None:
        """Only these are still to be put back, by somebody else. Raises OSError."""
        try:
            self._write({debt.key: debt for debt in debts})
        finally:
            os.close(self._fd)

    def _write(self, debts: dict[tuple[str, str], Debt]) -> None:
        if not debts:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(NAME, dir_fd=self._fd)
            self._debts = debts
            return
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
        fd = os.open(_FRESH, flags, 0o600, dir_fd=self._fd)
        try:
            data = f"{_HEADER} {self._token}\n".encode() + b"".join(each.line() for each in debts.values())
            if os.write(fd, data) != len(data):
                raise OSError("no room for what must be put back")
        finally:
            os.close(fd)
        os.rename(_FRESH, NAME, src_dir_fd=self._fd, dst_dir_fd=self._fd)
        self._debts = debts


def read_debts(folder: str) -> tuple[str, list[Debt]]:
    """Whose it is, and what stands in it; nothing where there is none, or one of another form. A file that is neither
    ours nor root's is not believed.
    """
    try:
        fd = os.open(f"{folder}/{NAME}", os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return "", []
    try:
        if os.fstat(fd).st_uid not in (0, os.geteuid()):
            return "", []
        header, *lines = os.read(fd, _MOST_BYTES).split(b"\n")
    except OSError:
        return "", []
    finally:
        os.close(fd)
    words = header.decode("ascii", "replace").rpartition(" ")
    if words[0] != _HEADER:
        return "", []
    return words[2], [debt for debt in map(_read_debt, lines) if debt is not None]


def put_back(debt: Debt) -> str:
    """The former value, if it is the same cgroup and the value is ours; what was done, in words, or nothing. Raises
    OSError where it cannot be written.
    """
    try:
        cgroup = CgroupDirectory(debt.directory, debt.inode)
    except OSError:
        return ""  # gone, and what was changed with it
    with cgroup:
        if cgroup.read(debt.file) not in debt.ours:
            return ""
        cgroup.write(debt.file, debt.found)
    return f"{debt.directory}: {debt.file} is {debt.found} again"


def put_all_back(folder: str, token: str | None = None) -> list[str]:
    """All that an oomd that has died left changed; what was done, in words. ``token``: only where it is that one's.
    What cannot be put back stays written down: whoever comes next may be able to.
    """
    owner, debts = read_debts(folder)
    if token not in (None, owner):
        return []
    told, left = [], []
    for debt in debts:
        try:
            words = put_back(debt)
        except OSError as error:
            words = f"{debt.directory}: {debt.file} cannot be put back: {error.strerror}"
            left.append(debt)
        told += [words] if words else []
    if debts:
        with contextlib.suppress(OSError):
            Debts(folder, owner).leave(left)
    return told


def _read_debt(line: bytes) -> Debt | None:
    parts = line.split(b" ", 4)
    if len(parts) != 5 or not parts[1].isdigit():
        return None
    file, _, found, ours = (part.decode("ascii", "replace") for part in parts[:4])
    if file not in ("memory.high", "cgroup.freeze"):
        return None
    return Debt(file, int(parts[1]), os.fsdecode(parts[4]), found, tuple(ours.split(",")))


def main() -> None:
    """``python -m oomd.debts FOLDER``: for the service manager, once everybody has ended."""
    for text in put_all_back(sys.argv[1]):
        sys.stdout.write(f"{text}\n")


if __name__ == "__main__":
    main()

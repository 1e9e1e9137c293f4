"""Which of the pids from here to there belong to processes: procfs lists them in their order, from any of them on.

Reading a directory from where a pid stands is one call however many pids there are that nobody has any more; asking for
each costs as much for each. Threads are not listed.
"""

from __future__ import annotations

import os
import sys

from oomd.kernel.syscalls import MOST_ENTRIES_BYTES, next_entries

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

PID_LIMIT = (1 << 22) - 1
"""No pid is higher (PID_MAX_LIMIT; include/linux/threads.h)."""
FIRST_SPAN = 512
PIECE = 2048
"""How many pids the first piece goes back, and about how many processes there are in a piece."""
FEW = 64

_OFFSET = 258
"""Where pid 0 would stand in the directory: FIRST_PROCESS_ENTRY (256), self and thread-self come before; fs/proc/
base.c. Not promised by anybody, so it is tried out.
"""


class PidRange:
    """Lists processes of one procfs by their numbers."""

    def __init__(self, proc_fd: int) -> None:
        """Without procfs, or where its directory is laid out otherwise, nothing can be told."""
        self._fd = -1
        try:
            own = int(os.readlink("self", dir_fd=proc_fd))
            self._fd = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=proc_fd)
            fits = self.processes(own, own) == [own] and own not in self.processes(own + 1, own + 1)
        except (OSError, ValueError):
            fits = False
        if not fits:
            self.close()

    @property
    def can_tell(self) -> bool:
        """Whether :meth:`processes` may be called."""
        return self._fd >= 0

    def processes(self, first: int, last: int) -> list[int]:
        """Those that there are of these pids, both ends included. Raises OSError."""
        os.lseek(self._fd, _OFFSET + first, os.SEEK_SET)
        found: list[int] = []
        room_bytes = 256 if last - first < FEW else MOST_ENTRIES_BYTES
        while names := names_of(next_entries(self._fd, room_bytes)):
            found += map(int, names)
            if found[-1] >= last:
                break
        while found and found[-1] > last:
            del found[-1]
        return found

    def newest_first(self, newest: int) -> Iterator[list[int]]:
        """All of them from the highest pid on, in pieces: ten thousand at once would take a megabyte. ``newest``: the
        first piece begins so far below it; 0: below whichever is the highest. Raises OSError.
        """
        first, last, span = max(1, (newest or self._highest()) - FIRST_SPAN), PID_LIMIT, PIECE
        while True:
            pids = self.processes(first, last)
            pids.reverse()
            yield pids
            if first == 1:
                return
            span = span * 2 if len(pids) * 2 < PIECE else max(PIECE, span // 2)
            first, last = max(1, first - span), first - 1

    def _highest(self) -> int:
        low, high = 1, PID_LIMIT
        while low < high:
            middle = (low + high + 1) // 2
            os.lseek(self._fd, _OFFSET + middle, os.SEEK_SET)
            if next_entries(self._fd):
                low = middle
            else:
                high = middle - 1
        return low

    def close(self) -> None:
        """Let go of the directory."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def names_of(entries: bytes) -> list[bytes]:
    """The names of these entries (struct linux_dirent64: inode, offset, length of all this, type, name)."""
    if entries and (size := _digits_of_each(entries)):
        return [entries[at : at + size] for at in range(19, len(entries), entries[16])]
    names, at = [], 0
    while at < len(entries):
        names.append(entries[at + 19 : entries.index(b"\0", at + 19)])
        at += int.from_bytes(entries[at + 16 : at + 18], sys.byteorder)
    return names


def _digits_of_each(entries: bytes) -> int:
    """How many digits all these names have, where they are numbers of one length, so that all entries are as long as
    the first; else 0. Ten thousand pids are told apart so in half the time.
    """
    width, end = entries[16], entries.index(b"\0", 19)
    count = len(entries) // width if width else 0
    same = entries[16::width] == entries[16:17] * count and not any(entries[17::width]) if count else False
    if not same or len(entries) != count * width or any(entries[end::width]):
        return 0
    return end - 19 if all(entries[column::width].isdigit() for column in range(19, end)) else 0

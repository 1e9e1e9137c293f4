"""/proc/PID/maps: which private ranges of a process can be swapped out; and shared memory that no file system holds, so
that it goes with the last who maps it. proc_pid_maps(5).
"""

from __future__ import annotations

import os

MOST_BYTES = 1 << 20
"""Some ten thousand mappings; what comes after them is not looked at."""

_NAMELESS = (b"/dev/zero (deleted)", b"/drm mm object (deleted)")
_MEMFD, _SHM, _DELETED = b"/memfd:", b"/dev/shm/", b" (deleted)"
"""memfd_create(2), MAP_SHARED | MAP_ANONYMOUS, graphics memory, and what shm_unlink(3) has taken the name of. Not
/SYSV…: the memory of shmget(2) outlives everybody.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    Place = tuple[bytes, bytes]
    """Device and inode, as the file tells them."""


def read_maps(proc_fd: int, pid: int) -> bytes:
    """The file, or as much of it as is ever looked at. Raises OSError, also where it may not be read."""
    fd = os.open(f"{pid}/maps", os.O_RDONLY | os.O_CLOEXEC, dir_fd=proc_fd)
    data = b""
    try:
        while len(data) < MOST_BYTES and (more := os.read(fd, 65536)):
            data += more
    finally:
        os.close(fd)
    return data


def parse_unnamed_shmem(data: bytes) -> dict[Place, int]:
    """How many bytes of each such object are mapped; what is mapped several times (as ZGC does with its heap) counts
    once. Lines of any other form say nothing.
    """
    extents: dict[Place, tuple[int, int]] = {}
    for line in data.split(b"\n"):
        fields = line.split(None, 5)
        if len(fields) < 6 or fields[1][3:] != b"s" or not _is_nameless(fields[5]):
            continue
        try:
            begin, end = (int(number, 16) for number in fields[0].split(b"-"))
            offset = int(fields[2], 16)
        except ValueError:
            continue
        place = fields[3], fields[4]
        first, last = extents.get(place, (offset, offset))
        extents[place] = (min(first, offset), max(last, offset + max(0, end - begin)))
    return {place: last - first for place, (first, last) in extents.items()}


def parse_code(data: bytes, library: bytes) -> list[tuple[int, int]]:
    """Where the code of a library is mapped (begin and end), by how its file's name begins."""
    found = []
    for line in data.split(b"\n"):
        fields = line.split(None, 5)
        if len(fields) == 6 and fields[1] == b"r-xp" and fields[5].rpartition(b"/")[2].startswith(library):
            begin, _, end = fields[0].partition(b"-")
            found.append((int(begin, 16), int(end, 16)))
    return found


def _is_nameless(path: bytes) -> bool:
    return path in _NAMELESS or path.startswith(_MEMFD) or (path.startswith(_SHM) and path.endswith(_DELETED))


def parse_anonymous(data: bytes) -> list[tuple[int, int]]:
    """(address, length) of the private ranges without a file, largest first: heap, stacks and what malloc maps. Lines
    that look otherwise, and what the kernel itself put there (``[vdso]``), are left out.
    """
    ranges = []
    for line in data.split(b"\n"):
        fields = line.split(None, 5)
        if len(fields) < 5 or not fields[1].startswith(b"rw") or fields[1][3:4] != b"p" or fields[4] != b"0":
            continue
        if len(fields) == 6 and fields[5].startswith(b"[v"):
            continue
        begin, _, end = fields[0].partition(b"-")
        try:
            address = int(begin, 16)
            length = int(end, 16) - address
        except ValueError:
            continue
        if length > 0:
            ranges.append((address, length))
    return sorted(ranges, key=lambda each: (-each[1], each[0]))


def cut(ranges: list[tuple[int, int]], most_bytes: int) -> list[list[tuple[int, int]]]:
    """The same in pieces of at most so many bytes (whole pages, if that is a multiple), in their order."""
    pieces: list[list[tuple[int, int]]] = [[]]
    room = most_bytes
    for address, length in ranges:
        at = 0
        while at < length:
            part = min(room, length - at)
            pieces[-1].append((address + at, part))
            at, room = at + part, room - part
            if not room:
                pieces.append([])
                room = most_bytes
    return pieces if pieces[-1] else pieces[:-1]

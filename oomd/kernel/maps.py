"""/proc/PID/maps: shared memory that no file system holds, so that it goes with the last who maps it."""

from __future__ import annotations

import os
import re

MOST_BYTES = 1 << 20
"""Some ten thousand mappings; what comes after them is not looked at."""

_UNNAMED = re.compile(
    rb"^([0-9a-f]+)-([0-9a-f]+) ...s ([0-9a-f]+) ([0-9a-f]+:[0-9a-f]+) ([0-9]+) +"
    rb"(?:/memfd:|/dev/zero \(deleted\)$|/drm mm object \(deleted\)$|/dev/shm/.* \(deleted\)$)",
    re.MULTILINE,
)
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
    for match in _UNNAMED.finditer(data):
        begin, end, offset = (int(number, 16) for number in match.group(1, 2, 3))
        place = match[4], match[5]
        first, last = extents.get(place, (offset, offset))
        extents[place] = (min(first, offset), max(last, offset + max(0, end - begin)))
    return {place: last - first for place, (first, last) in extents.items()}

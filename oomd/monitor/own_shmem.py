"""Shared memory that a process has to itself: its death gives it back like anonymous memory.

A JVM's heap under ZGC, the memory of a virtual machine or of a sandbox lie in a memfd. By its anonymous memory alone
such a process would look small, and everybody else would die before it.
"""

from __future__ import annotations

from oomd.kernel.maps import parse_unnamed_shmem, read_maps

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from oomd.kernel.smaps import Rollup
    from oomd.monitor.rows import Row

WORTH_BYTES = 64 << 20
"""Below this the difference decides nothing."""
MOST_KIN = 16
"""Relatives that are asked whether they map the same: who forks a server maps it as well."""


def kin_of(row: Row, rows: Iterable[Row]) -> tuple[int, ...]:
    """Its parent, its children, and its siblings of the same name: who may have inherited a mapping that they have not
    touched, so that no figure of theirs shows it.
    """
    found = [row.ppid] if row.ppid > 1 else []
    for other in rows:
        if len(found) >= MOST_KIN:
            break
        if other.ppid == row.pid or (other.ppid == row.ppid and other.comm == row.comm and other is not row):
            found.append(other.pid)
    return tuple(found)


def read_own_shmem(proc_fd: int, pid: int, kin: Iterable[int], rollup: Rollup) -> int:
    """How much of what it maps nobody else holds, bytes: no more than its proportional share (others who touched it
    count), of objects without a name (a file in tmpfs stays) that no relative maps. What others hold by a descriptor
    alone is not seen.
    """
    share = rollup.pss_shmem_bytes or 0
    if share < WORTH_BYTES:
        return 0
    mapped = _read(proc_fd, pid)
    for other in kin if mapped else ():
        for place in _read(proc_fd, other):
            mapped.pop(place, None)
    return min(share, sum(mapped.values()))


def _read(proc_fd: int, pid: int) -> dict[tuple[bytes, bytes], int]:
    try:
        return parse_unnamed_shmem(read_maps(proc_fd, pid))
    except OSError:  # gone, or not ours to look into
        return {}

"""Who shares a victim's memory map: its death alone gives nothing back (CLONE_VM without CLONE_THREAD, and the time
between vfork and exec).
"""

from __future__ import annotations

from oomd.kernel.syscalls import kcmp_vm

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from oomd.monitor.rows import Row

NEAR = 16
"""Two readings of one map differ by what it grew between them: a sixteenth at most is taken for one map that grows."""


def find_sharers(victim: Row, leaders: Iterable[Row]) -> list[Row]:
    """Those of the leaders that have the victim's very memory map. Whoever shares it has its size, so it is a leader
    too; the kernel is asked only about those of nearly the same size. What it does not answer (EPERM, ENOSYS) counts as
    not shared.
    """
    size = victim.size_bytes
    slack = size // NEAR
    found = []
    for row in leaders:
        if row is victim or abs(row.size_bytes - size) > slack or row.is_kernel_thread:
            continue
        try:
            if kcmp_vm(victim.pid, row.pid):
                found.append(row)
        except OSError:
            continue
    return found

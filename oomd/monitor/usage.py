"""What a set of processes uses together: every page once, as far as that can be told without asking the kernel for
each.

RssAnon of a forked child counts its parent's pages again until one of them writes. So private memory is summed, and
what is shared is counted once
for each family: its largest share. smaps_rollup tells both; a child just forked counts as sharing all that its parent
has until it was measured.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from oomd.monitor.rows import Row


LONGEST_FAMILY = 64
"""Generations that still share memory; more are not looked at."""


def note_forks(rows: Mapping[int, Row], pids: Iterable[int]) -> None:
    """New processes among these rows, each beside its parent."""
    for pid in pids:
        note_fork(rows[pid], rows.get(rows[pid].ppid))


def note_fork(child: Row, parent: Row | None) -> None:
    """A new process: what it may share with its parent, and that nothing measured of the parent before holds."""
    if parent is None or not parent.exact or not child.exact:
        return
    shared = min(child.size_bytes, parent.size_bytes)
    if 2 * shared > parent.size_bytes:  # else it has replaced its image, or never was a copy
        child.shared_guess_bytes = shared
        parent.shared_guess_bytes = shared
        parent.measured_us = None


def sum_usage(rows: Iterable[Row]) -> int:
    """Bytes of anonymous memory, shared memory and swap that those of these processes use together that are in scope
    and whose size is known.
    """
    members = {row.pid: row for row in rows if row.exact and not row.out_of_scope and not row.is_kernel_thread}
    private = 0
    shared: dict[tuple[int, str], int] = {}
    shmem: dict[tuple[int, str], int] = {}
    for row in members.values():
        own = row.private_estimate_bytes()
        private += own
        others = row.size_bytes - own
        if others or row.shmem_bytes:
            family = _family(row, members)
            shared[family] = max(shared.get(family, 0), others)
            shmem[family] = max(shmem.get(family, 0), row.shmem_bytes)
    return private + sum(shared.values()) + sum(shmem.values())


def _family(row: Row, members: dict[int, Row]) -> tuple[int, str]:
    """The oldest ancestor with which it still shares, as a key; orphaned siblings are told by their common parent and
    name.
    """
    head = row
    for _ in range(LONGEST_FAMILY):
        parent = members.get(head.ppid)
        if parent is None or not _shares(head, parent):
            break
        head = parent
    if head is not row or any(other.ppid == row.pid and _shares(other, row) for other in members.values()):
        return (head.pid, "")
    return (row.ppid, row.comm)


def _shares(row: Row, parent: Row) -> bool:
    mine = row.size_bytes - row.private_estimate_bytes() + row.shmem_bytes
    theirs = parent.size_bytes - parent.private_estimate_bytes() + parent.shmem_bytes
    return mine > 0 and 2 * theirs > mine

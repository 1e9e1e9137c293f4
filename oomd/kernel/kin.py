"""Page faults of a process and of those it has outlived, and who its children are; proc_pid_stat(5),
proc_tid_children(5).
"""

from __future__ import annotations

import os

from oomd.kernel.files import KernelFormatError
from oomd.kernel.process import list_pids

MOST_THREADS = 64
"""Whoever has more is not asked for the children of each."""
MOST_DIGITS = 8
"""Of a pid, and the space after it."""
TRIES = 6
"""So often a family is counted anew that changes while it is counted."""


Faults = tuple[int, int, int, bool]
"""Of one process, in this order. Its own since it was born, minor and major ones of all its threads, dead ones too:
mm_account_fault() of mm/memory.c counts each of them as pgfault as well. Those it took over: of the children that it
has waited for, and of those whom they had waited for; of children whose end it ignores there is nothing. Its
threads. Whether it has ended and its parent has not waited yet: its children have other parents then. (A dataclass
would be 6 KiB.)
"""


class UnclearError(Exception):
    """Somebody ended while a family was counted, or it is too large, or the kernel does not tell children."""


def parse_faults(data: bytes) -> Faults:
    """The :class:`Faults` of /proc/PID/stat. Raises KernelFormatError."""
    fields = data[data.rfind(b") ") + 2 :].split(None, 18)
    if len(fields) < 19:
        raise KernelFormatError("/proc/PID/stat", "a field")
    try:
        minor, reaped_minor, major, reaped_major = map(int, fields[7:11])
        return minor + major, reaped_minor + reaped_major, int(fields[17]), fields[0] in (b"Z", b"X")
    except ValueError:
        raise KernelFormatError("/proc/PID/stat", "a field") from None


def count_descendants(proc_fd: int, pid: int, most: int) -> dict[int, int]:
    """All processes that descend from this one, and what each of them and those it has reaped have faulted. Whoever
    was among them at the call and lives at the return is told. Raises :class:`UnclearError`.

    The kernel tells the children one by one: when one that it has told ends, it may leave out others. And whoever ends
    hands over its children, perhaps to one whose children were read already. In either case it is counted anew.
    """
    ended: set[int] = set()
    for _ in range(TRIES):
        found: dict[int, Faults] = {}
        try:
            _count(proc_fd, pid, most, found)
        except OSError:
            continue
        except KernelFormatError:
            break
        before, ended = ended, {kin for kin, (_, _, _, has_ended) in found.items() if has_ended}
        if ended <= before:
            del found[pid]
            return {kin: own + reaped for kin, (own, reaped, _, _) in found.items()}
    raise UnclearError


def _count(proc_fd: int, pid: int, most: int, found: dict[int, Faults]) -> None:
    """This one after its children: whom it reaps meanwhile is counted with it."""
    if pid in found:
        raise ProcessLookupError  # it has another parent than a moment ago
    if len(found) > most:
        raise UnclearError
    fd = os.open(f"{pid}/stat", os.O_RDONLY | os.O_CLOEXEC, dir_fd=proc_fd)
    try:
        found[pid] = _, _, threads, _ = parse_faults(os.pread(fd, 1024, 0))
        for child in _children(proc_fd, pid, threads, most):
            _count(proc_fd, child, most, found)
        found[pid] = parse_faults(os.pread(fd, 1024, 0))
    finally:
        os.close(fd)


def _children(proc_fd: int, pid: int, threads: int, most: int) -> list[int]:
    """Those of all its threads. Raises OSError when one of them ends meanwhile: another takes over its children."""
    if threads == 1:  # any thread that comes now has younger children only
        return _listed(proc_fd, pid, pid, most)
    if threads > MOST_THREADS:
        raise UnclearError
    task_fd = os.open(f"{pid}/task", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=proc_fd)
    try:
        tids = list_pids(task_fd)
    finally:
        os.close(task_fd)
    return [child for tid in tids for child in _listed(proc_fd, pid, tid, most)]


def _listed(proc_fd: int, pid: int, tid: int, most: int) -> list[int]:
    fd = os.open(f"{pid}/task/{tid}/children", os.O_RDONLY | os.O_CLOEXEC, dir_fd=proc_fd)
    try:
        data = b""
        while more := os.read(fd, 4096):
            data += more
            if len(data) > MOST_DIGITS * (most + 1):
                raise UnclearError  # ten thousand would take half a megabyte
    finally:
        os.close(fd)
    try:
        return [int(word) for word in data.split()]
    except ValueError:
        raise KernelFormatError("/proc/PID/task/TID/children", "a pid") from None

"""/proc/PID: one process as the kernel shows it; proc_pid_stat(5), proc_pid_status(5).

A process may be gone at any moment: that is a value (None), not an error.
"""

from __future__ import annotations

import errno
import os

from oomd.kernel.cgroup_namespace import absolute_path
from oomd.kernel.files import KernelFormatError, find_kib, find_number, parse_number
from oomd.model.snapshot import Process, ProcessId
from oomd.model.values import dataclass, replace

_KILL_BIT = 1 << 8
"""SIGKILL, signal 9, in the masks of proc_pid_status(5), where signal 1 is bit 0."""

_GONE = (errno.ENOENT, errno.ESRCH)
_DENIED = (errno.EPERM, errno.EACCES)


@dataclass(frozen=True, slots=True)
class Stat:
    """Fields of /proc/PID/stat."""

    pid: int
    comm: bytes
    """The name as it is: any bytes but NUL, at most 15 of them for ordinary processes (TASK_COMM_LEN) and 63
    for kernel threads.
    """
    state: str
    ppid: int
    flags: int
    """PF_* of include/linux/sched.h."""
    num_threads: int
    start_ticks: int
    """Clock ticks since boot."""
    nice: int
    policy: int
    rss_pages: int
    """Resident pages, per-CPU counts not summed: up to some hundred KiB off. statm and status are exact
    (6.16 and later).
    """
    minflt: int
    majflt: int
    pgrp: int = 0
    """Process group."""
    session: int = 0


def parse_stat(data: bytes) -> Stat:
    """The :class:`Stat` of /proc/PID/stat (fs/proc/array.c). Raises KernelFormatError.

    The name stands in parentheses and unescaped: it may hold parentheses, spaces and newlines, so it ends at
    the *last* ``)``.
    """
    begin, end = data.find(b" ("), data.rfind(b") ")
    fields = data[end + 2 :].split(None, 39)
    if begin < 0 or end < begin or len(fields) < 39:
        raise KernelFormatError("/proc/PID/stat", "a field")
    try:
        return Stat(
            pid=int(data[:begin]),
            comm=data[begin + 2 : end],
            state=fields[0].decode("ascii"),
            ppid=int(fields[1]),
            flags=int(fields[6]),
            num_threads=int(fields[17]),
            start_ticks=int(fields[19]),
            nice=int(fields[16]),
            policy=int(fields[38]),
            rss_pages=int(fields[21]),
            minflt=int(fields[7]),
            majflt=int(fields[9]),
            pgrp=int(fields[2]),
            session=int(fields[3]),
        )
    except ValueError:
        raise KernelFormatError("/proc/PID/stat", "a field") from None


def parse_statm(data: bytes) -> tuple[int, int]:
    """Resident pages and those of them that are file or shared memory; their difference is anonymous.
    proc_pid_statm(5).

    All zero for a zombie, also for one whose threads live on. Raises KernelFormatError.
    """
    fields = data.split(None, 3)
    if len(fields) < 4 or not (fields[1] + fields[2]).isdigit():
        raise KernelFormatError("/proc/PID/statm", "resident")
    return int(fields[1]), int(fields[2])


@dataclass(frozen=True, slots=True)
class Status:
    """Fields of /proc/PID/status."""

    uid: int
    """Effective user id."""
    rss_anon_bytes: int
    rss_file_bytes: int
    rss_shmem_bytes: int
    swap_bytes: int
    """VmSwap: anonymous memory in swap, shmem not counted."""
    kill_pending: bool
    """SIGKILL waits for the thread or for the process."""
    num_threads: int
    tgid: int
    ppid: int = 0
    state: str = ""
    """One letter, as in proc_pid_stat(5)."""
    name: bytes = b""
    """At most 15 bytes, as the process set them."""
    page_tables_bytes: int = 0
    """VmPTE."""


_STATUS = "/proc/PID/status"


def parse_status(data: bytes) -> Status:
    """The :class:`Status` of /proc/PID/status or /proc/PID/task/TID/status (fs/proc/array.c). Raises
    KernelFormatError.

    Kernel threads, zombies and what has left its memory already have no Vm* and Rss* lines: 0. The name on
    the first line has its newlines escaped, so it cannot forge a line.
    """
    uids = data[data.find(b"\nUid:") + 5 :].split(None, 2)
    if len(uids) < 3 or b"\nUid:" not in data:
        raise KernelFormatError(_STATUS, "Uid")
    pending = find_number(data, b"\nSigPnd:", _STATUS, base=16) | find_number(data, b"\nShdPnd:", _STATUS, base=16)
    return Status(
        parse_number(uids[1], _STATUS, "Uid"),
        find_kib(data, b"\nRssAnon:", _STATUS, default=0),
        find_kib(data, b"\nRssFile:", _STATUS, default=0),
        find_kib(data, b"\nRssShmem:", _STATUS, default=0),
        find_kib(data, b"\nVmSwap:", _STATUS, default=0),
        bool(pending & _KILL_BIT),
        find_number(data, b"\nThreads:", _STATUS),
        find_number(data, b"\nTgid:", _STATUS),
        find_number(data, b"\nPPid:", _STATUS, default=0),
        _parse_state(data).decode("ascii", "replace"),
        _parse_name(data),
        find_kib(data, b"\nVmPTE:", _STATUS, default=0),
    )


def frame_of(data: bytes) -> bytes:
    """What /proc/PID/status says besides the figures of memory: name, state, kin, user, pending signals. As long as
    this stays the same :func:`parse_memory` tells all that :func:`parse_status` would. Empty for one without memory.
    """
    begin = data.find(b"\nVmPeak:")
    threads = data.find(b"\nThreads:", begin)
    end = data.find(b"\nSigBlk:", threads)
    return data[:begin] + data[threads:end] if 0 < begin < threads < end else b""


def parse_memory(data: bytes) -> tuple[int, int, int, int, int]:
    """RssAnon, RssFile, RssShmem, VmSwap and VmPTE of /proc/PID/status, in bytes. Raises KernelFormatError."""
    data = data[data.find(b"\nRssAnon:") : data.find(b"\nThreads:") + 1]
    return (
        find_kib(data, b"\nRssAnon:", _STATUS, default=0),
        find_kib(data, b"\nRssFile:", _STATUS, default=0),
        find_kib(data, b"\nRssShmem:", _STATUS, default=0),
        find_kib(data, b"\nVmSwap:", _STATUS, default=0),
        find_kib(data, b"\nVmPTE:", _STATUS, default=0),
    )


def parse_owned_bytes(data: bytes) -> tuple[int, int]:
    """Anonymous memory and swap, and shared memory, in /proc/PID/status, and nothing else of it. Raises
    KernelFormatError.
    """
    owned = find_kib(data, b"\nRssAnon:", _STATUS, default=0) + find_kib(data, b"\nVmSwap:", _STATUS, default=0)
    return owned, find_kib(data, b"\nRssShmem:", _STATUS, default=0)


def parse_cgroup(data: bytes) -> str:
    """The path that says most about where a process belongs; empty where there are no cgroups.

    Its cgroup v2, unless that is the root and there is a v1 memory hierarchy (hybrid hosts may leave v2
    unused): then the path there.
    """
    path = parse_cgroup_v2(data)
    if path in (None, "/"):
        return parse_cgroup_v1_memory(data) or path or ""
    return path or ""


def parse_cgroup_v2(data: bytes) -> str | None:
    """The path on the ``0::`` line of /proc/PID/cgroup; None where cgroup2 is not mounted. cgroups(7). In a cgroup
    namespace of ours it is the cgroup's own name all the same, where that can be known.
    """
    for line in data.split(b"\n"):
        if line.startswith(b"0::"):
            return absolute_path(decode_name(line[3:]))
    return None


def parse_cgroup_v1_memory(data: bytes) -> str | None:
    """The path in the v1 hierarchy that has the memory controller; None where there is none. cgroups(7)."""
    for line in data.split(b"\n"):
        fields = line.split(b":", 2)
        if len(fields) == 3 and b"memory" in fields[1].split(b","):
            return decode_name(fields[2])
    return None


def decode_name(name: bytes) -> str:
    """Text of a name that may be any bytes: undecodable ones as ``\\xNN``."""
    return name.decode("utf-8", "backslashreplace")


def list_pids(proc: int | str) -> list[int]:
    """All pids in a procfs, given by path or descriptor. 1.4 us each."""
    return list(map(int, filter(str.isdecimal, os.listdir(proc))))


def read_pid_file(proc_fd: int, pid: int, name: str, *, denied: bytes | None = None) -> bytes | None:
    """``PID/name`` below ``proc_fd``, to its end; None when the process is gone, which may show at the open
    or at the read.

    Where reading is not permitted (EPERM, EACCES) the answer is ``denied`` when it is given; else None for
    smaps_rollup, which often is not, and OSError for anything else. Other errors raise OSError.
    """
    try:
        fd = os.open(f"{pid}/{name}", os.O_RDONLY | os.O_CLOEXEC, dir_fd=proc_fd)
        try:
            return _read_to_end(fd)
        finally:
            os.close(fd)
    except OSError as error:
        if error.errno in _GONE:
            return None
        if error.errno in _DENIED and (denied is not None or name == "smaps_rollup"):
            return denied
        raise


def _read_to_end(fd: int) -> bytes:
    data = os.read(fd, 8192)
    if data:
        while more := os.read(fd, 65536):
            data += more
    return data


def read_thread_status(proc_fd: int, pid: int) -> Status | None:
    """The status of the first live thread; None when none lives.

    When a main thread has ended and others go on, /proc/PID/status shows a zombie without memory; the
    threads tell the truth. A thread that still has its memory comes before one that has left it already.
    Raises KernelFormatError or OSError.
    """
    try:
        task_fd = os.open(f"{pid}/task", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=proc_fd)
    except OSError as error:
        if error.errno in _GONE:
            return None
        raise
    try:
        return _find_live_thread(task_fd)
    finally:
        os.close(task_fd)


def _find_live_thread(task_fd: int) -> Status | None:
    without_memory = None
    try:
        tids = list_pids(task_fd)
    except OSError as error:
        if error.errno in _GONE:
            return None
        raise
    for tid in tids:
        data = read_pid_file(task_fd, tid, "status")
        if not data or _parse_state(data) in (b"Z", b"X"):
            continue
        if b"\nRssAnon:" in data:
            return parse_status(data)
        without_memory = without_memory or parse_status(data)
    return without_memory


def _parse_name(status: bytes) -> bytes:
    # proc_task_name() escapes newlines and backslashes here, and only those; stat does not.
    name = status[6 : status.find(b"\n")] if status.startswith(b"Name:\t") else b""
    return name if b"\\" not in name else name.replace(b"\\n", b"\n").replace(b"\\\\", b"\\")


def _parse_state(status: bytes) -> bytes:
    at = status.find(b"\nState:\t")
    return status[at + 8 : at + 9] if at >= 0 else b""


def process_of(stat: Stat, status: Status | None = None, *, uid: int = -1, oom_score_adj: int = 0) -> Process:
    """One process as its stat and status tell; without status it owns nothing, and ``uid`` is whose it is."""
    process = Process(
        id=ProcessId(stat.pid, stat.start_ticks),
        ppid=stat.ppid,
        comm=decode_name(stat.comm),
        state=stat.state,
        flags=stat.flags,
        num_threads=stat.num_threads,
        uid=uid,
        oom_score_adj=oom_score_adj,
        rss_anon_bytes=0,
        rss_shmem_bytes=0,
        swap_bytes=0,
        nice=stat.nice,
        policy=stat.policy,
    )
    if status is None:
        return process
    return replace(
        process,
        uid=status.uid,
        rss_anon_bytes=status.rss_anon_bytes,
        rss_shmem_bytes=status.rss_shmem_bytes,
        swap_bytes=status.swap_bytes,
        kill_pending=status.kill_pending,
        rss_file_bytes=status.rss_file_bytes,
        page_tables_bytes=status.page_tables_bytes,
    )

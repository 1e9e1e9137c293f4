"""One registered process as procfs shows it now: what registration proves, what a kill is decided and told by."""

from __future__ import annotations

import os

from oomd.kernel.files import KernelFormatError, find_number
from oomd.kernel.process import Stat, Status, decode_name, parse_stat, parse_status, process_of, read_pid_file
from oomd.lmkd.wire import Usage
from oomd.model.snapshot import Process, ProcessId
from oomd.model.values import dataclass

NS_PER_SECOND = 1_000_000_000
TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
MOST_NAME_BYTES = 4096
"""Of a command line."""
_STATUS = "/proc/PID/status"


@dataclass(frozen=True, slots=True)
class Seen:
    """A process and the files that it was read from."""

    process: Process
    stat: Stat
    status: Status
    cmdline: str

    @property
    def rss_bytes(self) -> int:
        """VmRSS."""
        return self.status.rss_anon_bytes + self.status.rss_file_bytes + self.status.rss_shmem_bytes

    @property
    def usage(self) -> Usage:
        """What a statistics packet tells of it."""
        return Usage(
            pgfault=self.stat.minflt,
            pgmajfault=self.stat.majflt,
            rss_bytes=self.rss_bytes,
            cache_bytes=self.status.rss_file_bytes,
            swap_bytes=self.status.swap_bytes,
            start_ns=self.stat.start_ticks * NS_PER_SECOND // TICKS_PER_SECOND,
        )


def read_leader(proc_fd: int, pid: int) -> int | None:
    """Tgid of a process or thread; None where it cannot be told, or nobody is there."""
    try:
        data = read_pid_file(proc_fd, pid, "status", denied=b"")
        return find_number(data, b"\nTgid:", _STATUS) if data else None
    except (OSError, KernelFormatError):
        return None


def read_uid(proc_fd: int, pid: int) -> int | None:
    """Its effective user id; None where it cannot be told."""
    try:
        data = read_pid_file(proc_fd, pid, "status", denied=b"")
        return parse_status(data).uid if data else None
    except (OSError, KernelFormatError):
        return None


def read_identity(proc_fd: int, pid: int) -> Process | None:
    """Who has this pid now, without its memory: enough for a warrant. None when nobody has, or nobody may say."""
    try:
        data = read_pid_file(proc_fd, pid, "stat", denied=b"")
        return process_of(parse_stat(data), uid=0) if data else None
    except (OSError, KernelFormatError):
        return None


def read_seen(proc_fd: int, process_id: ProcessId, adj: int, name: str = "", *, dying: bool = False) -> Seen | None:
    """A candidate just before its kill, called by this name where one is known; None when it is gone, is another
    process by now, or has left its memory already: a zombie, or (unless ``dying``) one on its way out.
    """
    pid = process_id.pid
    try:
        stat_data = read_pid_file(proc_fd, pid, "stat", denied=b"")
        status_data = read_pid_file(proc_fd, pid, "status", denied=b"")
        if not stat_data or not status_data or b"\nVmRSS:" not in status_data or b"\nVmSwap:" not in status_data:
            return None
        stat, status = parse_stat(stat_data), parse_status(status_data)
        if stat.start_ticks != process_id.start_ticks or status.tgid != pid:
            return None
    except (OSError, KernelFormatError):
        return None
    process = process_of(stat, status, uid=0, oom_score_adj=adj)
    if process.is_dead or (process.is_dying and not dying):
        return None
    return Seen(process, stat, status, name or process.comm)


def read_cmdline(proc_fd: int, pid: int) -> str:
    """Its first word of argv, as Android's processes name themselves there; empty for who has none, or is gone. May
    wait for its owner.
    """
    try:
        fd = os.open(f"{pid}/cmdline", os.O_RDONLY | os.O_CLOEXEC, dir_fd=proc_fd)
        try:
            data = os.read(fd, MOST_NAME_BYTES)
        finally:
            os.close(fd)
    except OSError:
        return ""
    return decode_name(data.split(b"\0", 1)[0])


def read_comm(proc_fd: int, pid: int) -> str:
    """The kernel's name of it, for which nobody waits; empty when it is gone."""
    process = read_identity(proc_fd, pid)
    return "" if process is None else process.comm


def read_rss_pages(proc_fd: int, pid: int) -> int | None:
    """Resident pages, the second field of statm; None when it cannot be read."""
    try:
        data = read_pid_file(proc_fd, pid, "statm", denied=b"")
        return int(data.split()[1]) if data else None
    except (OSError, ValueError, IndexError):
        return None

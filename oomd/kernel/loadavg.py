"""/proc/loadavg: its last field is the pid handed out last; proc_loadavg(5)."""

from __future__ import annotations

from oomd.kernel.files import KernelFormatError, parse_number


def parse_last_pid(data: bytes) -> int:
    """The pid (or thread id) that was handed out last in the PID namespace of this procfs. Raises
    KernelFormatError.
    """
    fields = data.split()
    if len(fields) != 5:
        raise KernelFormatError("/proc/loadavg", "last pid")
    return parse_number(fields[4], "/proc/loadavg", "last pid")


def parse_tasks(data: bytes) -> int:
    """How many tasks (processes and threads) there are. Raises KernelFormatError."""
    fields = data.split()
    if len(fields) != 5:
        raise KernelFormatError("/proc/loadavg", "tasks")
    return parse_number(fields[3].partition(b"/")[2], "/proc/loadavg", "tasks")


def parse_runnable(data: bytes) -> int:
    """How many tasks run or could run just now, the reader included. Raises KernelFormatError."""
    fields = data.split()
    if len(fields) != 5:
        raise KernelFormatError("/proc/loadavg", "runnable tasks")
    return parse_number(fields[3].partition(b"/")[0], "/proc/loadavg", "runnable tasks")

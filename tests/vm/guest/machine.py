"""What the harness does to the guest: locks itself, sets up swap, the kernel's trace, and talks with systemd."""

import contextlib
import ctypes
import os
import signal
import subprocess

MODULES = "/usr/lib/vm-modules"
TRACING = "/sys/kernel/tracing"
TRACE = f"{TRACING}/instances/lab"
_MCL_CURRENT_AND_FUTURE = 3


def lock_memory() -> None:
    """So that the harness goes on sampling while everything else waits for memory."""
    if ctypes.CDLL(None, use_errno=True).mlockall(_MCL_CURRENT_AND_FUTURE) != 0:
        raise OSError(ctypes.get_errno(), "mlockall")


def be_realtime() -> None:
    """Above every killer: the measure must not depend on who is measured. Children do not inherit it."""
    os.sched_setscheduler(0, os.SCHED_FIFO | os.SCHED_RESET_ON_FORK, os.sched_param(90))


def write(path: str, text: str) -> None:
    """One write to a kernel file."""
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)


def read(path: str) -> str:
    """A small file whole; empty if it is not there."""
    try:
        with open(path, encoding="utf-8", errors="backslashreplace") as file:
            return file.read()
    except OSError:
        return ""


def run(*command: str, check: bool = True, timeout: float = 60) -> str:
    """The output of a command."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=timeout)
    if check and done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}: {done.returncode}: {done.stdout}{done.stderr}")
    return done.stdout


def set_up_swap(kind: str, size_mib: int) -> None:
    """``none``, ``zram`` or ``disk`` (the third drive)."""
    if kind == "none":
        return
    device = "/dev/vdc"
    if kind == "zram":
        for name in read(f"{MODULES}/zram.order").split():
            run("insmod", f"{MODULES}/{name}")
        write("/sys/block/zram0/disksize", f"{size_mib}M")
        device = "/dev/zram0"
    run("mkswap", device)
    run("swapon", device)


def start_trace() -> None:
    """Signals that kill and exits, with CLOCK_MONOTONIC times: who died when, and by whose hand."""
    if not os.path.isdir(f"{TRACING}/events"):
        run("mount", "-t", "tracefs", "tracefs", TRACING)
    os.mkdir(TRACE)
    write(f"{TRACE}/trace_clock", "mono")
    write(f"{TRACE}/buffer_size_kb", "1024")
    write(f"{TRACE}/events/signal/signal_generate/filter", "sig == 9 || sig == 15")
    for event in ("signal/signal_generate", "sched/sched_process_exit"):
        write(f"{TRACE}/events/{event}/enable", "1")


def mark(text: str) -> None:
    """A line of our own in the trace."""
    write(f"{TRACE}/trace_marker", text)


def install_oomd(python_site: str) -> None:
    """The unpacked wheel from the job disk, where ``pip install`` would have put it."""
    run("mount", "--bind", "/job/site", python_site)


def save(name: str, text: str) -> None:
    """A result file, on disk before this returns: the guest may hang next."""
    path = f"/job/out/{name}"
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w", encoding="utf-8", errors="backslashreplace") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def group_of(unit: str) -> str:
    """The path of a unit's control group; empty where it has none."""
    return run("systemctl", "show", "-P", "ControlGroup", unit).strip()


def processes_in(group: str) -> list[int]:
    """The pids in a control group."""
    return [int(pid) for pid in read(f"/sys/fs/cgroup{group}/cgroup.procs").split()] if group else []


def processes_of(unit: str) -> list[int]:
    """The pids in a unit's control group."""
    return processes_in(group_of(unit))


def stop_trace() -> None:
    """What happens from now on is not the killer's affair."""
    write(f"{TRACE}/tracing_on", "0")


def make_room(pids: list[int]) -> None:
    """The scenario is over: its actors end, and their files in /dev/shm go."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    for entry in os.scandir("/dev/shm"):
        if entry.is_file():
            os.unlink(entry.path)

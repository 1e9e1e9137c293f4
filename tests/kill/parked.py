"""Victims that cannot run to their end: a tracer holds them where the end begins, with all their memory."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from tests.reap.victims import hold

if TYPE_CHECKING:
    from collections.abc import Iterator

PTRACE_CONT = 7
PTRACE_SEIZE = 0x4206
PTRACE_O_TRACEEXIT = 0x40
WALL = 0x40000000
"""Threads too; wait(2)."""
PATIENCE_S = 90.0
LIBC = ctypes.CDLL(None, use_errno=True)
LIBC.ptrace.argtypes = (ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p)
LIBC.ptrace.restype = ctypes.c_long


@contextlib.contextmanager
def parked(mib: int) -> Iterator[subprocess.Popen[bytes]]:
    """A child that owns so much and, once killed, stops before it lets go of anything (ptrace(2), PTRACE_EVENT_EXIT)
    until the block ends. Whoever calls is its tracer: one thread for all of the block.
    """
    child = hold(mib)
    with _parked(child, child.pid):
        yield child


@contextlib.contextmanager
def parked_thread(mib: int) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """The same with a second thread, whose id is given: only that one stops, and the main thread ends before it."""
    code = f"""
import os, threading, time
held = bytearray(b"x") * ({mib} << 20)
threading.Thread(target=lambda: (print(threading.get_native_id(), flush=True), time.sleep(300)), daemon=True).start()
time.sleep(300)
"""
    child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert child.stdout is not None
    with child.stdout:
        tid = int(child.stdout.readline())
    with _parked(child, tid):
        yield child, tid


@contextlib.contextmanager
def _parked(child: subprocess.Popen[bytes], tid: int) -> Iterator[None]:
    try:
        assert LIBC.ptrace(PTRACE_SEIZE, tid, None, PTRACE_O_TRACEEXIT) == 0, os.strerror(ctypes.get_errno())
        yield
    finally:
        os.kill(child.pid, signal.SIGKILL)  # Popen.kill() would take its stop for its end
        _, status = os.waitpid(tid, WALL)
        if os.WIFSTOPPED(status):
            LIBC.ptrace(PTRACE_CONT, tid, None, None)
            if tid != child.pid:
                os.waitpid(tid, WALL)  # a traced thread stays until its tracer has taken note of its end
            child.wait()
        else:
            child.returncode = os.waitstatus_to_exitcode(status)


def anon_mib(pid: int) -> int:
    """What it still owns; 0 when it has let go of its memory."""
    for line in Path(f"/proc/{pid}/status").read_text("utf-8", "replace").splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) >> 10
    return 0


def wait_parked(pid: int) -> None:
    """Until a killed one has stopped at its end."""
    until = time.monotonic() + PATIENCE_S
    while b"\nState:\tt" not in Path(f"/proc/{pid}/status").read_bytes():
        assert time.monotonic() < until
        os.sched_yield()

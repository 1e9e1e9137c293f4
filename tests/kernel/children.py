"""Real processes of a test's own, which never outlive it."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

PATIENCE_S = 90.0
_ROOT = Path(__file__).parent.parent.parent

WAIT = "print(flush=True); input()"
"""Says that it is ready and waits until it is told to go on, or killed."""

HOLD_32_MIB = f"held = bytearray(32 << 20); {WAIT}"

DEAD_LEADER = """
import ctypes, os, threading
held = bytearray(b"x") * (64 << 20)
def go_on():
    own = f"/proc/self/task/{os.getpid()}/status"
    while b"\\nState:\\tZ" not in open(own, "rb", buffering=0).read():
        os.sched_yield()
    os.write(1, b"%d\\n" % threading.get_native_id())
    os.read(0, 1)
    os._exit(len(held) & 1)
threading.Thread(target=go_on).start()
ctypes.CDLL(None).pthread_exit(None)
"""
"""Its main thread ends while another, which it names by its tid, holds 64 MiB."""

Child = subprocess.Popen[bytes]


@contextlib.contextmanager
def child(code: str) -> Iterator[Child]:
    """A Python process that runs ``code`` and has said its first line, which :func:`said` gives; killed and
    reaped at the end.
    """
    command = [sys.executable, "-c", code]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=_ROOT)
    with process:
        try:
            yield process
        finally:
            process.kill()


def said(process: Child) -> bytes:
    """The next line of the child, without its end; empty when it has ended."""
    return _pipe(process.stdout).readline().rstrip(b"\n")


def settled(process: Child) -> None:
    """It has said its line and waits in ``input()``: until it is told to go on it does nothing more, and owns what it
    owns.
    """
    until_asleep(process.pid)


def until_asleep(pid: int) -> None:
    """A process that was just heard of is through with that, and waits."""
    end = time.monotonic() + PATIENCE_S
    while Path(f"/proc/{pid}/stat").read_bytes().rpartition(b") ")[2][:1] != b"S":
        assert time.monotonic() < end
        os.sched_yield()


def go_on(process: Child) -> None:
    """Lets the child that waits in ``input()`` go on."""
    pipe = _pipe(process.stdin)
    pipe.write(b"\n")
    pipe.flush()


def _pipe(pipe: IO[bytes] | None) -> IO[bytes]:
    assert pipe is not None
    return pipe

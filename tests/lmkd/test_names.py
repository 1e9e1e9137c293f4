"""Names of real processes, by the thread that reads them."""

from __future__ import annotations

import os
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from oomd.lmkd.names import AGAIN_US, MOST_ASKED, Names
from tests.kernel.children import WAIT, child, said
from tests.lmkd.client import PATIENCE_S
from tests.lmkd.served import sleepers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.integration


@contextmanager
def names(now: list[int]) -> Iterator[Names]:
    """Names of this machine, at a time that the test says."""
    proc_fd = os.open("/proc", os.O_RDONLY | os.O_DIRECTORY)
    found = Names(proc_fd, lambda: now[0])
    found.start()
    yield found
    found.stop()
    found.wait_end()
    os.close(proc_fd)


def wait_for(what: Callable[[], bool]) -> None:
    """Until the thread has read it."""
    end = time.monotonic() + PATIENCE_S
    while not what():
        assert time.monotonic() < end
        os.sched_yield()


RENAMES_ITSELF = f"""
import ctypes
{WAIT}
name = ctypes.create_string_buffer(b"com.example:ui")
fields = open("/proc/self/stat").read().rpartition(")")[2].split()
start, end = int(fields[45]), int(fields[46])
ctypes.memset(start, 0, end - start)
ctypes.memmove(start, name, len(name.value))
{WAIT}
"""
"""Writes another name over its argv, as Android's processes do (fields 48 and 49 of proc_pid_stat(5))."""


def test_read_at_registration_and_again_later() -> None:
    """A process that takes its name after it was registered has it at the next registration, a second later."""
    now = [0]
    with names(now) as found, child(RENAMES_ITSELF) as process:
        said(process)
        found.ask(process.pid)
        wait_for(lambda: "python" in found.of(process.pid))
        assert process.stdin is not None
        process.stdin.write(b"\n")
        process.stdin.flush()
        said(process)
        now[0] = AGAIN_US - 1
        found.ask(process.pid)
        assert "python" in found.of(process.pid)
        now[0] = AGAIN_US
        found.ask(process.pid)
        wait_for(lambda: found.of(process.pid) == "com.example:ui")


def test_of_another_process_nothing_is_known() -> None:
    """A pid that was handed out again, one that is forgotten, one that nobody has."""
    with names([0]) as found, sleepers(2) as (one, other):
        start = int(Path(f"/proc/{one}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[19])
        found.ask(one)
        wait_for(lambda: found.of(one, start) == "sleep")
        assert found.of(one, start + 1) == ""
        assert found.of(other) == ""
        found.forget(one)
        assert found.of(one) == ""
        found.ask(1 << 22)
        found.ask(other)
        wait_for(lambda: found.of(other) == "sleep")
        assert found.of(1 << 22) == ""


def test_names_have_an_end() -> None:
    """However many pids speak: beyond so many none is asked for, and what waits for the thread is bounded."""
    with names([0]) as found:
        for pid in range(-2 * MOST_ASKED, 0):  # of nobody
            found.ask(pid)
        assert len(found._asked_us) <= MOST_ASKED


def test_one_that_hangs_holds_up_names_only() -> None:
    """Who waits for ever for a page of somebody leaves the others unknown; asking goes on, and waits for nothing."""
    with sleepers(1) as (pid,):
        proc_fd = os.open("/proc", os.O_RDONLY | os.O_DIRECTORY)
        found = Names(proc_fd, lambda: 0)  # its thread never runs
        for number in range(5000):
            found.ask(pid + number)
        assert found.of(pid) == ""
        os.close(proc_fd)

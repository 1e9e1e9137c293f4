"""Which descriptors this process has, for tests which say that none is left behind.

They are compared one by one, not counted: what an earlier test has left to the garbage collector, or to a thread that
was told to end, may be closed at any moment.
"""

from __future__ import annotations

import contextlib
import gc
import os
import time

PATIENCE_S = 90.0


def open_descriptors() -> dict[int, str]:
    """Number and what it is of."""
    found = {}
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):  # the one that the list was read through
            found[int(name)] = os.readlink(f"/proc/self/fd/{name}")
    return found


def opened_since(before: dict[int, str]) -> list[str]:
    """What is open now, was not then, and that nobody has merely forgotten to collect."""
    gc.collect()
    return sorted(what for number, what in open_descriptors().items() if before.get(number) != what)


def left_since(before: dict[int, str]) -> list[str]:
    """The same once other threads, which close theirs in their own time, have had time enough for it."""
    end = time.monotonic() + PATIENCE_S
    while (left := opened_since(before)) and time.monotonic() < end:
        os.sched_yield()
    return left

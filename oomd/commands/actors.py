"""The cast of ``oomd demo``: small processes that take memory on purpose, each within its own bounds.

``python -m oomd.commands.actors stage`` starts the others and ends them; every actor also ends by itself after
:data:`LONGEST_S`.
"""

from __future__ import annotations

import mmap
import os
import signal
import subprocess
import sys
import time

from oomd.kernel.syscalls import prctl_set_pdeathsig

MIB = 1 << 20
LONGEST_S = 50.0
BYSTANDER_BYTES = 96 * MIB
LEAK_STEP_BYTES = 8 * MIB
LEAK_PAUSE_S = 0.04
LEAK_MOST_BYTES = 640 * MIB
HOG_BYTES = 352 * MIB
NUDGE_STEP_BYTES = 4 * MIB
NUDGE_MOST_BYTES = 192 * MIB


class Memory:
    """Anonymous memory that really is in use: every page written."""

    def __init__(self) -> None:
        self._blocks: list[mmap.mmap] = []
        self.size_bytes = 0

    def take(self, size_bytes: int) -> None:
        """Map and touch this much more."""
        block = mmap.mmap(-1, size_bytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        for offset in range(0, size_bytes, mmap.PAGESIZE):
            block[offset] = 1
        self._blocks.append(block)
        self.size_bytes += size_bytes


def bystander() -> None:
    """Holds a little memory and does a little work: must live."""
    memory = Memory()
    memory.take(BYSTANDER_BYTES)
    _say("ready")
    _idle()


def leaker() -> None:
    """Takes more and more."""
    memory = Memory()
    while memory.size_bytes < LEAK_MOST_BYTES:
        memory.take(LEAK_STEP_BYTES)
        time.sleep(LEAK_PAUSE_S)
    _idle()


def hog() -> None:
    """Holds much, ignores SIGTERM, and runs only when nobody else wants to: after a plain SIGKILL its memory would
    stay.
    """
    memory = Memory()
    memory.take(HOG_BYTES)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    os.nice(19)
    os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    _say("ready")
    _idle()


def spinner() -> None:
    """Keeps one CPU busy."""
    end = time.monotonic() + LONGEST_S
    while time.monotonic() < end:
        pass


def nudge() -> None:
    """Takes the last of the budget in small steps."""
    memory = Memory()
    while memory.size_bytes < NUDGE_MOST_BYTES:
        memory.take(NUDGE_STEP_BYTES)
        time.sleep(LEAK_PAUSE_S)
    _idle()


def stage() -> None:
    """The play: a leak beside a bystander, then a starved hog beside busy CPUs."""
    cast: list[subprocess.Popen[bytes]] = []
    try:
        witness = _start("bystander", cast)
        _say("act 1: a leaker beside a bystander")
        leak = _start("leaker", cast, wait=False)
        leak.wait(timeout=LONGEST_S / 2)
        _say("act 2: a hog that gets no CPU, beside busy processors")
        hogged = _start("hog", cast)
        for _ in range(os.cpu_count() or 1):
            _start("spinner", cast, wait=False)
        push = _start("nudge", cast, wait=False)
        hogged.wait(timeout=LONGEST_S / 2)
        push.kill()
        _say("the bystander lives" if witness.poll() is None else "the bystander died")
        sys.exit(0 if witness.poll() is None else 1)
    except subprocess.TimeoutExpired:
        _say("nobody was killed in time")
        sys.exit(1)
    finally:
        for actor in cast:
            actor.kill()
        for actor in cast:
            actor.wait()


def _start(name: str, cast: list[subprocess.Popen[bytes]], *, wait: bool = True) -> subprocess.Popen[bytes]:
    """Start an actor; with ``wait``, until it says that it is ready."""
    actor = subprocess.Popen([sys.executable, "-m", "oomd.commands.actors", name], stdout=subprocess.PIPE)
    cast.append(actor)
    if wait and actor.stdout is not None:
        actor.stdout.readline()
    return actor


def _say(text: str) -> None:
    os.write(1, f"{text}\n".encode())


def _idle() -> None:
    time.sleep(LONGEST_S)


def main() -> None:
    """Play the part that the argument names."""
    parts = {"stage": stage, "bystander": bystander, "leaker": leaker, "hog": hog, "spinner": spinner, "nudge": nudge}
    part = sys.argv[1]
    if part != "stage":
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the stage ends its cast
        signal.alarm(int(LONGEST_S))
        prctl_set_pdeathsig(signal.SIGKILL)  # never outlives the stage, however that ends
    with open("/proc/self/comm", "w", encoding="ascii") as comm:
        comm.write(part)
    parts[part]()


if __name__ == "__main__":
    main()

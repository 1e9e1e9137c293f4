"""The scheduling of our own threads; sched(7), setpriority(2)."""

from __future__ import annotations

import os

NICEST = -20
REAP_NICE = -16
"""Of a reap that has lasted long: nearly all of a CPU, while those who need little of it get that."""
LOOP_PRIORITY = 10
"""Real-time priority of the loop, and of those who kill and reap: equals never come between each other's steps, and the
loop may go from one of these threads to another."""


def be_realtime(priority: int) -> bool:
    """SCHED_FIFO for the calling thread, not inherited; whether it was permitted."""
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO | os.SCHED_RESET_ON_FORK, os.sched_param(priority))
    except OSError:
        return False
    return True


def be_prompt(nice: int = NICEST, tid: int = 0) -> None:
    """This nice for a thread (0: the calling one), where permitted. Threads of a real-time process begin at nice 0
    (SCHED_RESET_ON_FORK); one that holds the interpreter's lock and gets no CPU beside busy processes holds up
    everybody else, whatever their class.
    """
    try:
        os.setpriority(os.PRIO_PROCESS, tid, nice)
    except OSError:
        pass


def run_on(cpus: set[int]) -> None:
    """The CPUs of the calling thread; where a cpuset has taken all of them meanwhile, it stays where it is."""
    try:
        os.sched_setaffinity(0, cpus)
    except OSError:
        pass

"""What is derived from a status and a process."""

from __future__ import annotations

from dataclasses import replace

import pytest

from oomd.model.snapshot import PF_EXITING, PF_KTHREAD, Budget
from oomd.model.units import GIB
from tests.fakes.builders import process, status


def test_tmpfs_is_no_part_of_the_base() -> None:
    """F17: what tmpfs pins cannot be won by killing, so shares are of what is available or anonymous."""
    assert status(mem_available_bytes=GIB, anon_bytes=2 * GIB, shmem_bytes=5 * GIB).base_bytes == 3 * GIB


def test_arc_counts_as_available() -> None:
    """F19: what ZFS would give back is available, and part of the base."""
    machine = status(mem_available_bytes=GIB, anon_bytes=GIB, arc_bytes=GIB)
    assert (machine.available_bytes, machine.base_bytes) == (2 * GIB, 3 * GIB)


def test_budget_stands_in_the_place_of_the_machine() -> None:
    """F12: under a budget neither the machine's memory nor its swap counts."""
    guarded = replace(status(swap_total_bytes=GIB), budget=Budget(4 * GIB, 5 * GIB, "processes"))
    assert (guarded.available_bytes, guarded.base_bytes, guarded.has_swap) == (-GIB, 4 * GIB, False)
    assert status(swap_total_bytes=GIB).has_swap


@pytest.mark.parametrize(
    ("state", "threads", "flags", "pending", "dying", "dead"),
    [
        ("S", 1, 0, False, False, False),
        ("S", 1, 0, True, True, False),
        ("D", 4, PF_EXITING, False, True, False),
        ("X", 1, 0, False, True, False),
        ("Z", 1, PF_EXITING, False, True, True),
        ("Z", 5, PF_EXITING, False, False, False),
        ("Z", 5, PF_EXITING, True, True, False),
    ],
)
def test_dying_and_dead(state: str, threads: int, flags: int, pending: bool, dying: bool, dead: bool) -> None:
    """F15: a leader that has exited while its threads hold the memory is neither dead nor dying, unless killed."""
    seen = process(state=state, num_threads=threads, flags=flags, kill_pending=pending)
    assert (seen.is_dying, seen.is_dead, seen.is_kernel_thread) == (dying, dead, False)


def test_kernel_threads_are_known_by_their_flag() -> None:
    """F12: the flag tells in every PID namespace, where "child of pid 2" does not."""
    assert process(flags=PF_KTHREAD).is_kernel_thread

"""Credit: the bytes that kills under way are expected to give back, so that no second innocent dies for a lagging
counter.

A victim's memory comes back some time after the signal: the process must run to free it, the reaper needs its
milliseconds, and what is
freed may lie on per-CPU lists that MemAvailable does not count. Until then its expected bytes count as available, up to
a deadline that
grows with its size.
"""

from __future__ import annotations

from oomd.model.decision import Candidate, Credit
from oomd.model.snapshot import MemoryStatus
from oomd.model.units import GIB, MILLISECOND_US, SECOND_US
from oomd.model.values import replace

DEADLINE_US = 1 * SECOND_US
DEADLINE_PER_GIB_US = 1 * SECOND_US
"""4 GiB of small pages come back in 0.2–0.7 s on a machine that reaps (starved victims included): 1 s per GiB on top of
1 s is several
times that, and still bounds how long a stuck victim holds up the next kill."""

SETTLE_US = 1 * SECOND_US
"""How long after the death the counters may take to show the memory (per-CPU lists, deferred frees)."""

MEMCG_SETTLE_US = 100 * MILLISECOND_US
"""A cgroup's memory.stat lags behind the uncharging by its flush."""

PROGRESS_SHARE = 32
"""Another part in so many of the expected bytes is progress."""

BACK_SHARE = 0.9
"""Nine tenths of the expected bytes count as "the memory is back": the victim may have freed some by itself meanwhile.
"""

SHARED_PART = 10
"""Shared memory that is more than one part in so many of what is expected counts for its kind."""

DRY_RUN_US = 10 * SECOND_US
"""In a dry run nothing comes back; the same decision is told again after this long."""

TERM = "term"
KILL = "kill"
DEAD = "dead"


def deadline_us(expected_bytes: int) -> int:
    """How long after SIGKILL these bytes count as available."""
    return DEADLINE_US + expected_bytes * DEADLINE_PER_GIB_US // GIB


def counted_bytes(status: MemoryStatus) -> int:
    """Available memory with the per-CPU lists, where freed pages wait."""
    return status.available_bytes + status.pcp_bytes


def open_credit(
    decision_id: str,
    victim: Candidate,
    ruleset: str,
    phase: str,
    status: MemoryStatus,
    patience_us: int | None = None,
) -> Credit:
    """The credit of a victim that was signalled just now; ``patience_us`` is its grace, or the deadline where it
    differs.
    """
    expected = victim.freeable_bytes
    swap = min(victim.process.swap_bytes, expected)
    if status.budget is not None:
        memory, swap = expected, 0  # a budget counts swap as usage, so both come back as one amount
    else:
        memory = expected - swap
    if patience_us is None:
        patience_us = deadline_us(expected)
    return Credit(
        decision_id=decision_id,
        process=victim.process,
        ruleset=ruleset,
        phase=phase,
        expected_bytes=memory,
        expected_swap_bytes=swap,
        signal_us=status.time_us,
        deadline_us=status.time_us + patience_us,
        available_at_signal_bytes=counted_bytes(status),
        kill_us=status.time_us if phase == KILL else None,
        lowest_bytes=counted_bytes(status),
        lowest_swap_bytes=status.swap_free_bytes,
        part_of=victim.part_of,
    )


def killed(credit: Credit, now_us: int) -> Credit:
    """The same victim after SIGKILL: the deadline begins anew."""
    patience = deadline_us(credit.expected_bytes + credit.expected_swap_bytes)
    return replace(credit, phase=KILL, kill_us=now_us, deadline_us=now_us + patience)


def doomed(credit: Credit, now_us: int) -> Credit:
    """The same victim when SIGTERM turned out to be its end: there is no grace to wait for, and no SIGKILL to send."""
    if credit.phase != TERM:
        return credit
    patience = deadline_us(credit.expected_bytes + credit.expected_swap_bytes)
    return replace(credit, phase=KILL, deadline_us=now_us + patience)


def died(credit: Credit, now_us: int) -> Credit:
    """The same victim when its pidfd became readable: its memory is free, or on the way through per-CPU lists."""
    return replace(credit, phase=DEAD, death_us=now_us, deadline_us=now_us + SETTLE_US)


def progressed(credits: tuple[Credit, ...], status: MemoryStatus) -> tuple[Credit, ...]:
    """The credits after another look at the machine: what came back since each signal.

    What came back is the rise above the lowest point since the signal, given to the victims in the order of their
    signals.
    """
    progress = []
    given = given_swap = 0
    for credit in credits:
        lowest = min(credit.lowest_bytes, counted_bytes(status))
        lowest_swap = min(credit.lowest_swap_bytes, status.swap_free_bytes)
        returned = _share_of(counted_bytes(status) - lowest - given, credit.expected_bytes)
        returned_swap = _share_of(status.swap_free_bytes - lowest_swap - given_swap, credit.expected_swap_bytes)
        returned, returned_swap = (
            max(returned, credit.returned_bytes),
            max(returned_swap, credit.returned_swap_bytes),
        )
        given, given_swap = given + returned, given_swap + returned_swap
        back = returned + returned_swap >= BACK_SHARE * (credit.expected_bytes + credit.expected_swap_bytes)
        deadline, progress_bytes = _put_off(credit, returned + returned_swap, status.time_us)
        if _sums_processes(status) and not is_stripped(credit):
            back = (
                False  # a process that lets go of its memory map shows nothing any more long before its pages are free
            )
        progress.append(
            replace(
                credit,
                lowest_bytes=lowest,
                lowest_swap_bytes=lowest_swap,
                returned_bytes=returned,
                returned_swap_bytes=returned_swap,
                deadline_us=deadline,
                progress_bytes=progress_bytes,
                memory_us=status.time_us if back and credit.memory_us is None else credit.memory_us,
            )
        )
    return tuple(progress)


def _put_off(credit: Credit, returned_bytes: int, now_us: int) -> tuple[int, int]:
    """The deadline, and what had come back when it was set: a killed victim whose memory keeps coming back is given
    another second. A machine may be a hundred times slower than those the deadline was measured on.
    """
    expected = credit.expected_bytes + credit.expected_swap_bytes
    if credit.phase == KILL and returned_bytes - credit.progress_bytes > expected // PROGRESS_SHARE:
        return max(credit.deadline_us, now_us + DEADLINE_US), returned_bytes
    return credit.deadline_us, credit.progress_bytes


def outstanding(credits: tuple[Credit, ...], status: MemoryStatus, *, killed_only: bool) -> tuple[int, int]:
    """Bytes of memory and of swap that count as available although no counter shows them yet.

    ``killed_only`` leaves out victims that were only asked to go: at the critical level a promise is not enough.
    """
    memory = swap = 0
    for credit in credits:
        if not _counts(credit, status) or (killed_only and credit.phase == TERM):
            continue
        memory += max(0, credit.expected_bytes - credit.returned_bytes)
        swap += max(0, credit.expected_swap_bytes - credit.returned_swap_bytes)
    return memory, swap


def stripped(credit: Credit, now_us: int) -> Credit:
    """The same victim when process_mrelease has taken its memory: what is still missing lies on per-CPU lists. Shared
    memory it leaves to the exit, so of who owns much of that the end is waited for.
    """
    if credit.process.own_shmem_bytes * SHARED_PART > credit.expected_bytes:
        return credit
    return replace(credit, reaped_us=now_us, deadline_us=max(credit.deadline_us, now_us + SETTLE_US))


def is_stripped(credit: Credit) -> bool:
    """Whether its pages are free: it is dead, or reaped."""
    return credit.phase == DEAD or credit.reaped_us is not None


def is_settled(credit: Credit, now_us: int) -> bool:
    """Whether nothing more is to be expected of this victim: gone and back, or overdue."""
    if credit.phase == DEAD:
        return credit.memory_us is not None or now_us >= credit.deadline_us
    if credit.reaped_us is not None and credit.memory_us is not None and now_us >= credit.reaped_us + SETTLE_US:
        return True  # stripped, and its death may be seconds away where it gets no CPU: nobody waits for that
    return credit.phase == KILL and now_us >= credit.deadline_us


def _sums_processes(status: MemoryStatus) -> bool:
    return status.budget is not None and status.budget.source == "processes"


def _counts(credit: Credit, status: MemoryStatus) -> bool:
    if not is_stripped(credit):
        return status.time_us < credit.deadline_us
    # The machine's counters, per-CPU lists included, are right as soon as the pages are free; only a cgroup's lag a
    # little.
    freed_us = credit.reaped_us if credit.reaped_us is not None else credit.death_us
    lags = freed_us is not None and status.time_us < freed_us + MEMCG_SETTLE_US
    return lags and status.budget is not None and not _sums_processes(status)


def _share_of(amount: int, expected: int) -> int:
    return max(0, min(amount, expected))

"""Credit: what kills under way are about to give back."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from oomd.engine import credit as credits
from oomd.model.decision import Credit
from oomd.model.snapshot import Budget, MemoryStatus
from oomd.model.units import GIB, MIB, SECOND_US
from tests.fakes.builders import candidate, status


def opened(size_mib: int = 1000, phase: str = credits.KILL, now: MemoryStatus | None = None, **changes: Any) -> Credit:
    """The credit of a victim that was signalled at once."""
    return credits.open_credit("1", candidate(7, size_mib, **changes), "level", phase, now or status())


def later(seconds: float, available_mib: int, **changes: Any) -> MemoryStatus:
    """The machine after a while."""
    return status(time_us=1_000_000 + int(seconds * SECOND_US), mem_available_bytes=available_mib * MIB, **changes)


def test_expected_bytes_count_until_they_came() -> None:
    """F16: the victim's thousand MiB count at once, what came back counts no longer."""
    kills: tuple[Credit, ...] = (opened(now=status(mem_available_bytes=100 * MIB)),)
    assert credits.outstanding(kills, later(0.1, 100), killed_only=True) == (1000 * MIB, 0)
    kills = credits.progressed(kills, later(0.2, 500))
    assert credits.outstanding(kills, later(0.2, 500), killed_only=True) == (600 * MIB, 0)
    kills = credits.progressed(kills, later(0.3, 1050))
    assert credits.outstanding(kills, later(0.3, 1050), killed_only=True) == (50 * MIB, 0)
    assert kills[0].memory_us is not None


def test_what_came_is_counted_from_the_lowest_point() -> None:
    """Others go on allocating after the signal: the rise from there is what the victim gave."""
    kills = credits.progressed((opened(now=status(mem_available_bytes=300 * MIB)),), later(0.1, 100))
    kills = credits.progressed(kills, later(0.2, 1000))
    assert kills[0].returned_bytes == 900 * MIB


def test_pages_on_per_cpu_lists_are_back() -> None:
    """Freed pages that MemAvailable does not count yet lie on per-CPU lists."""
    kills = credits.progressed(
        (opened(now=status(mem_available_bytes=100 * MIB)),), later(0.1, 820, pcp_bytes=278 * MIB)
    )
    assert kills[0].returned_bytes == 998 * MIB
    assert kills[0].memory_us is not None


def test_swap_is_credited_as_swap() -> None:
    """A victim's swap comes back as free swap."""
    now = status(swap_total_bytes=2 * GIB, swap_free_bytes=0)
    kill = opened(100, now=now, swap_bytes=900 * MIB)
    assert (kill.expected_bytes, kill.expected_swap_bytes) == (100 * MIB, 900 * MIB)
    after = later(0.1, 4096, swap_total_bytes=2 * GIB, swap_free_bytes=400 * MIB)
    assert credits.outstanding(credits.progressed((kill,), after), after, killed_only=True)[1] == 500 * MIB


def test_deadline_grows_with_size_and_ends_the_credit() -> None:
    """A stuck victim's bytes count for a second and one more for each GiB, then no longer."""
    assert credits.deadline_us(0) == SECOND_US
    assert credits.deadline_us(4 * GIB) == 5 * SECOND_US
    kill = opened(1024)
    assert credits.outstanding((kill,), later(1.9, 100), killed_only=True)[0] == 1024 * MIB
    assert credits.outstanding((kill,), later(2.1, 100), killed_only=True)[0] == 0
    assert credits.is_settled(kill, 3_100_000)
    assert not credits.is_settled(kill, 2_900_000)


def test_promise_does_not_count_at_the_critical_level() -> None:
    """A victim that was only asked counts for the alarm, not for the critical level."""
    asked = opened(phase=credits.TERM)
    assert credits.outstanding((asked,), later(0.1, 100), killed_only=False)[0] == 1000 * MIB
    assert credits.outstanding((asked,), later(0.1, 100), killed_only=True)[0] == 0
    assert credits.outstanding((credits.killed(asked, 1_100_000),), later(0.2, 100), killed_only=True)[0] == 1000 * MIB


def test_dead_victim_has_no_credit_left() -> None:
    """Once it is dead the machine's counters are right; it is settled when they show it, or a second later."""
    dead = credits.died(opened(), 1_200_000)
    assert credits.outstanding((dead,), later(0.2, 100), killed_only=True) == (0, 0)
    assert not credits.is_settled(dead, 1_300_000)
    assert credits.is_settled(dead, 2_200_000)
    low = credits.progressed((credits.died(opened(now=later(0, 100)), 1_200_000),), later(0.3, 1100))
    assert credits.is_settled(low[0], 1_300_000)


def test_reaped_victim_that_gets_no_cpu_is_settled_before_its_death() -> None:
    """process_mrelease has taken its memory: nobody waits for the exit of a starved process."""
    kill = credits.stripped(opened(now=later(0, 100)), 1_100_000)
    kill = credits.progressed((kill,), later(0.1, 1100))[0]
    assert not credits.is_settled(kill, 1_500_000)
    assert credits.is_settled(kill, 2_100_000)


def test_cgroup_counters_lag_a_little() -> None:
    """A cgroup's memory.stat shows the end of a process with a delay: the credit bridges it."""
    cgroup = Budget(GIB, GIB, "/a")
    dead = credits.died(opened(100, now=replace(status(), budget=cgroup)), 1_200_000)
    assert credits.outstanding((dead,), replace(later(0.25, 100), budget=cgroup), killed_only=True)[0] == 100 * MIB
    assert credits.outstanding((dead,), replace(later(0.35, 100), budget=cgroup), killed_only=True)[0] == 0


def test_sum_of_processes_is_not_believed_before_the_pages_are_free() -> None:
    """A process that let go of its memory map shows nothing, long before its pages are free."""
    low, high = Budget(GIB, GIB, "processes"), Budget(GIB, 0, "processes")
    kills: tuple[Credit, ...] = (opened(now=replace(status(), budget=low)),)
    kills = credits.progressed(kills, replace(later(0.1, 100), budget=high))
    assert kills[0].memory_us is None
    kills = credits.progressed((credits.died(kills[0], 1_300_000),), replace(later(0.3, 100), budget=high))
    assert kills[0].memory_us == 1_300_000


def test_several_kills_share_what_came_in_order() -> None:
    """What came back is not counted twice."""
    now = later(0, 100)
    kills = credits.progressed((opened(500, now=now), replace(opened(500, now=now), decision_id="2")), later(0.1, 700))
    assert [kill.returned_bytes // MIB for kill in kills] == [500, 100]


def test_deadline_is_put_off_while_memory_keeps_coming() -> None:
    """On a slow machine the memory may take longer than the deadline: as long as it comes, the next one waits; noise is
    no progress.
    """
    kill = opened(1024, now=later(0, 100))
    kill = credits.progressed((kill,), later(1.9, 400))[0]
    assert not credits.is_settled(kill, 1_000_000 + int(2.8 * SECOND_US))
    assert credits.is_settled(kill, 1_000_000 + int(2.9 * SECOND_US))
    noise = credits.progressed((kill,), later(2.5, 410))[0]
    assert noise.deadline_us == kill.deadline_us
    assert credits.progressed((kill,), later(2.5, 500))[0].deadline_us == 1_000_000 + int(3.5 * SECOND_US)


def test_shared_memory_is_left_to_the_exit() -> None:
    """A reap does not take it: of a victim that owns mostly such memory nothing is back before its end."""
    heap = opened(40, own_shmem_bytes=2 * GIB)
    assert heap.expected_bytes == 2 * GIB + 40 * MIB
    reaped = credits.stripped(heap, 2_000_000)
    assert not credits.is_stripped(reaped)
    assert credits.outstanding((reaped,), later(0.5, 4096), killed_only=True)[0] == heap.expected_bytes
    assert credits.is_stripped(credits.died(reaped, 2_500_000))
    little = opened(1000, own_shmem_bytes=50 * MIB)
    assert credits.is_stripped(credits.stripped(little, 2_000_000))

"""Files in tmpfs take memory that no kill brings back."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from oomd.config.loader import default_config
from oomd.engine.blame import LOOK_BACK_US, SPACING_US, blame, followed, taken_by_files
from oomd.engine.detection import initial_state, observe
from oomd.engine.selection import select
from oomd.model.decision import KILL, NOTIFY, TERM
from oomd.model.snapshot import Budget, Snapshot
from oomd.model.units import MIB, SECOND_US
from tests.fakes.builders import process, status

if TYPE_CHECKING:
    from oomd.model.decision import Decision
    from oomd.model.ruleset import MemorySample
    from oomd.model.snapshot import MemoryStatus, Process

RULES = default_config().rules
DATABASE = process(pid=10, comm="database", rss_anon_bytes=400 * MIB)


def story(*steps: tuple[float, int, int]) -> list[MemoryStatus]:
    """Statuses of a machine with 1 GiB: seconds, MiB available, MiB of shared memory."""
    return [
        status(
            time_us=int(second * SECOND_US),
            mem_total_bytes=1024 * MIB,
            mem_available_bytes=available * MIB,
            anon_bytes=400 * MIB,
            shmem_bytes=shmem * MIB,
            swap_total_bytes=0,
            swap_free_bytes=0,
            psi_full_us=0,
            psi_some_us=0,
        )
        for second, available, shmem in steps
    ]


def decide(statuses: list[MemoryStatus], *others: Process) -> Decision:
    """The decision at the end of the story."""
    state = initial_state(RULES)
    detections = ()
    for each in statuses:
        detections, state = observe(RULES, each, state)  # type: ignore[assignment]
    return select(RULES, Snapshot(statuses[-1], (DATABASE, *others)), detections, state)


def test_who_maps_a_file_with_a_name_gives_nothing_back() -> None:
    """As long as nobody looked, whoever maps as much may be the cause; once it is known that the memory stays without
    him, he is no better choice than anybody else.
    """
    steps = ((0, 400, 10), (4, 200, 210), (8, 16, 394))
    mapper = process(pid=11, comm="mapper", rss_anon_bytes=10 * MIB, rss_shmem_bytes=380 * MIB)
    assert decide(story(*steps), mapper).action == TERM
    known = replace(mapper, private_bytes=10 * MIB)
    assert decide(story(*steps), known).action == NOTIFY
    owner = replace(known, own_shmem_bytes=380 * MIB)
    assert decide(story(*steps), owner).action == TERM


def test_files_are_blamed_and_nobody_dies() -> None:
    """F8: memory went into tmpfs while no process grew: nobody is asked to go, and the report says where it is."""
    decision = decide(story((0, 400, 10), (4, 200, 210), (8, 16, 394)))
    assert (decision.action, decision.target) == (NOTIFY, None)
    assert "384 MiB went into files in tmpfs" in decision.reason


def test_blame_lasts_as_long_as_the_alarm() -> None:
    """Also when the files stopped growing long ago."""
    later = [(8 + second, 16, 394) for second in range(1, 90)]
    assert decide(story((0, 400, 10), (8, 16, 394), *later)).action == NOTIFY


def test_a_leak_beside_files_is_no_excuse() -> None:
    """When processes took a good part of it, somebody is asked to go."""
    assert decide(story((0, 400, 10), (8, 16, 200))).action == TERM


def test_critical_level_does_not_ask_why() -> None:
    """At the critical level the machine is about to stand still, whatever took its memory."""
    assert decide(story((0, 400, 10), (8, 5, 405))).action == KILL


def test_shared_memory_that_a_process_maps_may_come_back() -> None:
    """Whoever maps most of what grew is a cause that can be killed."""
    mapper = process(pid=11, comm="mapper", rss_anon_bytes=MIB, rss_shmem_bytes=300 * MIB)
    assert decide(story((0, 400, 10), (8, 16, 394)), mapper).action == TERM


def test_old_files_are_not_blamed() -> None:
    """Files that were there before the shortage began did not cause it."""
    old = [(second, 300, 394) for second in range(20)]
    assert decide(story((0, 500, 100), *old[5:], (24, 16, 394))).action == TERM


def test_budget_counts_its_files() -> None:
    """In a budget shared memory is usage like any other."""
    (one,) = story((0, 16, 300))
    budgeted = replace(one, budget=Budget(100 * MIB, 90 * MIB, "processes"))
    assert followed(followed((), one), budgeted) == ()
    assert blame((), budgeted, None, alarmed=True) is None


def test_growth_of_processes_before_that_is_no_excuse() -> None:
    """What took the last twentieth of memory counts, not what started up before."""
    assert decide(story((0, 900, 2), (3, 250, 2), (5, 120, 132), (8, 16, 236))).action == NOTIFY


def test_flicker_and_small_dips_change_nothing() -> None:
    """After the alarm has ended for a while a dip of some MiB does not cost a life; a real leak does."""
    blamed = [(0, 400, 10), (8, 16, 394)]
    flicker = [(10 + second, 24, 390) for second in range(80)]
    assert decide(story(*blamed, *flicker, (95, 14, 390))).action == NOTIFY
    freed = [(10, 300, 60), (20, 300, 60)]
    assert decide(story(*blamed, *freed, (24, 16, 60))).action == TERM


@given(st.lists(st.tuples(st.integers(1, 900), st.integers(0, 900), st.booleans()), max_size=200))
def test_trail_is_bounded(steps: list[tuple[int, int, bool]]) -> None:
    """Whatever happens at whatever rate, the trail stays short and in order."""
    trail: tuple[MemorySample, ...] = ()
    found = None
    for number, (available, shmem, alarmed) in enumerate(steps):
        (now,) = story((number * 0.63, available, shmem))
        trail = followed(trail, now)
        times = [sample.time_us for sample in trail]
        assert times == sorted(times)
        assert len(trail) <= LOOK_BACK_US // SPACING_US + 3
        found = blame(trail, now, found, alarmed=alarmed)
        taken_by_files(found, Snapshot(now, ()))

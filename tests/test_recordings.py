"""Two recordings of real machines in memory trouble, run through the default rulesets: one that is lost unless
something dies, one that is not.

Each value in the columns *some* and *full* is milliseconds of stall since the line before. The recordings do not say
what the machine had: taken as
8 GiB of memory and of swap, of which 1 GiB is neither available nor anonymous.
"""

from __future__ import annotations

from pathlib import Path

from oomd.config.loader import default_config
from oomd.engine.detection import initial_state, observe
from oomd.model.decision import Detection
from oomd.model.snapshot import MemoryStatus
from oomd.model.units import GIB, MIB

RECORDINGS = Path(__file__).with_name("fixtures") / "oomstat"


def statuses(name: str) -> list[MemoryStatus]:
    """The recording as the sampler would have seen it."""
    found, some_us, full_us = [], 0, 0
    for line in (RECORDINGS / name).read_text(encoding="ascii").splitlines():
        columns = line.replace("|", " ").split()
        try:
            seconds, available, swap_free, some, _, full, _ = (float(column) for column in columns)
        except ValueError:
            continue  # headings and cuts
        some_us, full_us = some_us + int(some * 1000), full_us + int(full * 1000)
        found.append(
            MemoryStatus(
                time_us=int(seconds * 1_000_000),
                mem_total_bytes=8 * GIB,
                mem_free_bytes=int(available) * MIB,
                mem_available_bytes=int(available) * MIB,
                anon_bytes=8 * GIB - int(available) * MIB - GIB,
                shmem_bytes=0,
                slab_unreclaimable_bytes=0,
                swap_total_bytes=8 * GIB,
                swap_free_bytes=int(swap_free) * MIB,
                psi_some_us=some_us,
                psi_full_us=full_us,
            )
        )
    return found


def alarms(name: str) -> list[tuple[float, Detection]]:
    """When which ruleset fired, were nobody killed."""
    rules = default_config().rules
    state = initial_state(rules)
    found = []
    for status in statuses(name):
        detections, state = observe(rules, status, state)
        found += [(status.time_us / 1e6, detection) for detection in detections if detection.fired]
    return found


def test_overload_is_acted_on_in_time() -> None:
    """F3, F5: full stall begins at 6.7 s with 6 GB of swap free; within 3 s somebody is asked to go, eight seconds
    before avg10 reads 40.
    """
    first, detection = alarms("overload.txt")[0]
    assert detection.ruleset == "stall"
    assert 6.7 < first <= 9.7


def test_overload_becomes_critical() -> None:
    """Were nobody to go, the critical level follows before the recorded sampler itself stalled for 20 s (at 38 s)."""
    assert next(time for time, detection in alarms("overload.txt") if detection.critical) < 15


def test_load_shift_is_left_alone() -> None:
    """F6: an idle program is swapped out for another: available memory is below 200 MiB in half of the samples, and
    nobody may die.
    """
    assert alarms("loadshift.txt") == []
    assert sum(status.mem_available_bytes < 200 * MIB for status in statuses("loadshift.txt")) > 200

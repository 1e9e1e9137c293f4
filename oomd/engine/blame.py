"""Where the memory went, when no process took it: files in tmpfs grow at nobody's size, and killing brings none of them
back. Pure.
"""

from __future__ import annotations

from oomd.model.ruleset import FileBlame, MemorySample
from oomd.model.units import SECOND_US, format_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from oomd.model.snapshot import Levels, Process, Snapshot

LOOK_BACK_US = 60 * SECOND_US
"""How far back the cause of an alarm is looked for."""
SPACING_US = 1 * SECOND_US
"""How far apart samples are kept: bounds the trail."""
LOST_SHARE = 20
"""The cause is what took the last twentieth of all memory: whatever grew before that did no harm by it."""
MOST = 0.75
"""Shared memory took this much of what was lost: no process did."""
SLACK_SHARE = 50
"""Once files are blamed, so little less (a fiftieth of all memory) is no new cause."""


def followed(trail: tuple[MemorySample, ...], status: Levels) -> tuple[MemorySample, ...]:
    """The trail with this status; empty for a budget, which counts files like any other memory."""
    if status.budget is not None:
        return ()
    now = MemorySample(status.time_us, status.available_bytes, status.shmem_bytes)
    if len(trail) > 1 and now.time_us - trail[-2].time_us < SPACING_US:
        return (*trail[:-1], now)
    first = 0
    while first < len(trail) and trail[first].time_us <= now.time_us - LOOK_BACK_US:
        first += 1
    return (*trail[first:], now)


def blame(
    trail: tuple[MemorySample, ...], status: Levels, before: FileBlame | None, *, alarmed: bool
) -> FileBlame | None:
    """What files are to blame for. Once blamed they remain so, however long the alarm lasts or flickers, until memory
    comes back, the files shrink, or something else takes more.
    """
    if not trail:
        return None
    now = trail[-1]
    if before is not None and _still(before, now, status.mem_total_bytes):
        return before
    if not alarmed:
        return None
    enough = now.available_bytes + status.mem_total_bytes // LOST_SHARE
    begin = next((sample for sample in reversed(trail) if sample.available_bytes >= enough), None)
    if begin is None or now.shmem_bytes - begin.shmem_bytes < MOST * (begin.available_bytes - now.available_bytes):
        return None
    grown = now.shmem_bytes - min(sample.shmem_bytes for sample in trail)
    return FileBlame(now.available_bytes, now.shmem_bytes, grown)


def taken_by_files(state_blame: FileBlame | None, snapshot: Snapshot) -> str:
    """In words, when files in tmpfs, or shared memory that nobody in sight maps, took what is missing; else empty."""
    if state_blame is None:
        return ""
    if any(_may_give_back(process) > state_blame.grown_bytes // 2 for process in snapshot.processes):
        return ""
    grown = format_size(state_blame.grown_bytes)
    return f"{grown} went into files in tmpfs or shared memory, which no kill brings back"


def _may_give_back(process: Process) -> int:
    """Of shared memory: what is its own where that is known, else all that it maps."""
    return process.rss_shmem_bytes if process.private_bytes is None else process.own_shmem_bytes


def _still(before: FileBlame, now: MemorySample, total_bytes: int) -> bool:
    if now.available_bytes > before.available_bytes + total_bytes // LOST_SHARE:
        return False
    grown = now.shmem_bytes - before.shmem_bytes
    if grown < -before.grown_bytes // 10:
        return False
    lost = before.available_bytes - now.available_bytes
    return lost <= total_bytes // SLACK_SHARE or grown >= MOST * lost

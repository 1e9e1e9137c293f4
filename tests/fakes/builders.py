"""Values with good defaults, for tests that care about one thing."""

from __future__ import annotations

from typing import Any

from oomd.model.decision import Candidate, Detection
from oomd.model.snapshot import MemoryStatus, Process, ProcessId, Snapshot
from oomd.model.units import GIB, MIB


def status(**changes: Any) -> MemoryStatus:
    """A machine of 8 GiB without swap, half of it available."""
    values: dict[str, Any] = {
        "time_us": 1_000_000,
        "mem_total_bytes": 8 * GIB,
        "mem_free_bytes": 4 * GIB,
        "mem_available_bytes": 4 * GIB,
        "anon_bytes": 4 * GIB,
        "shmem_bytes": 0,
        "slab_unreclaimable_bytes": 0,
        "swap_total_bytes": 0,
        "swap_free_bytes": 0,
        "psi_some_us": 0,
        "psi_full_us": 0,
    }
    return MemoryStatus(**(values | changes))


def process(pid: int = 100, size_mib: float = 100, **changes: Any) -> Process:
    """An ordinary process that owns ``size_mib`` of anonymous memory."""
    values: dict[str, Any] = {
        "id": ProcessId(pid, changes.pop("start_ticks", 1000 + pid)),
        "ppid": 1,
        "comm": f"p{pid}",
        "state": "S",
        "flags": 0,
        "num_threads": 1,
        "uid": 1000,
        "oom_score_adj": 0,
        "rss_anon_bytes": int(size_mib * MIB),
        "rss_shmem_bytes": 0,
        "swap_bytes": 0,
    }
    return Process(**(values | changes))


def candidate(pid: int = 100, size_mib: float = 100, *, preference: str = "normal", **changes: Any) -> Candidate:
    """The process as a candidate that gives back all it owns."""
    chosen = process(pid, size_mib, **changes)
    return Candidate(chosen, chosen.size_bytes, "size", preference, score=chosen.size_bytes)


def snapshot(*processes: Process, **changes: Any) -> Snapshot:
    """These processes on that machine."""
    values: dict[str, Any] = {"status": changes.pop("status", status()), "processes": processes}
    return Snapshot(**(values | changes))


def alarm(*, critical: bool = False, ruleset: str = "level") -> Detection:
    """A ruleset that fired."""
    return Detection(ruleset, fired=True, critical=critical, since_us=0)

"""Values with good defaults, for tests that care about one thing."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from oomd.model.decision import Candidate, Detection
from oomd.model.ruleset import Sample, View
from oomd.model.snapshot import Cgroup, Details, MemoryStatus, Pressure, PressureLine, Process, ProcessId, Snapshot
from oomd.model.units import GIB, MIB, SECOND_US


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


def pressure(avg10: float = 0.0, avg60: float = 0.0, total_us: int = 0) -> Pressure:
    """A pressure file whose two lines say the same; averages as fractions."""
    line = PressureLine(avg10, avg60, 0.0, total_us)
    return Pressure(line, line)


def moment(seconds: float, details: Details | None = None, cgroups: tuple[Cgroup, ...] = (), **changes: Any) -> View:
    """One look at the machine: the status, its details and the cgroups, without a past."""
    now = status(time_us=int(seconds * SECOND_US), **({} if details is None else {"details": details}), **changes)
    cgroups = tuple(replace(cgroup, time_us=now.time_us) for cgroup in cgroups)
    return View(now, now.available_bytes, now.swap_free_bytes, cgroups=cgroups)


def over_time(*moments: View) -> View:
    """The last of these looks, with all of them as its history."""
    history = tuple(
        Sample(each.status.time_us, each.status.psi_some_us, each.status.psi_full_us, each.status, each.cgroups)
        for each in moments
    )
    return replace(moments[-1], history=history)

"""Which cgroup gives how much while nobody is short of memory. Pure: cgroups and a state in, probes and a state out.

A probe takes a small share of what can be reclaimed. If somebody there stalls for more than the target (by the counter
of stall since the last look, or by the kernel's averages) nothing is taken, and the cgroup is left alone for a while:
what was taken then was not cold. There is no limit to be left behind, so nothing is to be undone.
"""

from __future__ import annotations

from oomd.model.globs import matches_any, split_patterns
from oomd.model.proactive import Probe, ProbingState, Watched
from oomd.model.ruleset import Wants
from oomd.model.units import KIB

TYPE_CHECKING = False
if TYPE_CHECKING:
    from oomd.model.proactive import Proactive
    from oomd.model.snapshot import Cgroup, MemoryStatus, Pressure

FILES = frozenset(
    {"memory.current", "memory.stat", "memory.min", "memory.low", "memory.high", "memory.pressure", "io.pressure"}
)
REST = 10
"""After pressure a cgroup is left alone for so many turns."""
LEAST_PROBE_BYTES = 256 * KIB
"""Less is not worth a system call."""
PAGE_BYTES = 4096


def wants_of_probing(rule: Proactive) -> Wants:
    """What must be seen of cgroups."""
    return Wants(cgroups=split_patterns(rule.of), files=FILES)


def probe(
    rule: Proactive, status: MemoryStatus, cgroups: tuple[Cgroup, ...], state: ProbingState
) -> tuple[tuple[Probe, ...], ProbingState]:
    """What each of the cgroups gives now, and when to look again. To be called when that is due, and there is no
    alarm.
    """
    known = {each.path: each for each in state.watched}
    patterns = split_patterns(rule.of)
    probes, watched = [], []
    for cgroup in cgroups:
        if cgroup.memory_pressure is None or cgroup.current_bytes is None or not matches_any(patterns, cgroup.path):
            continue
        stall_us = cgroup.memory_pressure.some.total_us
        before = known.get(cgroup.path)
        if before is None or before.inode != cgroup.inode:
            # Who was not there at the last look is looked at first.
            watched.append(Watched(cgroup.path, cgroup.inode, status.time_us, stall_us))
            continue
        rest_until_us = before.rest_until_us
        if _is_pressed(rule, cgroup, before, status.time_us):
            rest_until_us = status.time_us + REST * rule.every_us
        amount = 0 if status.time_us < rest_until_us else amount_bytes(rule, status, cgroup)
        if amount >= LEAST_PROBE_BYTES:
            probes.append(Probe(cgroup.path, cgroup.inode, amount, int(rule.pressure * rule.every_us)))
        watched.append(Watched(cgroup.path, cgroup.inode, status.time_us, stall_us, rest_until_us))
    return tuple(probes), ProbingState(status.time_us + rule.every_us, tuple(watched))


def postponed(rule: Proactive, state: ProbingState, now_us: int) -> ProbingState:
    """The state where there is an alarm: everything is looked at anew some turns after it."""
    return ProbingState(max(state.due_us, now_us + rule.every_us))


def amount_bytes(rule: Proactive, status: MemoryStatus, cgroup: Cgroup) -> int:
    """A share of what can be reclaimed there above what must be left; whole pages."""
    used = cgroup.current_bytes or 0
    file = (cgroup.active_file_bytes or 0) + (cgroup.inactive_file_bytes or 0)
    anon = (cgroup.active_anon_bytes or 0) + (cgroup.inactive_anon_bytes or 0)
    swap_free = status.swap_free_bytes if _has_room(rule, status) else 0
    reclaimable = min(used, file + min(anon, swap_free))
    kept = max(cgroup.min_bytes, cgroup.low_bytes)
    floor = max(kept, rule.least.resolve_bytes(status.mem_total_bytes) + used - reclaimable)
    amount = min(int((used - floor) * rule.share), rule.most.resolve_bytes(status.mem_total_bytes))
    return max(0, amount) // PAGE_BYTES * PAGE_BYTES


def _has_room(rule: Proactive, status: MemoryStatus) -> bool:
    return status.swap_total_bytes > 0 and status.swap_free_bytes >= rule.swap_free * status.swap_total_bytes


def _is_pressed(rule: Proactive, cgroup: Cgroup, before: Watched, now_us: int) -> bool:
    """Whether somebody there stalls for more than the target: since the last look, or on average."""
    pressure = cgroup.memory_pressure
    assert pressure is not None
    stalled_us, elapsed_us = pressure.some.total_us - before.stall_us, max(1, now_us - before.time_us)
    if stalled_us > rule.pressure * elapsed_us:
        return True
    return _average(pressure) >= rule.pressure or _average(cgroup.io_pressure) >= rule.io_pressure


def _average(pressure: Pressure | None) -> float:
    return 0.0 if pressure is None else max(pressure.some.avg10, pressure.some.avg60)

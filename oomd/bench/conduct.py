"""Conducts the runs: in the order and by the rule of :mod:`oomd.bench.interleaving`."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass, field

from oomd.bench.figures import Run, read_run
from oomd.bench.interleaving import REFERENCE, Schedule, is_disturbed
from oomd.bench.killers import Killers
from oomd.bench.meter import Meter
from oomd.bench.stages import CannotStage, staged, why_not
from oomd.kill.warrant import Refused
from oomd.model.units import GIB

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from oomd.bench.guardian import Guardian

QUIET_SHARE = 0.15
QUIET_S = 0.2
AFTERMATH_S = 0.25
LIMIT_S = 4.0
LIMIT_S_PER_GIB = 0.5
BASELINE_S = 0.05
LINGER_S = 0.02


@dataclass(slots=True)
class Findings:
    """What the runs have shown."""

    runs: list[Run] = field(default_factory=list)
    skipped: list[dict[str, str]] = field(default_factory=list)
    fill_rates: list[float] = field(default_factory=list)
    """Bytes per second at which one process took fresh memory."""
    made_again: int = 0
    """Runs that somebody else disturbed, and that were replaced."""
    kept: int = 0
    """Runs that somebody else disturbed, and that count all the same."""


def conduct(
    victims: tuple[str, ...],
    backends: tuple[str, ...],
    *,
    size_bytes: int,
    repeat: int,
    guardian: Guardian,
    tell: Callable[[str], None],
) -> Findings:
    """All runs. Raises GuardianLostError, ScopeError."""
    findings, schedule = Findings(), Schedule(victims, backends, repeat)

    def skip(victim: str, why: str) -> None:
        schedule.skip(victim)
        findings.skipped.append({"victim": victim, "reason": why})
        tell(f"{victim}: skipped: {why}")

    for victim in victims:
        if why := why_not(victim):
            skip(victim, why)
    ways = tuple({*backends, REFERENCE[1]})
    with contextlib.closing(Killers(ways)) as killers, contextlib.closing(Meter()) as meter:
        guardian.guard_process(meter.pid)
        while (pair := schedule.take()) is not None:
            schedule.note_wait(_wait_quiet(schedule.longest_wait_s()))
            try:
                run = _one(*pair, size_bytes, meter, killers, guardian, findings)
            except (CannotStage, Refused) as error:
                skip(pair[0], str(error))
                continue
            busy = _busy_share(AFTERMATH_S)
            disturbed = is_disturbed(run.returned_share, busy, dead=run.dead_ms is not None)
            if schedule.counts(pair, disturbed=disturbed):
                findings.runs.append(run)
            tell(_in_words(run) + (" (disturbed)" if disturbed else ""))
    findings.made_again, findings.kept = schedule.made_again, schedule.kept
    return findings


def _one(
    victim: str, backend: str, size_bytes: int, meter: Meter, killers: Killers, guardian: Guardian, findings: Findings
) -> Run:
    limit_s = LIMIT_S + LIMIT_S_PER_GIB * size_bytes / GIB
    with staged(victim, size_bytes, guardian) as stage:
        if stage.fill_seconds and victim == "running":
            findings.fill_rates.append(size_bytes / stage.fill_seconds)
        before = meter.count()
        time.sleep(BASELINE_S)
        killed = killers.kill(backend, [child.pid for child in stage.victims], limit_s)
        time.sleep(LINGER_S)
        samples = meter.since(before)
    return read_run(
        samples,
        begin_ns=killed.begin_ns,
        dead_ns=killed.dead_ns,
        size_bytes=stage.held_bytes,
        victim=victim,
        backend=backend,
        errno=killed.reap_errno,
    )


def _wait_quiet(longest_s: float) -> float:
    """Seconds waited."""
    begin = time.monotonic()
    while time.monotonic() - begin < longest_s and _busy_share(QUIET_S) >= QUIET_SHARE:
        pass
    return time.monotonic() - begin


def _busy_share(seconds: float) -> float:
    """Of all CPUs, from now on for so long."""
    before = _cpu_ticks()
    time.sleep(seconds)
    busy, total = (after - first for after, first in zip(_cpu_ticks(), before, strict=True))
    return busy / total if total else 0.0


def _cpu_ticks() -> tuple[int, int]:
    """Busy and all ticks of all CPUs; proc_stat(5)."""
    with open("/proc/stat", encoding="ascii") as file:
        fields = [int(word) for word in file.readline().split()[1:9]]
    return sum(fields) - fields[3] - fields[4], sum(fields)


def _in_words(run: Run) -> str:
    back = f"95 % back after {run.t95_ms:.0f} ms" if run.t95_ms is not None else f"{run.returned_share:.0%} back"
    dead = f"dead after {run.dead_ms:.0f} ms" if run.dead_ms is not None else "not dead in time"
    return f"{run.victim}, {run.backend}: {back}, {dead}"

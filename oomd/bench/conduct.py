"""Conducts the runs: interleaved, on a machine as quiet as it gets, and again where somebody else has disturbed them.

The rule, fixed beforehand: a run begins when the CPUs were less than 15 % busy for 200 ms, or after 10 s of waiting for
that. It is done again when more memory came back than the victim had, or less than none: at most as often as the cell
has runs, and the last answer stands.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from oomd.bench.figures import REFERENCE, Run, is_disturbed, read_run
from oomd.bench.killers import Killers
from oomd.bench.meter import Meter
from oomd.bench.stages import CannotStage, staged, why_not
from oomd.model.units import GIB

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from oomd.bench.guardian import Guardian

QUIET_SHARE = 0.15
QUIET_S = 0.2
PATIENCE_S = 10.0
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
    disturbed: int = 0
    """Runs that were done again."""


def plan(victims: tuple[str, ...], backends: tuple[str, ...], repeat: int) -> list[tuple[str, str]]:
    """Every cell ``repeat`` times, interleaved; the reference is in every round, asked for or not."""
    cells = [(victim, backend) for victim in victims for backend in backends]
    if REFERENCE not in cells:
        cells.insert(0, REFERENCE)
    return cells * repeat


def conduct(
    victims: tuple[str, ...],
    backends: tuple[str, ...],
    *,
    size_bytes: int,
    repeat: int,
    guardian: Guardian,
    tell: Callable[[str], None],
) -> Findings:
    """All runs."""
    findings = Findings()
    skipped: set[str] = set()

    def skip(victim: str, why: str) -> None:
        skipped.add(victim)
        findings.skipped.append({"victim": victim, "reason": why})
        tell(f"{victim}: skipped: {why}")

    for victim in victims:
        why = why_not(victim)
        if why:
            skip(victim, why)
    meter, killers = Meter(), Killers(tuple({*backends, REFERENCE[1]}))
    guardian.guard_process(meter.pid)
    again: dict[tuple[str, str], int] = {}
    try:
        queue = plan(victims, backends, repeat)
        for victim, backend in queue:
            while victim not in skipped:
                try:
                    run = _one(victim, backend, size_bytes, meter, killers, guardian, findings)
                except CannotStage as error:
                    skip(victim, str(error))
                    break
                again[victim, backend] = again.get((victim, backend), 0) + is_disturbed(run)
                if is_disturbed(run) and again[victim, backend] <= repeat:
                    findings.disturbed += 1
                    continue
                findings.runs.append(run)
                tell(_in_words(run))
                break
    finally:
        killers.close()
        meter.close()
    return findings


def _one(
    victim: str, backend: str, size_bytes: int, meter: Meter, killers: Killers, guardian: Guardian, findings: Findings
) -> Run:
    _wait_quiet()
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
        size_bytes=size_bytes,
        victim=victim,
        backend=backend,
        errno=killed.reap_errno,
    )


def _wait_quiet() -> None:
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        before = _cpu_ticks()
        time.sleep(QUIET_S)
        busy, total = (after - first for after, first in zip(_cpu_ticks(), before, strict=True))
        if total and busy / total < QUIET_SHARE:
            return


def _cpu_ticks() -> tuple[int, int]:
    """Busy and all ticks of all CPUs; proc_stat(5)."""
    with open("/proc/stat", encoding="ascii") as file:
        fields = [int(word) for word in file.readline().split()[1:9]]
    return sum(fields) - fields[3] - fields[4], sum(fields)


def _in_words(run: Run) -> str:
    back = f"95 % back after {run.t95_ms:.0f} ms" if run.t95_ms is not None else f"{run.returned_share:.0%} back"
    dead = f"dead after {run.dead_ms:.0f} ms" if run.dead_ms is not None else "not dead in time"
    return f"{run.victim}, {run.backend}: {back}, {dead}"

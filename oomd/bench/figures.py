"""From samples to times, from runs to a summary. Pure."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from statistics import median

from oomd.bench.interleaving import REFERENCE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from oomd.bench.meter import Sample

VERSION = 1
BASELINE_NS = 30_000_000
"""Free memory before the kill: the median of this long."""


@dataclass(frozen=True, slots=True)
class Run:
    """One kill. Times in milliseconds since the signal; None where it did not happen in time."""

    victim: str
    backend: str
    t50_ms: float | None
    """Half of the victim's memory is free."""
    t95_ms: float | None
    dead_ms: float | None
    returned_share: float
    """Of what the victims held, at the end."""
    errno: int | None
    """Of the reap, as a number: 0 when all is well, the first other one where several were reaped. None where nothing
    was reaped (``plain``), or it was not done in time.
    """


@dataclass(frozen=True, slots=True)
class Row:
    """All runs of one victim and way to kill."""

    victim: str
    backend: str
    n: int
    t95_ms_median: float | None
    """Of the runs in which it came back; None when it never did."""
    t95_ms_max: float | None
    never: int
    """Runs in which 95 % did not come back in time."""
    ratio_to_plain_running: float | None


def read_run(
    samples: list[Sample],
    *,
    begin_ns: int,
    dead_ns: int | None,
    size_bytes: int,
    victim: str,
    backend: str,
    errno: int | None,
) -> Run:
    """The figures of one kill. The samples begin before it and end with the wait; ``size_bytes`` is what the victims
    really held in memory.
    """
    before = [sample.free_bytes for sample in samples if begin_ns - BASELINE_NS <= sample.time_ns < begin_ns]
    after = [sample for sample in samples if sample.time_ns >= begin_ns]
    base = median(before) if before else (samples[0].free_bytes if samples else 0)

    def time_of(share: float) -> float | None:
        wanted = base + share * size_bytes
        return next(((each.time_ns - begin_ns) / 1e6 for each in after if each.free_bytes >= wanted), None)

    last = [each.free_bytes for each in after[-10:]]
    return Run(
        victim=victim,
        backend=backend,
        t50_ms=time_of(0.50),
        t95_ms=time_of(0.95),
        dead_ms=None if dead_ns is None else (dead_ns - begin_ns) / 1e6,
        returned_share=round((median(last) - base) / size_bytes, 4) if last else 0.0,
        errno=errno,
    )


def summarize(runs: list[Run]) -> list[Row]:
    """One row for each victim and way to kill, in the order of their first run."""
    cells: dict[tuple[str, str], list[Run]] = {}
    for run in runs:
        cells.setdefault((run.victim, run.backend), []).append(run)
    reference = _median(cells.get(REFERENCE, []))
    rows = []
    for (victim, backend), group in cells.items():
        middle = _median(group)
        times = [run.t95_ms for run in group if run.t95_ms is not None]
        rows.append(
            Row(
                victim=victim,
                backend=backend,
                n=len(group),
                t95_ms_median=middle,
                t95_ms_max=max(times, default=None),
                never=len(group) - len(times),
                ratio_to_plain_running=round(middle / reference, 3) if middle is not None and reference else None,
            )
        )
    return rows


def document(size_bytes: int, runs: list[Run], skipped: list[dict[str, str]]) -> dict[str, Any]:
    """What ``--json`` prints."""
    return {
        "version": VERSION,
        "size_bytes": size_bytes,
        "runs": [asdict(run) for run in runs],
        "summary": [asdict(row) for row in summarize(runs)],
        "skipped": skipped,
    }


def reserve_bytes(rate_bytes_per_s: float, worst_ms: float) -> int:
    """What must still be free when a kill begins, if somebody goes on taking memory at this rate until it is back."""
    return int(rate_bytes_per_s * worst_ms / 1000)


def _median(runs: list[Run]) -> float | None:
    times = [run.t95_ms for run in runs if run.t95_ms is not None]
    return round(median(times), 3) if times else None

"""From samples to times, from runs to a summary."""

from __future__ import annotations

import json
from statistics import median

from hypothesis import given
from hypothesis import strategies as st

from oomd.bench.figures import Run, document, read_run, reserve_bytes, summarize
from oomd.bench.interleaving import REFERENCE
from oomd.bench.killers import BACKENDS
from oomd.bench.meter import Sample, parse_free_pages
from oomd.bench.stages import KINDS
from oomd.model.units import MIB

MS = 1_000_000
ZONEINFO = b"""Node 0, zone      DMA
  per-node stats
      nr_inactive_anon 5
  pages free     3840
        boost    0
      nr_free_pages 3840
      nr_free_pages_blocks 0
  pagesets
    cpu: 0
              count:    12
              high:     0
    cpu: 1
              count:    30
Node 0, zone   Normal
      nr_free_pages 100
"""


def test_free_pages_and_those_on_lists_are_counted() -> None:
    """Of every zone and CPU."""
    assert parse_free_pages(ZONEINFO) == 3840 + 12 + 30 + 100


def read(samples: list[Sample], **changes: object) -> Run:
    """A run of 100 MiB that began at 100 ms."""
    values = {"begin_ns": 100 * MS, "dead_ns": None, "size_bytes": 100 * MIB, "victim": "running", "backend": "plain"}
    return read_run(samples, **(values | {"errno": None} | changes))  # type: ignore[arg-type]


def line(back: float, *, begin_ms: int = 60, end_ms: int = 300, per_ms: float = 1.0) -> list[Sample]:
    """1 GiB free, from 100 ms on so many MiB more each millisecond, up to ``back`` MiB."""
    return [
        Sample(ms * MS, int(1024 * MIB + max(0.0, min(back, (ms - 100) * per_ms)) * MIB))
        for ms in range(begin_ms, end_ms)
    ]


def test_times_of_a_run() -> None:
    """The first sample with half and with 95 % of it back."""
    run = read(line(100), dead_ns=205 * MS)
    assert (run.t50_ms, run.t95_ms, run.dead_ms, run.returned_share) == (50.0, 95.0, 105.0, 1.0)


def test_what_never_came_back_has_no_time() -> None:
    """4 % of a starved victim: no time at all, and the share says so."""
    run = read(line(4))
    assert (run.t50_ms, run.t95_ms, run.dead_ms, run.returned_share) == (None, None, None, 0.04)


RUNS = st.builds(
    Run,
    victim=st.sampled_from(KINDS),
    backend=st.sampled_from(BACKENDS),
    t50_ms=st.none() | st.floats(0.1, 1e4),
    t95_ms=st.none() | st.floats(0.1, 1e4),
    dead_ms=st.none() | st.floats(0.1, 1e4),
    returned_share=st.floats(-1, 2),
    errno=st.none() | st.integers(0, 100),
)


@given(st.lists(RUNS, max_size=40))
def test_summary_holds_every_run(runs: list[Run]) -> None:
    """Counts, medians and ratios are those of the runs; the document is JSON."""
    told = json.loads(json.dumps(document(1 << 30, runs, [{"victim": "swapped", "reason": "no swap"}])))
    assert set(told) == {"version", "size_bytes", "runs", "summary", "skipped"}
    assert (told["version"], told["size_bytes"], len(told["runs"])) == (1, 1 << 30, len(runs))
    assert sum(row["n"] for row in told["summary"]) == len(runs)
    for row in told["summary"]:
        times = [run.t95_ms for run in runs if (run.victim, run.backend) == (row["victim"], row["backend"])]
        came = [time for time in times if time is not None]
        assert row["never"] == len(times) - len(came)
        assert row["t95_ms_median"] == (round(median(came), 3) if came else None)
        assert row["t95_ms_max"] == (max(came) if came else None)
    reference = next((row for row in summarize(runs) if (row.victim, row.backend) == REFERENCE), None)
    if reference is None or reference.t95_ms_median is None:
        assert all(row.ratio_to_plain_running is None for row in summarize(runs))
    else:
        assert reference.ratio_to_plain_running == 1.0


def test_reserve() -> None:
    """2 GiB/s for a quarter of a second are half a GiB."""
    assert reserve_bytes(2.0 * (1 << 30), 250.0) == 1 << 29

"""Series: bounded in number and text."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from oomd.outside.metrics.catalogue import FAST_S
from oomd.outside.metrics.samples import MOST_LABEL, MOST_SERIES, OTHER, Samples, clean

HISTOGRAM = "oomd_detection_to_signal_seconds"


def test_series_are_bounded() -> None:
    """Past the bound everything new counts as ``other``, what is known goes on, and nothing is lost."""
    samples = Samples()
    for number in range(2 * MOST_SERIES):
        samples.add("oomd_kills_total", 1, f"ruleset-{number}", "killed", "SIGKILL")
    samples.add("oomd_kills_total", 1, "ruleset-0", "killed", "SIGKILL")
    series = samples.numbers["oomd_kills_total"]
    assert len(series) == MOST_SERIES + 1
    assert series["ruleset-0", "killed", "SIGKILL"] == 2
    assert series[OTHER, OTHER, OTHER] == MOST_SERIES
    assert sum(series.values()) == 2 * MOST_SERIES + 1


@given(st.lists(st.floats(0, 10)))
def test_histogram_counts_each_value_once(values: list[float]) -> None:
    """In the first bucket whose bound it does not exceed, and in the sum."""
    samples = Samples()
    for value in values:
        samples.observe(HISTOGRAM, value)
    counts = samples.buckets.get(HISTOGRAM, {}).get((), [0] * (len(FAST_S) + 2))
    assert counts[-1] == sum(values)
    assert sum(counts[:-1]) == len(values)
    for place, bound in enumerate(FAST_S):
        assert sum(counts[: place + 1]) == sum(value <= bound for value in values)


@given(st.text())
def test_labels_can_be_written(text: str) -> None:
    """Whatever a name holds, its label is short and UTF-8."""
    assert len(clean(text).encode("utf-8")) <= 6 * MOST_LABEL
    assert len(clean("\udcff" * 500)) <= 6 * MOST_LABEL


def test_another_takes_the_place() -> None:
    """Series under the same name are replaced as a whole, and are copies."""
    ours, others = Samples(), Samples()
    ours.put("oomd_dry_run", 1)
    ours.put("oomd_shield", 1, "realtime")
    others.put("oomd_shield", 0, "memory_locked")
    others.observe(HISTOGRAM, 1)
    ours.update(others)
    others.observe(HISTOGRAM, 1)
    assert ours.numbers == {"oomd_dry_run": {(): 1}, "oomd_shield": {("memory_locked",): 0}}
    assert sum(ours.buckets[HISTOGRAM][()][:-1]) == 1

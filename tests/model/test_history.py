"""A past that is bounded."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from oomd.model.history import thin

FINE, PARTS, LONGEST = 50_000, 40, 60_000_000


def remembered(times: list[int]) -> list[int]:
    """What is left of looks at these times."""
    samples: list[int] = []
    for time in times:
        samples.append(time)
        thin(samples, lambda sample: sample, FINE, PARTS, LONGEST)
    return samples


def test_bounded_fine_where_recent_and_as_long_as_asked() -> None:
    """Ten minutes of looks every 10 ms leave some two hundred: 50 ms apart lately, a fortieth of their age before."""
    samples = remembered(list(range(0, 600_000_000, 10_000)))
    assert len(samples) < 400
    now = samples[-1]
    assert LONGEST <= now - samples[0] < 1.1 * LONGEST
    for before, after in pairwise(samples):
        assert after - before <= max(2 * FINE, (now - before) // 20)


@given(st.lists(st.integers(1, 5_000_000), max_size=200))
def test_newest_and_order_stay(steps: list[int]) -> None:
    """Whatever the rhythm: the newest is there, the order holds, nothing is made up, and one look stands at or before
    the beginning of the longest window if there was one.
    """
    times = [sum(steps[: index + 1]) for index in range(len(steps))]
    samples = remembered(times)
    assert samples == sorted(set(samples))
    assert set(samples) <= set(times)
    if times:
        assert samples[-1] == times[-1]
        begin = times[-1] - LONGEST
        if any(time <= begin for time in times):
            assert samples[0] <= begin

"""Lags of the loop, counted."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from oomd.monitor.lag import BOUNDS_US, Lags


@given(st.lists(st.one_of(st.integers(0, 10**8), st.sampled_from(BOUNDS_US))))
def test_each_is_counted_once_and_where_it_belongs(lags: list[int]) -> None:
    """Every lag is in the first place whose bound it does not exceed; the sum is exact."""
    tally = Lags()
    for lag in lags:
        tally.note(lag)
    plain = tally.plain()
    edges = [-1, *BOUNDS_US, 10**9]
    expected = [sum(low < lag <= high for lag in lags) for low, high in itertools.pairwise(edges)]
    assert plain == {"bounds_us": list(BOUNDS_US), "counts": expected, "total_us": sum(lags)}

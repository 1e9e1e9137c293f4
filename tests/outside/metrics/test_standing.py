"""The killer's answer as figures."""

from __future__ import annotations

from dataclasses import replace

import pytest

from oomd.model.report import plain_status
from oomd.model.snapshot import Budget
from oomd.monitor.lag import BOUNDS_US
from oomd.outside.metrics.catalogue import BY_NAME
from oomd.outside.metrics.counts import UNITS
from oomd.outside.metrics.standing import ruleset_names, standing_samples
from tests.fakes.builders import status
from tests.outside.metrics.reports import answer


def test_memory_and_pressure() -> None:
    """In bytes and seconds; a budget only where there is one."""
    numbers = standing_samples(answer(), 50.0).numbers
    assert numbers["oomd_memory_available_bytes"] == {(): 4 << 30}
    assert numbers["oomd_pressure_memory_waiting_seconds_total"][()] == pytest.approx(3.0)
    assert numbers["oomd_pressure_memory_stalled_seconds_total"][()] == pytest.approx(1.0)
    assert numbers["oomd_reports_dropped_total"] == {("link",): 2}
    assert "oomd_budget_limit_bytes" not in numbers
    limited = plain_status(replace(status(psi_some_us=None, psi_full_us=None), budget=Budget(100, 30, "processes")))
    numbers = standing_samples(answer(status=limited), 50.0).numbers
    assert numbers["oomd_budget_limit_bytes"] == {(): 100}
    assert numbers["oomd_memory_available_bytes"] == {(): 70}
    assert "oomd_pressure_memory_stalled_seconds_total" not in numbers


def test_rulesets() -> None:
    """Armed unless resting, firing since a time of day; a rest or a pause of everything disarms all."""
    firing = {"ruleset": "a", "fired": True, "critical": True, "since_us": 400_000}
    resting = {"ruleset": "b", "paused_until_us": 1_000_001}
    numbers = standing_samples(answer(firing, resting), 50.0).numbers
    assert numbers["oomd_ruleset_armed"] == {("a",): True, ("b",): False}
    assert numbers["oomd_ruleset_firing"] == {("a",): True, ("b",): False}
    assert numbers["oomd_ruleset_critical"] == {("a",): True, ("b",): False}
    since = numbers["oomd_ruleset_firing_since_timestamp_seconds"]
    assert since == {("a",): pytest.approx(49.4)}
    for idle in ({"resting_until_us": 1_000_001}, {"pause": {"until_us": 9}}):
        assert standing_samples(answer(firing, **idle), 50.0).numbers["oomd_ruleset_armed"] == {("a",): False}
    assert standing_samples(answer(pause={"until_us": 9}), 50.0).numbers["oomd_paused"] == {(): True}


def test_units_of_systemd_are_one() -> None:
    """Firing where any of them is, since the first."""
    units = [
        {"ruleset": f"systemd: /{name}", "fired": name == "b", "since_us": since}
        for name, since in (("a", None), ("b", 500_000), ("c", 300_000))
    ]
    numbers = standing_samples(answer(*units), 50.0).numbers
    assert numbers["oomd_ruleset_firing"] == {(UNITS,): True}
    assert numbers["oomd_ruleset_firing_since_timestamp_seconds"][UNITS,] == pytest.approx(49.3)
    assert ruleset_names(answer(*units)) == (UNITS,)


def test_kills_under_way() -> None:
    """What is still to come, victim by victim."""
    kills = [{"expected_bytes": 10, "returned_bytes": 4}, {"expected_bytes": 5, "returned_bytes": 9}]
    numbers = standing_samples(answer(kills=kills), 0.0).numbers
    assert (numbers["oomd_kills_in_progress"], numbers["oomd_credit_bytes"]) == ({(): 2}, {(): 6})


def test_before_the_first_look_and_without_limits() -> None:
    """What is not known is absent."""
    samples = standing_samples(answer(status=None, headroom_bytes=1 << 62), 0.0)
    assert "oomd_memory_total_bytes" not in samples.numbers
    assert "oomd_headroom_bytes" not in samples.numbers
    assert samples.numbers["oomd_loop_ticks_total"] == {(): 12}


def test_lags_are_counted_in_the_killers_buckets() -> None:
    """The catalogue says the bounds that the killer counts by."""
    assert BY_NAME["oomd_loop_lag_seconds"].bounds == tuple(bound / 1e6 for bound in BOUNDS_US)
    lags = {"bounds_us": list(BOUNDS_US), "counts": [5, 0, 0, 1, 0, 0, 0, 0], "total_us": 30_000}
    buckets = standing_samples(answer(lags=lags), 0.0).buckets
    assert buckets["oomd_loop_lag_seconds"] == {(): [5, 0, 0, 1, 0, 0, 0, 0, 0.03]}

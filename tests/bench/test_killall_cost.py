"""The measurement itself: it kills what it started, and its summary is right."""

from __future__ import annotations

from pathlib import Path

import pytest

from oomd.kernel.tracefs import why_not_traced
from tests.bench.killall_cost import ALWAYS, OFF, WAYS, WITHOUT, describe, kill_all, measure, start, summary


def test_all_are_dead() -> None:
    """Every process that was started is killed and waited for; each call has its time."""
    total_ms, calls = kill_all(start(5))
    assert total_ms * 1000 >= sum(calls) > 0
    assert len(calls) == 5


@pytest.mark.parametrize("way", WAYS)
def test_each_way_is_measured(way: str, tmp_path: Path) -> None:
    """A round has its figures, and with every_exit: always the trace has told of all of them."""
    if way == ALWAYS and why_not_traced():
        with pytest.raises(AssertionError):
            measure(way, 20, tmp_path)
    else:
        assert measure(way, 20, tmp_path)["all_dead_ms"] > 0


def test_summary() -> None:
    """Medians over the rounds with their spread; ratios round by round."""
    names = ("all_dead_ms", "kill_us_median", "kill_us_p99", "kill_us_max", "oomd_cpu_ms", "lost")
    rounds = [
        {WITHOUT: dict.fromkeys(names, base), OFF: dict.fromkeys(names, base), ALWAYS: dict.fromkeys(names, base * 1.5)}
        for base in (10.0, 20.0, 90.0)
    ]
    result = summary(rounds)
    assert result["ways"][ALWAYS]["all_dead_ms"] == [30.0, 15.0, 135.0]
    assert result["ratios"][WITHOUT]["all_dead_ms"] == 1.5
    assert "always to without oomd: all_dead_ms 1.50" in "\n".join(describe(result))

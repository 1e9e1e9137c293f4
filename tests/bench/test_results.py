"""What is made of the figures."""

from __future__ import annotations

from tests.bench.race import scans_share, stages_of, tail
from tests.bench.results import Goal, goals, render, shown, verdict

HEADER: dict[str, float | str] = {"kernel": "6.1", "cpus": 2, "python": "3.11", "load": 0.1}
HEADER |= {"seconds": 9, "kills": 5, "meminfo_dearer_us": 40.0}
STAGES = ("total", "read", "choose", "send")


def test_goals_are_met_or_missed_or_not_measured() -> None:
    """Also those that are a multiple of another figure."""
    goal = Goal("lists", "b", 1.3, over="a")
    assert verdict(goal, {"a": 100.0, "b": 130.0}) == (True, 130.0, 130.0)
    assert verdict(goal, {"a": 100.0, "b": 131.0})[0] is False
    assert verdict(goal, {"a": 100.0})[0] is None


def test_a_missed_goal_is_told() -> None:
    """With its figure, beside those that were met."""
    cell = {
        f"plain.80.{name}.{kind}_us": 300.0
        for name in ("total", "read", "choose", "send")
        for kind in ("median", "p99")
    }
    figures = (
        HEADER | cell | {"plain.80.total.max_us": 900.0, "plain.80.wrong": 1, "plain.80.n": 5, "plain.80.scans": 0}
    )
    text = render(figures, (80,))
    assert "| wake → signal, 80 processes, median | 400 µs | 300 µs | met |" in text
    assert "| a wrong victim, 80 processes | 0 | 1 | **missed** |" in text
    assert "| exec → READY, 80 processes, median | 150.0 ms | 0 µs | not measured |" in text
    assert "| plain | 80 | 300 | 300 | 900 | 300 | 300 | 300 | 1 | 0 |" in text
    assert "| 80 | 0.30 ms | – | – | – |" in text


def test_every_goal_is_another_figure() -> None:
    """None is asked twice."""
    figures = [goal.figure for goal in goals((80, 1000, 10_000))]
    assert len(figures) == len(set(figures))


def test_share_of_scans_is_told_of_all_rows_but_the_leaps() -> None:
    """These are there for their scans."""
    figures: dict[str, float | str] = {"plain.80.n": 30, "plain.80.scans": 1, "jump.80.n": 20, "jump.80.scans": 2}
    assert scans_share(figures | {"worst.80.n": 8, "worst.80.scans": 8, "worst_old.80.scans": 4}) == 3 / 50
    assert scans_share({}) == 0


def test_stages_and_tail() -> None:
    """The stages add up; of a few values the largest is the tail."""
    spans = stages_of({"wake_us": 10, "read_us": 30, "decided_us": 90, "signalled_us": 200})
    assert spans == {"total": 190, "read": 20, "choose": 60, "send": 110}
    assert tail([3.0, 9.0, 1.0]) == 9.0
    assert tail([float(each) for each in range(1, 201)]) == 198.0
    assert shown(0.0001, "%") == "0.0100%"

"""The reporter, on sinks that fail."""

from __future__ import annotations

import os
import threading
import time
from typing import Any

from oomd.outside.reporter import MOST_QUEUED, Reporter

NOTE = {"event": "note", "time": 0.0, "text": "hello"}
PATIENCE_S = 90.0


def test_reporter_tells_what_was_lost_when_the_sink_works_again() -> None:
    """F20: what a full disk or a broken pipe swallowed is counted and told once, then forgotten."""
    written: list[str] = []
    broken = [True]

    def sink(event: dict[str, Any]) -> None:
        if broken[0]:
            raise OSError("no space")
        written.append(event["text"])

    reporter = Reporter(sink)
    for _ in range(3):
        reporter.put(NOTE)
    wait_until_dropped(reporter, 3)
    broken[0] = False
    reporter.put(NOTE)
    reporter.put(NOTE)
    reporter.finish()
    assert sorted(written) == ["3 reports were dropped", "hello", "hello"]


def test_reporter_survives_an_event_that_cannot_be_told() -> None:
    """A bug in the words for one event neither silences the next ones nor stays hidden."""
    written: list[str] = []
    reporter = Reporter(lambda event: written.append(event["text"]))
    reporter.put({"event": "wordless", "time": 0.0})
    reporter.put(NOTE)
    reporter.finish()
    assert "wordless" in written[0]
    assert "KeyError('text')" in written[0]
    assert written[1] == "hello"


def test_reporter_counts_what_does_not_fit_its_queue() -> None:
    """F20: while the sink hangs exactly so many wait; the others are dropped at once."""
    taken, goes_on = threading.Event(), threading.Event()
    written: list[str] = []

    def sink(event: dict[str, Any]) -> None:
        taken.set()
        goes_on.wait(PATIENCE_S)
        written.append(event["text"])

    reporter = Reporter(sink)
    reporter.put(NOTE)
    assert taken.wait(PATIENCE_S)
    for _ in range(MOST_QUEUED + 7):
        reporter.put(NOTE)
    assert reporter.dropped == 7
    goes_on.set()
    reporter.finish()
    assert written == ["hello"] * (MOST_QUEUED + 1) + ["7 reports were dropped"]


def wait_until_dropped(reporter: Reporter, number: int) -> None:
    """The sink's thread counts when it gets there."""
    end = time.monotonic() + PATIENCE_S
    while reporter.dropped < number:
        assert time.monotonic() < end
        os.sched_yield()

"""``oomd kills`` for people: what a line says, and what a time is."""

from __future__ import annotations

import time
from typing import Any

import pytest

from oomd.commands.kills import describe, parse_since
from oomd.outside.chronicle import Chronicle
from oomd.outside.ledger import Ledger
from tests.outside.test_chronicle import decided, ended

NOW = time.mktime((2026, 3, 2, 12, 0, 0, 0, 0, -1))


def kill(*events: dict[str, Any]) -> dict[str, Any]:
    """As the history has it after these events."""
    chronicle = Chronicle(Ledger(-1))
    for event in events:
        chronicle.note(event)
    return chronicle.kills()[-1]


def test_lines() -> None:
    """When, whom, what came of it; why; and how it went on."""
    lines = describe(
        kill(decided(1, time=NOW), {"event": "escalation", "id": "1", "time": NOW, "why": "its grace is over"})
    )
    assert lines[0] == "2026-03-02 12:00:00  #1 SIGKILL to leaker (7): under way"
    assert lines[1].startswith("    level (critical): ")
    assert lines[2] == "    then SIGKILL: its grace is over"
    done = describe(kill(decided(1, time=NOW), ended(1, detail="x")))
    assert done[0].endswith("SIGKILL to leaker (7): killed (x), 490 MiB of 500 MiB back after 30ms")
    slow = describe(kill(decided(1, time=NOW, dry_run=True), ended(1, status="timed_out", signal_to_memory_us=None)))
    assert slow[0].endswith("#1 would send SIGKILL to leaker (7): timed out, 490 MiB of 500 MiB back")


def test_several_and_hostile_names() -> None:
    """A cgroup by its name; no name ends a line or speaks to a terminal."""
    event = decided(1, time=NOW)
    target = {**event["decision"]["target"], "kind": "cgroup", "name": "/a\x1b[31m\n", "comm": "x\ny"}
    event = {**event, "decision": {**event["decision"], "target": target, "processes": 3}}
    (first, *_) = describe(kill(event))
    assert "SIGKILL to cgroup /a" in first
    assert "(3 processes, the largest x" in first
    assert first.isprintable()


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("2h", NOW - 7200),
        ("90s", NOW - 90),
        ("@1772449200", 1772449200.0),
        ("2026-03-02T11:30", NOW - 1800),
        ("2026-03-02 11:30:00", NOW - 1800),
        ("11:30", NOW - 1800),
        ("1970-01-01T00:00+00:00", 0.0),
    ],
)
def test_times(text: str, seconds: float) -> None:
    """Durations, times of today, dates, seconds since 1970."""
    assert parse_since(text, NOW) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "text", ["", "never", "@", "@x", "@99999999999999", "5", "-1h", "2026-13-01", "25:00", "0001-01-01T0"]
)
def test_what_is_no_time(text: str) -> None:
    """Is told with what would be."""
    with pytest.raises(ValueError, match="is neither a duration"):
        parse_since(text, NOW)

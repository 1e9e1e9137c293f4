"""The history of kills: what it makes of events, and that the next process goes on with it."""

from __future__ import annotations

import marshal
import os
from typing import TYPE_CHECKING, Any

import pytest

from oomd.outside.chronicle import MOST_BYTES, MOST_KILLS, PAGE, Chronicle
from oomd.outside.ledger import Ledger
from tests.outside.events import DECISION, OUTCOME

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def fd() -> Iterator[int]:
    """The ledger's file."""
    fd = os.memfd_create("ledger")
    yield fd
    os.close(fd)


def decided(number: int = 1, **changes: Any) -> dict[str, Any]:
    """A kill."""
    event: dict[str, Any] = {**DECISION, "id": str(number), "time": 1000.0 + number}
    return {**event, **changes}


def ended(number: int = 1, **changes: Any) -> dict[str, Any]:
    """What came of it."""
    event: dict[str, Any] = {**OUTCOME, "id": str(number), "time": 1001.0 + number}
    return {**event, **changes}


def test_a_kill_with_its_reason_and_result(fd: int) -> None:
    """Who, why, how it went on, what came back."""
    chronicle = Chronicle(Ledger(fd))
    chronicle.note(decided())
    (kill,) = chronicle.kills()
    assert (kill["id"], kill["time"], kill["outcome"]) == ("1", 1001.0, None)
    assert kill["victim"]["comm"] == decided()["decision"]["target"]["comm"]
    assert kill["reason"] == decided()["decision"]["reason"]
    chronicle.note({"event": "escalation", "time": 1001.5, "id": "1", "pid": 1, "why": "its grace is over"})
    chronicle.note(ended())
    (kill,) = chronicle.kills()
    assert kill["escalations"] == [{"time": 1001.5, "why": "its grace is over"}]
    assert kill["outcome"]["returned_bytes"] == ended()["returned_bytes"]
    assert kill["outcome"]["processes"] == 1


def test_several_that_die_as_one(fd: int) -> None:
    """Bytes are summed up, the slowest time counts, and one that was killed says more than one that had gone."""
    chronicle = Chronicle(Ledger(fd))
    chronicle.note(decided())
    chronicle.note(ended(status="already_gone", signal_to_memory_us=None, signal_to_death_us=None, returned_bytes=1))
    chronicle.note(ended(status="killed", signal_to_memory_us=5, signal_to_death_us=9, returned_bytes=2))
    chronicle.note(ended(status="exited", signal_to_memory_us=3, signal_to_death_us=11, returned_bytes=4))
    outcome = chronicle.kills()[0]["outcome"]
    assert (outcome["status"], outcome["processes"], outcome["returned_bytes"]) == ("killed", 3, 7)
    assert (outcome["signal_to_memory_us"], outcome["signal_to_death_us"]) == (5, 11)


def test_what_is_no_kill(fd: int) -> None:
    """Decisions that signal nobody, outcomes of what nobody remembers, other events."""
    chronicle = Chronicle(Ledger(fd))
    nobody = decided()
    chronicle.note({**nobody, "decision": {**nobody["decision"], "action": "notify"}})
    chronicle.note(ended(7))
    chronicle.note({"event": "note", "time": 1.0, "text": "x"})
    assert chronicle.kills() == []
    assert chronicle.facts()["total"] == 0


def test_the_next_process_goes_on(fd: int) -> None:
    """History, counts, what was said at start; and what was lost is told once, however often it is said."""
    woken: list[int] = []
    chronicle = Chronicle(Ledger(fd), lambda: woken.append(1))
    start = {"event": "start", "time": 5.0, "pid": 7, "scope": "machine", "dry_run": False, "report": {"lost": ["x"]}}
    chronicle.note(start)
    for _ in range(3):
        chronicle.note({"event": "degraded", "time": 6.0, "text": "no trigger"})
    chronicle.note({"event": "reload", "time": 7.0, "ok": False, "text": "kept", "problems": ["a:1:1: b"]})
    chronicle.note(decided())
    assert chronicle.save()
    assert len(woken) == 6
    after = Chronicle(Ledger(fd))
    facts = after.facts()
    assert facts["start"]["report"] == {"lost": ["x"]}
    assert facts["degraded"] == [{"time": 6.0, "text": "no trigger"}]
    assert facts["reload"] == {"time": 7.0, "text": "kept", "ok": False, "problems": ["a:1:1: b"]}
    assert (facts["total"], facts["starts"]) == (1, 2)
    after.note(ended())
    after.note(decided(2))
    assert [kill["id"] for kill in after.kills()] == ["1", "2"]
    assert after.kills()[0]["outcome"] is not None
    assert after.facts()["total"] == 2


def test_bounded(fd: int) -> None:
    """So many kills, so many bytes; the oldest are forgotten, the count is not; and the ledger takes it."""
    chronicle = Chronicle(Ledger(fd))
    for number in range(3 * MOST_KILLS):
        event = decided(number)
        chronicle.note({**event, "decision": {**event["decision"], "reason": "r" * 5000}})
        chronicle.note(ended(number, detail="d" * 5000, hindrances=["h" * 50] * 20))
    kept = chronicle.kills()
    assert kept[-1]["id"] == str(3 * MOST_KILLS - 1)
    assert 50 < len(kept) <= MOST_KILLS
    assert len(marshal.dumps(kept)) <= MOST_BYTES + 4096
    assert chronicle.facts()["total"] == 3 * MOST_KILLS
    assert chronicle.save()
    assert len(Chronicle(Ledger(fd)).kills()) == len(kept)


def test_some_of_them(fd: int) -> None:
    """Since a time, and so many of the last."""
    chronicle = Chronicle(Ledger(fd))
    for number in range(10):
        chronicle.note(decided(number))
    assert [kill["id"] for kill in chronicle.kills(since=1007.0)] == ["7", "8", "9"]
    assert [kill["id"] for kill in chronicle.kills(most=2)] == ["8", "9"]
    assert [kill["id"] for kill in chronicle.kills(since=1007.0, most=2)] == ["8", "9"]


def test_a_page_that_is_none(fd: int) -> None:
    """Another version's, or torn: begin anew."""
    Ledger(fd).keep(PAGE, {"kills": [1, {"id": "1", "time": 1.0}], "degraded": "x", "start": None})
    chronicle = Chronicle(Ledger(fd))
    assert [kill["id"] for kill in chronicle.kills()] == ["1"]
    assert chronicle.facts()["degraded"] == []
    assert Chronicle(Ledger(-1)).kills() == []

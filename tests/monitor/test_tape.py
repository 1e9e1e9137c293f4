"""The tape: what it keeps, in what parts it hands it out."""

from __future__ import annotations

import marshal

from oomd.model.decision import KILL, Decision
from oomd.model.ruleset import EngineState
from oomd.model.snapshot import ProcessId
from oomd.monitor.tape import MOST_PROCESSES, MOST_TICKS, TICKS_PER_PART, Tape, trimmed
from oomd.outside.link import MOST_BYTES
from tests.fakes.builders import candidate, process, snapshot, status


def test_bounded() -> None:
    """Old ticks that nobody asked for are forgotten; numbers tell the gap."""
    tape = Tape()
    for number in range(MOST_TICKS + 10):
        tape.begin(status(time_us=number), EngineState())
    ticks = [tick for part in tape.drain() for tick in part]
    assert len(ticks) == MOST_TICKS
    assert ticks[0]["tick"] == 10
    assert tape.drain() == []


def test_parts_fit_a_datagram() -> None:
    """A part holds so many ticks, or one with the largest snapshot; each begins with its state."""
    tape = Tape()
    everybody = snapshot(*(process(pid, comm="x" * 15, cgroup="/" + "c" * 200) for pid in range(2, 2000)))
    for number in range(TICKS_PER_PART + 5):
        tape.begin(status(time_us=number), EngineState())
    tape.note_decision(Decision(KILL, "why", everybody.status, target=candidate(1999)), everybody, EngineState())
    tape.begin(status(), EngineState())
    parts = tape.drain()
    assert [len(part) for part in parts] == [TICKS_PER_PART, 4, 1, 1]
    assert all(["state" in tick for tick in part] == [True] + [False] * (len(part) - 1) for part in parts)
    assert all(len(marshal.dumps({"event": "seen", "ticks": part})) < MOST_BYTES for part in parts)


def test_the_largest_and_the_victim_are_kept() -> None:
    """A snapshot of too many says that it is not complete."""
    crowd = tuple(process(pid, size_mib=pid) for pid in range(2, MOST_PROCESSES + 100))
    kept = trimmed(snapshot(*crowd), crowd[0].id)
    assert len(kept.processes) == MOST_PROCESSES
    assert crowd[0] in kept.processes
    assert crowd[-1] in kept.processes
    assert not kept.complete
    assert trimmed(snapshot(*crowd[:5]), None).complete


def test_facts_belong_to_the_next_tick() -> None:
    """What is told between two ticks stands in the second."""
    tape = Tape()
    tape.begin(status(), EngineState())
    tape.note_refused(ProcessId(7, 1), "is gone")
    tape.note_death(ProcessId(8, 2), 5)
    tape.begin(status(), EngineState())
    first, second = tape.drain()[0]
    assert first["refused"] == [{"pid": 7, "start_ticks": 1, "why": "is gone"}]
    assert second["facts"] == [{"fact": "died", "pid": 8, "start_ticks": 2, "time_us": 5}]

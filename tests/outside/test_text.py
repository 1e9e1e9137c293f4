"""Events as people read them, and as journal fields."""

from __future__ import annotations

from typing import Any

import pytest

from oomd.config.loader import default_config
from oomd.engine.selection import select
from oomd.model.decision import KillOutcome
from oomd.model.report import plain_decision, plain_outcome
from oomd.model.ruleset import EngineState
from oomd.outside.journal import SOCKET, JournalMissing, fields_of, open_journal
from oomd.outside.sinks import choose_sink, text_sink
from oomd.outside.text import describe_event
from tests.fakes.builders import alarm, process, snapshot

DECISION = {
    "event": "decision",
    "time": 0.0,
    "id": "3",
    "dry_run": False,
    **plain_decision(
        select(
            default_config().rules,
            snapshot(process(7, 500, comm="leaker"), process(8, 20), process(9, 80, comm="sshd")),
            (alarm(critical=True),),
            EngineState(),
        )
    ),
}
OUTCOME = {
    "event": "outcome",
    "time": 0.0,
    "id": "3",
    **plain_outcome(
        KillOutcome(
            "3",
            process(7, 500, comm="leaker"),
            "killed",
            signal_to_death_us=40_000,
            signal_to_memory_us=30_000,
            expected_bytes=500 << 20,
            returned_bytes=490 << 20,
            reap_backend="mrelease",
            reap_errno=0,
            reap_us=25_000,
            hindrances=("SCHED_IDLE",),
        )
    ),
}


def lines(event: dict[str, Any]) -> list[str]:
    """Without the time of day."""
    return [line[9:] for line in describe_event(event)]


def test_decision() -> None:
    """Who, with which signal, why, who would have been next, who was spared."""
    told = lines(DECISION)
    assert told[0].startswith("#3 SIGKILL to leaker (7): level (critical):")
    assert told[1:] == ["next 2: p8 (8) 20 MiB", "spared: sshd (9) is protected by its name"]
    assert lines(DECISION | {"dry_run": True})[0].startswith("#3 would send SIGKILL")


def test_outcome() -> None:
    """Death, memory, the reaper's word, what hindered."""
    assert lines(OUTCOME)[0].split(", ") == [
        "#3 leaker (7) killed",
        "dead after 40ms",
        "490 MiB of 500 MiB back after 30ms",
        "reaped by mrelease in 25ms",
        "hindered by SCHED_IDLE",
    ]


@pytest.mark.parametrize(
    ("backend", "number", "words"),
    [
        ("none", 38, "not reaped"),
        ("mrelease", 3, "it was quicker than mrelease"),
        ("mrelease", 22, "mrelease failed: Invalid argument"),
    ],
)
def test_reaper_is_reported_honestly(backend: str, number: int, words: str) -> None:
    """No reaping is told as none, ESRCH as the victim's speed, anything else by its name."""
    event = OUTCOME | {"reap": {"backend": backend, "errno": number, "duration_us": 5}}
    assert words in lines(event)[0]


def test_other_events() -> None:
    """Everything else has its line too, unknown kinds included."""
    assert lines({"event": "note", "time": 0, "text": "x"}) == ["note: x"]
    assert lines({"event": "unheard", "time": 0}) == ["unheard: "]
    assert lines({"event": "reload", "time": 0, "text": "kept", "problems": ["a", "b"]}) == ["kept", "a", "b"]
    assert lines({"event": "stop", "time": 0, "text": "stopping", "counters": {"n": 1}}) == ["stopping (n 1)"]
    assert lines({"event": "escalation", "time": 0, "id": "1", "pid": 7, "why": "w"}) == ["#1 SIGKILL to 7: w"]
    refused = {"event": "refused", "time": 0, "id": "1", "pid": 7, "comm": "c", "why": "is gone"}
    assert lines(refused) == ["#1 c (7) is gone: next candidate"]


def test_journal_fields() -> None:
    """Programs ask the journal by event, decision, victim and result."""
    fields = fields_of(DECISION)
    assert fields["OOMD_EVENT"] == "decision"
    assert (fields["OOMD_DECISION_ID"], fields["OOMD_VICTIM_PID"], fields["OOMD_VICTIM_COMM"]) == ("3", "7", "leaker")
    assert fields["PRIORITY"] == "4"
    outcome = fields_of(OUTCOME)
    assert (outcome["OOMD_STATUS"], outcome["OOMD_SIGNAL_TO_MEMORY_US"]) == ("killed", "30000")
    assert len({fields["MESSAGE_ID"], outcome["MESSAGE_ID"]}) == 2
    assert all(isinstance(value, str) for value in (*fields.values(), *outcome.values()))


def test_without_journald_it_reports_as_text(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where journald cannot be had that is said once, and nothing is lost."""
    monkeypatch.setattr("oomd.outside.journal.SOCKET", f"{SOCKET}.absent")
    with pytest.raises(JournalMissing, match="journald does not run here"):
        open_journal()
    assert choose_sink("journal") is text_sink
    assert "journald does not run here; reporting as text" in capsys.readouterr().err

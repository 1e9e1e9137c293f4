"""What is done for a request: questions to a killer that the test plays, and what this process knows itself."""

from __future__ import annotations

import json
import os
import time
from typing import TYPE_CHECKING, Any

import pytest

from oomd import __version__
from oomd.outside.chronicle import MOST_KILLS, Chronicle
from oomd.outside.desk import ANSWER_BYTES, STATUS_EVERY_S, USUAL_PATIENCE_S, Desk
from oomd.outside.ledger import Ledger
from oomd.outside.lines import Request, encode
from oomd.outside.peers import Peer
from tests.outside.test_chronicle import decided, ended

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Peer(1, 0, frozenset({0}))
STATE: dict[str, Any] = {
    "status": {"time_us": 5_000_000},
    "pause": None,
    "dry_run": False,
    "reports_dropped": 3,
    "rulesets": [],
}


class Killer:
    """Takes questions; the test answers them."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.takers: list[Callable[[dict[str, Any]], object]] = []
        self.full = False

    def pose(self, command: str, take: Callable[[dict[str, Any]], object], _: float, **content: Any) -> bool:
        if self.full:
            return False
        self.asked.append((command, content))
        self.takers.append(take)
        return True

    def answer(self, **content: Any) -> None:
        """To the last question."""
        self.takers.pop()({"event": "answer", "number": 1, "time": 0.0, **content})


class Stage:
    """A desk whose jobs are done when the test says so."""

    def __init__(self) -> None:
        self.killer = Killer()
        self.chronicle = Chronicle(Ledger(-1))
        self.jobs: list[Callable[[], object]] = []
        self.told: list[dict[str, Any]] = []
        self.desk = Desk(
            self.killer,  # type: ignore[arg-type] # plays one
            self.chronicle,
            self.jobs.append,
            about={"config": "/etc/oomd/oomd.yaml"},
            not_written=lambda: 2,
        )

    def ask(self, name: str, **parameters: Any) -> None:
        """Ask as root."""
        self.desk.handle(Request(name, None, parameters), ROOT, self.told.append)

    def answer(self, **content: Any) -> dict[str, Any]:
        """What the killer says, in the control's thread; what the client gets then."""
        self.killer.answer(**content)
        for job in self.jobs:
            job()
        self.jobs.clear()
        return self.told[-1]


@pytest.fixture
def stage() -> Stage:
    """One of each."""
    return Stage()


def test_what_is_passed_on(stage: Stage) -> None:
    """Who asks is told to the killer, by the kernel's word and not by the client's."""
    stage.ask("pause", seconds=600, reason="backup")
    stage.ask("resume")
    stage.ask("reload")
    stage.ask("kill_now", dry_run=True)
    stage.ask("kill_now")
    stage.ask("next")
    assert stage.killer.asked == [
        ("pause", {"duration_us": 600_000_000, "why": "backup", "by": "uid 0 (root)"}),
        ("resume", {"by": "uid 0 (root)"}),
        ("reload", {}),
        ("kill_now", {"by": "uid 0 (root)", "dry_run": True}),
        ("kill_now", {"by": "uid 0 (root)", "dry_run": False}),
        ("next", {}),
    ]
    assert stage.told == []


def test_answers_of_the_killer(stage: Stage) -> None:
    """Without what only the link needs; a no has an error for programs."""
    stage.ask("next")
    assert stage.answer(ok=True, fresh=True) == {"ok": True, "fresh": True}
    stage.ask("resume")
    assert stage.answer(ok=False, text="it is not paused") == {
        "ok": False,
        "error": "refused",
        "text": "it is not paused",
    }


def test_a_link_that_is_full(stage: Stage) -> None:
    """Is told at once."""
    stage.killer.full = True
    stage.ask("next")
    assert (stage.told[0]["ok"], stage.told[0]["error"]) == (False, "no_answer")
    stage.ask("status")
    assert (stage.told[1]["ok"], stage.told[1]["error"]) == (False, "no_answer")


def test_status(stage: Stage) -> None:
    """The killer's state with what was said at start, what was lost, the last kills and the versions."""
    report = {"reaper": "mrelease", "kernel": "6.1", "lost": ["no PSI"], "locked": True, "realtime": False}
    stage.chronicle.note(
        {"event": "start", "time": 5.0, "pid": 7, "scope": "machine", "dry_run": False, "report": report}
    )
    stage.chronicle.note({"event": "degraded", "time": 6.0, "text": "no trigger"})
    for number in range(5):
        stage.chronicle.note(decided(number))
    stage.ask("status")
    pause = {"since_us": 1_000_000, "until_us": 65_000_000, "why": "backup", "by": "uid 0 (root)"}
    told = stage.answer(ok=True, status={**STATE, "pause": pause})
    assert (told["oomd"], told["daemon"]["pid"], told["daemon"]["reaper"]) == (__version__, 7, "mrelease")
    assert told["daemon"]["reports_dropped"] == 3
    assert told["outside"] == {
        "pid": os.getpid(),
        "starts": 1,
        "reports_not_written": 2,
        "config": "/etc/oomd/oomd.yaml",
    }
    assert [each["text"] for each in told["degraded"]] == ["no PSI", "no trigger"]
    assert [kill["id"] for kill in told["kills"]] == ["2", "3", "4"]
    assert told["kills_total"] == 5
    assert told["pause"]["left_us"] == 60_000_000
    assert told["pause"]["until"] == pytest.approx(time.time() + 60, abs=30)
    assert json.loads(encode(told))["state"]["pause"] == pause


def test_many_who_want_the_status_are_one_question(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever asks while one is under way, or a moment after, gets the same; the killer is woken once."""
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    for _ in range(30):
        stage.ask("status")
    assert len(stage.killer.asked) == 1
    stage.answer(ok=True, status=STATE)
    assert len(stage.told) == 30
    stage.ask("status")
    assert (len(stage.told), len(stage.killer.asked)) == (31, 1)
    now[0] += 2 * STATUS_EVERY_S
    stage.ask("status")
    assert len(stage.killer.asked) == 2
    now[0] += USUAL_PATIENCE_S
    stage.ask("status")
    assert len(stage.killer.asked) == 3  # the second was never answered
    stage.answer(ok=True, status=STATE)
    assert len(stage.told) == 32


def test_before_the_killer_has_said_anything(stage: Stage) -> None:
    """No start report yet: what is not known is null."""
    stage.ask("status")
    told = stage.answer(ok=True, status={**STATE, "status": None})
    assert (told["daemon"]["pid"], told["pause"], told["reload"], told["degraded"]) == (None, None, None, [])


def test_kills(stage: Stage) -> None:
    """All that fit into an answer, the newest rather than the oldest, and how many do not."""
    for number in range(MOST_KILLS):
        event = decided(number)
        stage.chronicle.note({**event, "decision": {**event["decision"], "reason": "r" * 400}})
        stage.chronicle.note(ended(number))
    stage.ask("kills")
    told = stage.told[-1]
    assert told["kills"][-1]["id"] == str(MOST_KILLS - 1)
    assert told["left_out"] + len(told["kills"]) == len(stage.chronicle.kills())
    assert told["left_out"] > 0
    assert len(encode(told)) < 2 * ANSWER_BYTES
    stage.ask("kills", most=3, since=1000.0)
    assert [kill["id"] for kill in stage.told[-1]["kills"]] == [str(MOST_KILLS - number) for number in (3, 2, 1)]
    assert stage.told[-1]["total"] == MOST_KILLS
    stage.ask("kills", since=1e12)
    assert (stage.told[-1]["kills"], stage.told[-1]["left_out"]) == ([], 0)

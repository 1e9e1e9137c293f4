"""Hooks around a kill: asked for by the killer, run side by side, told one by one, never beyond their deadline."""

from __future__ import annotations

import json
import os
import queue
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from oomd.outside import hooks as module
from oomd.outside.hooks import Hooks, environment_of, start_hooks
from oomd.outside.text import describe_event
from tests.outside.events import DECISION, OUTCOME
from tests.outside.test_prekill import CGROUP, listening

if TYPE_CHECKING:
    from collections.abc import Callable

    from oomd.model.report import Plain

PATIENCE_S = 90.0
LONG_US = 60_000_000
IN_CGROUP = {
    **DECISION,
    "decision": {**DECISION["decision"], "target": {**DECISION["decision"]["target"], "cgroup": CGROUP}},
}


def script(folder: Path, name: str, text: str) -> str:
    """A program of the test."""
    path = folder / name
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


class Told:
    """What was reported."""

    def __init__(self) -> None:
        self.events: queue.SimpleQueue[Plain] = queue.SimpleQueue()

    def next(self) -> Plain:
        """The next report, as soon as it is there."""
        return self.events.get(timeout=PATIENCE_S)


def request(**content: Any) -> Plain:
    """As the killer asks."""
    return {"patience_us": LONG_US, "exec_us": LONG_US, "facts": IN_CGROUP, **content}


def test_program_and_sockets_are_waited_for_together(tmp_path: Path) -> None:
    """Each is told of by itself, with the decision that it was for; the killer hears that all are done."""
    told = Told()
    (tmp_path / "sockets").mkdir()
    program = script(tmp_path, "before", f"cat > {tmp_path}/facts; echo $OOMD_VICTIM_COMM $OOMD_DECISION_ID")
    with listening(tmp_path / "sockets" / "one", lambda _: b"{}\0") as heard:
        hooks = Hooks(told.events.put, str(tmp_path / "sockets"))
        answer = hooks.before(request(exec=[program], prekill_us=LONG_US))
    assert answer == {"ok": True, "text": "", "hooks": 2}
    first, second = told.next(), told.next()
    assert (first["event"], first["stage"], first["id"], first["hook"]) == ("hook", "before", "3", program)
    assert (first["status"], first["exit_status"], first["text"]) == ("done", 0, "leaker 3")
    assert (second["hook"], second["status"]) == (f"{tmp_path}/sockets/one", "done")
    assert heard[0]["parameters"] == {"cgroup": CGROUP}
    assert json.loads((tmp_path / "facts").read_text()) == IN_CGROUP


def test_whatever_it_returns_is_told_and_no_veto(tmp_path: Path) -> None:
    """A failure is words for people; the answer has no other word than that it is over."""
    told = Told()
    answer = Hooks(told.events.put, str(tmp_path)).before(request(exec=[script(tmp_path, "no", "exit 3")]))
    assert answer["hooks"] == 1
    assert answer["text"].endswith("no failed")
    assert describe_event(told.next())[0].endswith("with exit status 3")


def test_the_killers_patience_counts(tmp_path: Path) -> None:
    """The request came late: what is left of the killer's deadline is all that there is."""
    told = Told()
    hangs = script(tmp_path, "hangs", "sleep 1000")
    (tmp_path / "sockets").mkdir()
    with listening(tmp_path / "sockets" / "one", lambda _: None):
        hooks = Hooks(told.events.put, str(tmp_path / "sockets"))
        begin = time.monotonic()
        answer = hooks.before(request(patience_us=100_000, exec=[hangs], prekill_us=LONG_US))
        assert time.monotonic() - begin < PATIENCE_S / 2
    assert not answer["ok"]
    assert {told.next()["status"] for _ in range(2)} == {"late"}


def test_nothing_to_do_is_done() -> None:
    """No program, and nobody in the directory."""
    told = Told()
    assert Hooks(told.events.put, "/absent").before(request(prekill_us=1)) == {"ok": True, "text": "", "hooks": 0}
    assert told.events.empty()


def after(program: str, facts: Plain = OUTCOME) -> Plain:
    """As the killer tells."""
    return {"event": "after", "time": 0.0, "exec": [program], "exec_us": LONG_US, "facts": facts}


def test_after_a_kill(tmp_path: Path) -> None:
    """Its program is run by a thread of its own, and told of."""
    told = Told()
    hooks = Hooks(told.events.put)
    hooks.start()
    hooks.note(DECISION)  # any other event is not its affair
    hooks.note(after(script(tmp_path, "after", "echo $OOMD_STATUS $OOMD_RETURNED_BYTES")))
    event = told.next()
    assert (event["stage"], event["id"], event["text"]) == ("after", "3", f"killed {490 << 20}")
    hooks.finish()


def test_those_that_find_no_room_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hook that hangs holds up those behind it, and nothing else; what was lost is told when there is time again."""
    monkeypatch.setattr(module, "MOST_WAITING", 1)
    monkeypatch.setattr(module, "WORKERS", 1)
    told = Told()
    hooks = Hooks(told.events.put)
    gate = tmp_path / "gate"
    waits = script(tmp_path, "waits", f"touch {tmp_path}/begun; until [ -e {gate} ]; do sleep 0.01; done")
    hooks.start()
    hooks.note(after(waits))
    wait_for((tmp_path / "begun").exists)
    for _ in range(3):
        hooks.note(after(waits))
    gate.touch()
    events = [told.next() for _ in range(3)]
    assert [event["event"] for event in events].count("hook") == 2
    (degraded,) = [event for event in events if event["event"] == "degraded"]
    assert degraded["text"].startswith("hooks: 2 kills were told to no after-hook")
    hooks.finish()


def test_the_end_of_oomd_ends_its_hooks(tmp_path: Path) -> None:
    """One that hangs is killed, and nobody waits long."""
    told = Told()
    hooks = Hooks(told.events.put)
    hooks.start()
    hooks.note(after(script(tmp_path, "hangs", f"touch {tmp_path}/begun; sleep 1000")))
    wait_for((tmp_path / "begun").exists)
    begin = time.monotonic()
    hooks.finish()
    assert time.monotonic() - begin < PATIENCE_S / 2
    assert told.next()["status"] == "late"


def test_the_end_of_oomd_ends_those_that_it_waits_for(tmp_path: Path) -> None:
    """Nothing is left behind that only a deadline of ours would have ended."""
    told = Told()
    hooks = Hooks(told.events.put, str(tmp_path / "none"))
    hangs = script(tmp_path, "hangs", f"echo $$ > {tmp_path}/pid; mv {tmp_path}/pid {tmp_path}/begun; exec sleep 1000")
    asked = threading.Thread(target=hooks.before, args=(request(exec=[hangs]),))
    asked.start()
    wait_for((tmp_path / "begun").exists)
    hooks.finish()
    pid = int((tmp_path / "begun").read_text("ascii"))
    with pytest.raises(ProcessLookupError):
        os.killpg(pid, 0)
    asked.join(PATIENCE_S)
    assert told.next()["status"] == "late"


def test_killer_is_served() -> None:
    """Requests and events arrive where they belong."""

    class Killer:
        def handle(self, name: str, handler: Callable[[Plain], Plain]) -> None:
            wired[name] = handler

        def listen(self, listener: Callable[[Plain], object]) -> None:
            wired["events"] = listener

    wired: dict[str, object] = {}
    hooks = start_hooks(Killer(), lambda event: None)  # type: ignore[arg-type]
    assert wired == {"before": hooks.before, "events": hooks.note}
    hooks.finish()


def test_variables_are_the_journals_fields() -> None:
    """Whoever knows one knows the other; what is journald's own is left out."""
    variables = environment_of(DECISION)
    assert variables["OOMD_VICTIM_PID"] == "7"
    assert variables["OOMD_ACTION"] == "kill"
    assert all(name.startswith("OOMD_") for name in variables)


def wait_for(what: Callable[[], object]) -> None:
    """Until it is so."""
    end = time.monotonic() + PATIENCE_S
    while not what():
        assert time.monotonic() < end
        time.sleep(0.01)

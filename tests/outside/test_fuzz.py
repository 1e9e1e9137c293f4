"""Inputs of any shape against the control socket's language and server, and against both ends of the link: nothing is
raised, nothing is leaked. OOMD_FUZZ_LINES says how many of each; `make bench` sends a million of each.
"""

from __future__ import annotations

import json
import marshal
import os
import socket
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from oomd.config.compiled import to_plain
from oomd.config.loader import default_config
from oomd.outside.chronicle import Chronicle
from oomd.outside.control import Control
from oomd.outside.desk import Desk
from oomd.outside.doorway import Doorway, address_of
from oomd.outside.killer import Killer
from oomd.outside.ledger import Ledger
from oomd.outside.lines import BadRequest, Lines, encode, parse_request
from oomd.outside.peers import Rights
from oomd.outside.text import describe_event
from tests.fuzzing import Fuzzer, without_a_leak
from tests.outside.events import DECISION, OUTCOME
from tests.test_orders import Site, site

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["site"]

REQUESTS: list[dict[str, Any]] = [
    {"request": "status"},
    {"version": 1, "request": "next", "id": "x"},
    {"request": "kills", "since": 1e9, "most": 3},
    {"request": "pause", "seconds": 60, "reason": "backup"},
    {"request": "resume"},
    {"request": "reload", "id": 3},
    {"request": "kill_now", "dry_run": True},
]
COMMANDS: list[dict[str, Any]] = [
    {"command": "status", "number": 1},
    {"command": "next", "number": 2},
    {"command": "pause", "number": 3, "duration_us": 60_000_000, "why": "backup", "by": "uid 0 (root)"},
    {"command": "resume", "number": 4, "by": "uid 0 (root)"},
    {"command": "kill_now", "number": 5, "by": "uid 0 (root)", "dry_run": True},
    {"command": "reload", "number": 6},
    {"command": "answer", "number": 1, "ok": True, "plain": to_plain(default_config())},
    {"command": "answer", "number": 2, "ok": False, "problems": ["a:1:1: b"]},
    {"command": "managed", "units": [["/a.slice", True, False, None, None], ["/b.slice", False, True, 0.5, 1000]]},
]
EVENTS: list[dict[str, Any]] = [
    DECISION,
    OUTCOME,
    {"event": "escalation", "time": 1.0, "id": "3", "pid": 7, "why": "its grace is over"},
    {"event": "start", "time": 1.0, "pid": 1, "scope": "machine", "dry_run": False, "report": {"lost": ["x"]}},
    {"event": "reload", "time": 1.0, "ok": False, "text": "kept", "problems": ["a"]},
    {"event": "degraded", "time": 1.0, "text": "x"},
    {"event": "pause", "time": 1.0, "text": "x"},
    {"event": "answer", "number": 1, "ok": True, "time": 1.0},
    {"event": "request", "request": "reload", "number": 1, "patience_us": 10},
]


def as_line(message: dict[str, Any]) -> bytes:
    """As JSON, as far as JSON has it."""
    return json.dumps(message, default=repr).encode()


def test_any_lines() -> None:
    """A request or words about what is wrong, and an answer that is one line, whatever came."""
    fuzzer, lines = Fuzzer(1), Lines()

    def send(count: int) -> None:
        for _ in range(count):
            lines.feed(fuzzer.broken(as_line(fuzzer.message(REQUESTS))) + b"\n")
            while True:
                try:
                    line = lines.take()
                    if line is None:
                        break
                    request = parse_request(line)
                    answer = {"ok": True, "id": request.id, "said": request.parameters}
                except BadRequest as error:
                    answer = {"ok": False, "id": error.identity, "text": str(error)}
                assert encode(answer).count(b"\n") == 1

    without_a_leak(send)


@pytest.mark.integration
def test_any_clients(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Over real connections, of which some hang up in the middle; whoever asks well in the end is answered."""
    monkeypatch.setattr("oomd.outside.control.REQUESTS_PER_S", 1e9)
    monkeypatch.setattr("oomd.outside.control.ACCEPTS_AT_ONCE", 1 << 40)
    monkeypatch.setattr(Desk, "patience_s", staticmethod(lambda request: 0.001))
    fuzzer, reading = Fuzzer(2), os.open("/dev/null", os.O_RDWR)
    killer, chronicle = Killer(reading), Chronicle(Ledger(-1))
    control = Control(Doorway(str(tmp_path)), Rights(os.geteuid()), lambda text: None)
    control._desk = Desk(killer, chronicle, control.call_soon, about={}, not_written=lambda: 0)
    control.step(0)

    def send(count: int) -> None:
        for number in range(count // 20):
            with socket.socket(socket.AF_UNIX) as client:
                client.setblocking(False)
                with address_of(str(tmp_path / "control.sock")) as address:
                    client.connect(address)
                for _ in range(20):
                    client.send(fuzzer.broken(as_line(fuzzer.message(REQUESTS))) + b"\n"[: number % 3])
                for _ in range(4 if number % 7 else 40):
                    control.step(0)
        while control._guests:
            control.step(0.01)
        killer._asked.clear()

    try:
        without_a_leak(send)
        with socket.socket(socket.AF_UNIX) as client:
            with address_of(str(tmp_path / "control.sock")) as address:
                client.connect(address)
            client.sendall(b'{"request":"kills"}\n')
            client.setblocking(False)
            heard = b""
            while not heard.endswith(b"\n"):
                control.step(0.01)
                try:
                    heard += client.recv(1 << 16)
                except BlockingIOError:
                    continue
            assert json.loads(heard)["kills"] == []
    finally:
        control._close()
        os.close(reading)


@pytest.mark.integration
def test_any_orders(site: Site) -> None:
    """The killer's end: whatever the outside process sends, the loop goes on by rules, and nobody is signalled."""
    fuzzer = Fuzzer(3)

    def tick() -> None:
        site.loop.pace = replace(site.loop.pace, interval_us=0)
        site.loop.tick()

    def send(count: int) -> None:
        for number in range(count):
            site.outside.send(fuzzer.broken(marshal.dumps(fuzzer.message(COMMANDS))) or b"\x00")
            message = site.companion._link.receive()
            # Without a dry run it is an order like any other, and a right one.
            if message is not None and message.get("dry_run") is not False:
                site.orders.take(message)
            if not number % 64:
                site.heard()
                tick()
                site.companion.expire(1 << 62)
        site.heard()
        for _ in range(20):
            tick()
        site.orders.pausing.end({"by": "x"})
        site.orders.take({"command": "managed", "units": []})
        site.heard()
        site.notified.clear()
        site.last = None

    site.outside.setblocking(False)
    without_a_leak(send)
    assert site.loop.rules.rulesets
    assert site.loop.state.credits == ()
    assert site.loop.act.decisions == 0
    site.orders.take({"command": "status", "number": 77})
    site.loop.tick()
    assert [each["number"] for each in site.heard() if each["event"] == "answer"][-1] == 77


def test_any_events() -> None:
    """The outside's end: whoever listens may stumble over an event, and is told of; the next one is taken as ever."""
    fuzzer, chronicle = Fuzzer(4), Chronicle(Ledger(-1))
    nowhere = os.open("/dev/null", os.O_RDWR)
    killer, heard = Killer(nowhere), [0]

    def describe(event: dict[str, Any]) -> None:
        heard[0] += 1
        describe_event(event)

    killer.listen(chronicle.note)
    killer.listen(describe)

    def send(count: int) -> None:
        for number in range(count):
            killer.pose("status", lambda answer: None, 0.0)
            killer.take(fuzzer.broken(marshal.dumps(fuzzer.message(EVENTS))))
            if not number % 16:
                while not killer._requests.empty():
                    killer._requests.get()
        for _ in range(300):  # the history holds as much afterwards as before
            killer.take(marshal.dumps(DECISION))
        killer._asked.clear()
        chronicle._reload, chronicle._start, chronicle._degraded = {}, {}, []

    try:
        without_a_leak(send)
        before = heard[0]
        killer.take(marshal.dumps(DECISION))
        assert heard[0] == before + 1
        assert chronicle.kills()[-1]["victim"]["comm"] == "leaker"
    finally:
        os.close(nowhere)

"""The control's server on real sockets, stepped by hand: what clients get, and what they cannot take."""

from __future__ import annotations

import json
import os
import signal
import socket
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from oomd.outside import control as module
from oomd.outside import guest
from oomd.outside.control import MOST_CLIENTS, MOST_OF_ONE, RESERVED, Control
from oomd.outside.doorway import Doorway, address_of
from oomd.outside.lines import MOST_REQUEST_BYTES
from oomd.outside.peers import Peer, Rights
from tests.descriptors import open_descriptors, opened_since
from tests.waiting import is_ready

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from oomd.outside.lines import Request

PATIENCE_S = 90.0


class Desk:
    """Answers at once with what was asked; "reload" is answered when the test wants it."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, int]] = []
        self.held: list[Callable[[dict[str, Any]], object]] = []
        self.size = 0
        self.saved = 0
        self.patience = 60.0

    def handle(self, request: Request, peer: Peer, done: Callable[[dict[str, Any]], object]) -> None:
        self.asked.append((request.name, peer.uid))
        if request.name == "reload":
            self.held.append(done)
        else:
            done({"ok": True, "said": request.parameters, "padding": "x" * self.size})

    def save(self) -> None:
        self.saved += 1

    def patience_s(self, _: Request) -> float:
        return self.patience


class Client:
    """One of ours."""

    def __init__(self, path: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.setblocking(False)
        with address_of(path) as address:
            self.socket.connect(address)
        self.heard = b""
        self.ended = False

    def say(self, data: bytes) -> None:
        self.socket.send(data)

    def ask(self, **content: Any) -> None:
        self.say(json.dumps(content).encode() + b"\n")

    def listen(self) -> None:
        """Take what is there."""
        try:
            while data := self.socket.recv(1 << 20):
                self.heard += data
            self.ended = True
        except BlockingIOError:
            return
        except OSError:
            self.ended = True

    def answers(self) -> list[Any]:
        """Whole ones so far."""
        self.listen()
        return [json.loads(line) for line in self.heard.split(b"\n")[:-1]]


class Stage:
    """A server with a clock that the test can put on."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.ahead_s = 0.0
        monkeypatch.setattr(time, "monotonic", lambda: time.perf_counter() + self.ahead_s)
        self.said: list[str] = []
        self.desk = Desk()
        self.doorway = Doorway(str(folder))
        self.control = Control(self.doorway, Rights(os.geteuid()), self.said.append)
        self.control._desk = self.desk  # type: ignore[assignment] # plays one
        self.clients: list[Client] = []
        self.control.step(0)

    def client(self) -> Client:
        """A new one."""
        client = Client(self.doorway.path)
        self.clients.append(client)
        return client

    def until(self, true: Callable[[], object]) -> None:
        """Step until that holds."""
        end = time.perf_counter() + PATIENCE_S
        while not true():
            assert time.perf_counter() < end, [client.heard[-200:] for client in self.clients]
            self.control.step(0.01)

    def answers(self, client: Client, count: int) -> list[Any]:
        """So many answers."""
        self.until(lambda: len(client.answers()) >= count or client.ended)
        return client.answers()

    def be(self, monkeypatch: pytest.MonkeyPatch, uid: int, *groups: int) -> None:
        """Whoever connects from now on is this one."""
        monkeypatch.setattr(module, "peer_of", lambda stream: Peer(1, uid, frozenset(groups)))


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    """Listening."""
    stage = Stage(tmp_path, monkeypatch)
    yield stage
    for client in stage.clients:
        client.socket.close()
    stage.control._close()
    stage.doorway.remove()
    assert os.listdir(tmp_path) == []


def test_requests_and_answers(stage: Stage) -> None:
    """One answer for each request, in order, whether they come together or in pieces; the id comes back."""
    client = stage.client()
    client.say(b'{"request":"status","id":1}\n{"request":"kills","most":2,"id":"b"}\n{"requ')
    assert [(each["id"], each["said"]) for each in stage.answers(client, 2)] == [(1, {}), ("b", {"most": 2})]
    client.say(b'est":"next"}\n')
    (*_, third) = stage.answers(client, 3)
    assert (third["version"], third["id"], third["ok"]) == (1, None, True)
    assert [name for name, _ in stage.desk.asked] == ["status", "kills", "next"]


def test_mistakes_are_answered_and_survived(stage: Stage) -> None:
    """Except a line without end: nobody knows where the next request would begin."""
    client = stage.client()
    client.say(b'nonsense\n{"request":"dance","id":4}\n{"request":"status"}\n')
    first, second, third = stage.answers(client, 3)
    assert (first["ok"], first["error"]) == (False, "bad_request")
    assert (second["id"], second["error"]) == (4, "bad_request")
    assert third["ok"]
    client.say(b"x" * (MOST_REQUEST_BYTES + 1))
    last = stage.answers(client, 4)[-1]
    assert last["text"] == "a request of more than 4096 bytes"
    stage.until(lambda: client.answers() and client.ended)


def test_a_reader_may_not_change_anything(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """By his group he reads; what he may not do he is told, and so is the log, not more than once in a while."""
    stage.control.rights = Rights(os.geteuid(), "adm", 4)
    stage.be(monkeypatch, 4711, 4)
    client = stage.client()
    client.ask(request="status")
    for request in ({"request": "reload"}, {"request": "kill_now"}, {"request": "resume"}):
        client.ask(**request)
    status, *refused = stage.answers(client, 4)
    assert status["ok"]
    assert [each["error"] for each in refused] == ["not_permitted"] * 3
    who = "root" if os.geteuid() == 0 else f"root and uid {os.geteuid()}"
    assert refused[1]["text"] == f"uid 4711 may not kill-now; {who} may"
    assert stage.said == [f"control: uid 4711 may not reload; {who} may"]
    assert [name for name, _ in stage.desk.asked] == ["status"]


def test_a_stranger_gets_one_line(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who might ask, and an end."""
    stage.control.rights = Rights(0, "adm", 4)
    stage.be(monkeypatch, 4711, 5)
    client = stage.client()
    (answer,) = stage.answers(client, 1)
    assert (answer["error"], answer["text"]) == (
        "not_permitted",
        "uid 4711 may not ask; root and members of the group adm may",
    )
    stage.until(lambda: client.answers() and client.ended)
    assert stage.desk.asked == []


def test_an_answer_that_comes_late_or_never(stage: Stage) -> None:
    """The client is told, goes on, and the late answer goes nowhere."""
    stage.desk.patience = 5.0
    client = stage.client()
    client.ask(request="reload", id=1)
    stage.until(lambda: stage.desk.held)
    stage.ahead_s += 6
    (answer,) = stage.answers(client, 1)
    assert (answer["id"], answer["error"]) == (1, "no_answer")
    client.ask(request="reload", id=2)
    stage.until(lambda: len(stage.desk.held) == 2)
    stage.desk.held[0]({"ok": True, "late": True})
    stage.desk.held[1]({"ok": True, "late": False})
    stage.desk.held[1]({"ok": True, "late": False})
    assert [(each["id"], each.get("late")) for each in stage.answers(client, 2)] == [(1, None), (2, False)]


def test_an_answer_for_a_client_that_has_gone(stage: Stage) -> None:
    """Nobody minds; nor when another has its number by then."""
    client = stage.client()
    client.ask(request="reload")
    stage.until(lambda: stage.desk.held)
    client.socket.close()
    other = stage.client()
    other.ask(request="status")
    assert stage.answers(other, 1)[0]["ok"]
    stage.desk.held[0]({"ok": True})
    stage.control.step(0)
    assert len(other.answers()) == 1


def test_slow_loris(stage: Stage) -> None:
    """A request that drips has five seconds on the whole; one that never begins a minute."""
    dripping, silent = stage.client(), stage.client()
    stage.until(lambda: len(stage.control._guests) == 2)
    for _ in range(4):
        dripping.say(b"{")
        stage.until(lambda: all(each.lines.begun for each in list(stage.control._guests.values())[:1]))
        stage.ahead_s += 1.5
        stage.control.step(0)
    stage.until(lambda: dripping.answers() == [] and dripping.ended)
    silent.listen()
    assert not silent.ended
    stage.ahead_s += guest.IDLE_S
    stage.until(lambda: silent.answers() == [] and silent.ended)


def test_who_never_reads_costs_one_answer_and_some_seconds(stage: Stage) -> None:
    """No second request is taken while the first answer waits, nothing is read, and then it is hung up on."""
    stage.desk.size = 1 << 20
    client = stage.client()
    for _ in range(50):
        client.ask(request="status")
    stage.until(lambda: stage.desk.asked)
    for _ in range(20):
        stage.control.step(0)
    assert len(stage.desk.asked) == 1
    other = stage.client()
    stage.desk.size = 0
    other.ask(request="status")
    assert stage.answers(other, 1)[0]["ok"]
    stage.ahead_s += guest.WRITE_S
    stage.until(lambda: len(stage.control._guests) == 1)


def test_who_reads_slowly_gets_it_all(stage: Stage) -> None:
    """As long as it does not take too long."""
    stage.desk.size = 3 << 20
    client = stage.client()
    client.ask(request="status")
    assert len(stage.answers(client, 1)[0]["padding"]) == 3 << 20


def test_a_flood_of_requests(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """So many at once, then so many a second, whatever the number of connections; others are served meanwhile."""
    stage.control.rights = Rights(os.geteuid(), "adm", 4)
    stage.be(monkeypatch, 4711, 4)
    flood = [stage.client() for _ in range(3)]
    for client in flood:
        client.say(b'{"request":"status"}\n' * 100)
    stage.until(lambda: len(stage.desk.asked) >= guest.REQUESTS_AT_ONCE)
    for _ in range(50):
        stage.control.step(0)
    among = len(stage.desk.asked)
    assert among < guest.REQUESTS_AT_ONCE + 20  # and what the bucket was filled with meanwhile
    stage.be(monkeypatch, os.geteuid(), 0)
    other = stage.client()
    other.ask(request="status")
    assert stage.answers(other, 1)[0]["ok"]
    stage.ahead_s += 1.0
    stage.until(lambda: len(stage.desk.asked) >= among + guest.REQUESTS_PER_S)


def test_a_flood_of_clients(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """One user has a few places, all users together not all of them: root still gets in."""
    stage.control.rights = Rights(0, "adm", 4)
    for uid in range(4711, 4711 + 5):
        stage.be(monkeypatch, uid, 4)
        crowd = [stage.client() for _ in range(MOST_OF_ONE + 2)]
        stage.until(
            lambda: (
                len(stage.control._guests) + sum(bool(each.answers()) for each in stage.clients) == len(stage.clients)
            )
        )
        told = [client for client in crowd if client.answers()]
        assert len(told) >= 2
        assert {client.answers()[0]["error"] for client in told} == {"too_many"}
    assert len(stage.control._guests) == MOST_CLIENTS - RESERVED
    stage.be(monkeypatch, 0, 0)
    root = stage.client()
    root.ask(request="status")
    assert stage.answers(root, 1)[0]["ok"]


def test_a_flood_of_connections(stage: Stage) -> None:
    """Who comes and goes too often waits at the door: nobody is let in for a moment, then again."""
    for _ in range(module.ACCEPTS_AT_ONCE + 5):
        client = Client(stage.doorway.path)
        client.socket.close()
        stage.control.step(0)
        if stage.control._closed_until_s:
            break
    assert stage.control._closed_until_s
    client = stage.client()
    client.ask(request="status")
    assert stage.answers(client, 1)[0]["ok"]


def test_the_socket_comes_back(stage: Stage) -> None:
    """Somebody has cleaned up /run; or the directory was missing for a while, which is told once."""
    os.unlink(stage.doorway.path)
    stage.ahead_s += module.CHECK_S
    stage.control.step(0)
    client = stage.client()
    client.ask(request="status")
    assert stage.answers(client, 1)[0]["ok"]
    os.unlink(stage.doorway.path)
    os.rename(stage.doorway._directory, f"{stage.doorway._directory}-away")
    for _ in range(3):
        stage.ahead_s += module.CHECK_S
        stage.control.step(0)
    assert len(stage.said) == 1
    assert "no control socket" in stage.said[0]
    os.rename(f"{stage.doorway._directory}-away", stage.doorway._directory)
    stage.ahead_s += module.CHECK_S
    stage.control.step(0)
    again = stage.client()
    again.ask(request="status")
    assert stage.answers(again, 1)[0]["ok"]


def test_the_kernel_tells_when_the_socket_is_removed(tmp_path: Path) -> None:
    """Then nobody needs to look: it is back at once, again and again, in a new directory too."""
    said: list[str] = []
    control = Control(Doorway(str(tmp_path / "run")), Rights(os.geteuid()), said.append, told=True)
    control._desk = Desk()  # type: ignore[assignment] # plays one
    before = signal.signal(signal.SIGIO, lambda *_: control.check())
    path = tmp_path / "run" / "control.sock"
    try:
        for _ in range(2):
            (tmp_path / "run").mkdir()
            control._suspect = True
            control.step(0)
            for _ in range(2):
                assert control._next_s() - time.monotonic() > module.CHECK_S
                control.step(0)  # that it was made is a change, too
                path.unlink()
                end = time.monotonic() + PATIENCE_S
                while not path.exists():
                    assert time.monotonic() < end
                    control.step(0.01)
            for each in (tmp_path / "run").iterdir():
                each.unlink()
            (tmp_path / "run").rmdir()
            control.step(0)
    finally:
        signal.signal(signal.SIGIO, before)
        control._close()
        control._doorway.remove()
    assert len(said) == 2  # each time that the directory was gone


def test_nothing_is_left_behind(stage: Stage) -> None:
    """Neither descriptors nor clients, after a thousand of every kind."""
    before = None
    for number in range(400):
        stage.ahead_s += 1.0
        client = Client(stage.doorway.path)
        client.say((b'{"request":"status"}\n', b"{", b"nonsense\n", b"")[number % 4])
        stage.control.step(0)
        stage.control.step(0)
        client.socket.close()
        for _ in range(3):
            stage.control.step(0)
        if number == 50:
            before = open_descriptors()
    stage.until(lambda: not stage.control._guests)
    assert before is not None
    assert opened_since(before) == []
    assert not stage.control._jobs
    assert len(stage.control._users) == 1
    assert stage.desk.saved


def test_a_bug_costs_a_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is told, and the socket goes on answering."""
    monkeypatch.setattr(module, "STOP_S", 0.01)
    said: list[str] = []
    doorway = Doorway(str(tmp_path))
    control = Control(doorway, Rights(os.geteuid()), said.append)
    control.start(Desk())  # type: ignore[arg-type] # plays one
    done = threading.Event()
    control.call_soon(lambda: {"a job": 1}["no such job"])
    control.call_soon(done.set)
    assert done.wait(PATIENCE_S)
    monkeypatch.setattr(module, "STOP_S", PATIENCE_S)
    control.stop()
    assert said == ["control: a bug: KeyError('no such job')"]


def test_a_thread_of_its_own(tmp_path: Path) -> None:
    """Jobs from other threads are done there; its end removes the socket."""
    doorway = Doorway(str(tmp_path))
    control = Control(doorway, Rights(os.geteuid()), lambda text: None)
    control.start(Desk())  # type: ignore[arg-type] # plays one
    reading, writing = os.pipe()
    control.call_soon(lambda: os.write(writing, b"!"))
    assert is_ready(reading, PATIENCE_S)
    control.stop()
    assert os.listdir(tmp_path) == []
    os.close(reading)
    os.close(writing)

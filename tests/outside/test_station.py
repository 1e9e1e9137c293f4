"""An object on a real message bus."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from oomd.outside import station
from oomd.outside.dbus import BUS, MOST_BYTES, Bus, BusError
from oomd.outside.served import Method, Served
from oomd.outside.station import MOST_WAITING, Station
from tests.descriptors import open_descriptors, opened_since
from tests.outside.bus import OwnBus, running_bus

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = pytest.mark.integration

NAME, PATH, INTERFACE = "org.example.oomd", "/org/example/oomd", "org.example.Oomd"
PATIENCE_S = 90.0


def served(**methods: Method) -> Served:
    """An object of the test."""
    return Served(NAME, PATH, INTERFACE, methods, {"Happened": "si"})


PONG = served(Ping=Method("", "s", lambda: ("pong",)))


@contextmanager
def offered(bus: OwnBus, what: Served) -> Iterator[tuple[Station, list[str]]]:
    """A station, and what it said to people."""
    said: list[str] = []
    one = Station(what, said.append, bus.address)
    one.start()
    try:
        yield one, said
    finally:
        one.close()


def wait_for(what: Callable[[], object]) -> None:
    """Until it is so."""
    end = time.monotonic() + PATIENCE_S
    while not what():
        assert time.monotonic() < end
        time.sleep(0.01)


def ask(client: Bus, method: str, *arguments: object, signature: str = "", timeout_s: float = PATIENCE_S) -> object:
    """What our object's method returns."""
    return client.call(NAME, PATH, INTERFACE, method, arguments, signature=signature, timeout_s=timeout_s)


def test_object_is_offered(tmp_path: Path) -> None:
    """systemd's client sees the object, calls it, gets a descriptor, and is told what is wrong."""

    def read(word: str) -> tuple[object, ...]:
        if word == "bug":
            raise ZeroDivisionError("by nothing")
        if word == "no":
            raise BusError("not now")
        return (7,) if word == "unfit" else (word * 2,)

    def pass_file() -> tuple[object, ...]:
        reading, writing = os.pipe()
        os.write(writing, b"through the bus")
        os.close(writing)
        return (os.fdopen(reading, "rb"),)

    before = open_descriptors()
    what = served(Twice=Method("s", "s", read), Pass=Method("", "h", pass_file))
    with running_bus(tmp_path) as bus, offered(bus, what) as (one, said), Bus(bus.address) as client:
        wait_for(lambda: one._bus)
        assert ask(client, "Twice", "ab", signature="s") == ("abab",)
        done = bus.busctl("call", NAME, PATH, INTERFACE, "Twice", "s", "x")
        assert (done.stdout, done.stderr) == ('s "xx"\n', "")
        assert bus.busctl("call", NAME, PATH, INTERFACE, "Pass").stdout.startswith("h ")
        assert f"{PATH}\n" in bus.busctl("tree", "--list", NAME).stdout
        shown = bus.busctl("introspect", NAME, PATH).stdout
        assert ".Twice" in shown
        assert ".Happened" in shown
        for words, text in (
            (("Twice", "s", "no"), "not now"),
            (("Twice", "s", "bug"), "ZeroDivisionError"),
            (("Twice", "s", "unfit"), "TypeError"),
            (("Twice", "i", "1"), "takes s"),
            (("Thrice",), "there is no method org.example.Oomd.Thrice"),
        ):
            done = bus.busctl("call", NAME, PATH, INTERFACE, *words)
            assert text in done.stderr, done
        assert "there is no object /elsewhere" in bus.busctl("call", NAME, "/elsewhere", INTERFACE, "Twice").stderr
        assert said == []
    assert opened_since(before) == []


def test_signals(tmp_path: Path) -> None:
    """Whoever listens hears them."""
    heard = ""
    with running_bus(tmp_path) as bus, offered(bus, served()) as (one, _):
        wait_for(lambda: one._bus)
        ours, theirs = os.pipe()
        pid = os.posix_spawn(
            "/usr/bin/busctl",
            ["busctl", f"--address={bus.address}", "--json=short", "monitor", NAME],
            os.environ,
            file_actions=[(os.POSIX_SPAWN_DUP2, theirs, 1), (os.POSIX_SPAWN_DUP2, theirs, 2)],
        )
        os.close(theirs)
        with os.fdopen(ours, encoding="utf-8") as lines:
            assert "Monitoring" in lines.readline()
            assert one.emit("Happened", "Müller", 7)
            heard = next(line for line in lines if '"Happened"' in line)
        os.kill(pid, signal.SIGTERM)
        os.waitpid(pid, 0)
    assert '"data":["Müller",7]' in heard


def test_comes_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the bus ends and begins again the name and the object are there again; who waits for an answer meanwhile is
    told, and each trouble is said once.
    """
    monkeypatch.setattr(station, "RETRY_S", 0.05)
    waits, goes_on = threading.Event(), threading.Event()

    def hang() -> tuple[object, ...]:
        waits.set()
        goes_on.wait(PATIENCE_S)
        return ()

    bus = OwnBus(tmp_path)
    errors: list[str] = []
    with offered(bus, served(Hang=Method("", "", hang), Ping=Method("", "s", lambda: ("pong",)))) as (one, said):
        wait_for(lambda: said)
        assert "cannot be had" in said[0]
        assert not one.emit("Happened", "x", 1)
        bus.start()
        wait_for(lambda: one._bus)
        client = Bus(bus.address)

        def wait_for_an_answer() -> None:
            try:
                ask(client, "Hang")
            except BusError as error:
                errors.append(str(error))

        asking = threading.Thread(target=wait_for_an_answer)
        asking.start()
        assert waits.wait(PATIENCE_S)
        bus.stop()
        asking.join(PATIENCE_S)
        assert errors == ["Hang: the connection was lost"]
        with pytest.raises(BusError):
            ask(client, "Ping")
        client.close()
        goes_on.set()
        wait_for(lambda: len(said) == 2)
        bus.start()
        wait_for(lambda: one._bus)
        with Bus(bus.address) as client:
            assert ask(client, "Ping") == ("pong",)
        assert len(said) == 2
        bus.stop()


def test_bus_that_hangs_ends_the_call(tmp_path: Path) -> None:
    """Nobody waits longer than he said."""
    with running_bus(tmp_path) as bus, Bus(bus.address) as client:
        bus.freeze(signal.SIGSTOP)
        with pytest.raises(BusError, match="no answer within"):
            client.call(*BUS, "ListNames", timeout_s=0.2)
        bus.freeze(signal.SIGCONT)
        (names,) = client.call(*BUS, "ListNames", timeout_s=PATIENCE_S)
        assert BUS[0] in names


def test_name_of_somebody_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is told once, nothing is offered by us, and it is taken as soon as it is free; where the policy says no, that
    is told.
    """
    monkeypatch.setattr(station, "RETRY_S", 0.05)
    with running_bus(tmp_path) as bus, Bus(bus.address) as client:
        with offered(bus, PONG) as (first, _):
            wait_for(lambda: first._bus)
            said: list[str] = []
            second = Station(served(Ping=Method("", "s", lambda: ("second",))), said.append, bus.address)
            second.start()
            wait_for(lambda: said)
            assert ask(client, "Ping") == ("pong",)
        wait_for(lambda: second._bus)
        assert ask(client, "Ping") == ("second",)
        assert said == [f"somebody else has the name {NAME}"]
        second.close()
        with offered(bus, Served("org.example.other", PATH, INTERFACE)) as (_, told):
            wait_for(lambda: told)
            assert "not allowed to own" in told[0]


def test_who_offers_nothing_says_so(tmp_path: Path) -> None:
    """A connection that only calls is called."""
    with running_bus(tmp_path) as bus, Bus(bus.address) as one, Bus(bus.address) as client:
        one.call(*BUS, "RequestName", (NAME, 4), signature="su", timeout_s=PATIENCE_S)
        with pytest.raises(BusError, match="nothing is offered here"):
            ask(client, "Ping")


def test_calls_are_bounded_and_long_messages_unread(tmp_path: Path) -> None:
    """While one method hangs so many wait; the next is refused at once. What is longer than anything that is asked here
    is skipped, whole, and so are descriptors that nobody asked for.
    """
    goes_on = threading.Event()

    def hang() -> tuple[object, ...]:
        goes_on.wait(PATIENCE_S)
        return ()

    before = open_descriptors()
    what = served(Hang=Method("", "", hang), Length=Method("s", "i", lambda text: (len(text),)))
    with (
        running_bus(tmp_path) as bus,
        offered(bus, what) as (one, _),
        Bus(bus.address, descriptors=True) as client,
    ):
        wait_for(lambda: one._bus)
        assert ask(client, "Length", "x" * 1000, signature="s") == (1000,)
        with pytest.raises(BusError, match="no answer"):
            ask(client, "Length", "x" * (3 * MOST_BYTES), signature="s", timeout_s=0.5)
        ours, theirs = socket.socketpair()
        with ours, theirs, pytest.raises(BusError, match="there is no method"):
            ask(client, "Take", ours.fileno(), theirs.fileno(), signature="hh")
        answers: list[str] = []

        def wait_for_an_answer() -> None:
            try:
                ask(client, "Hang")
                answers.append("done")
            except BusError as error:
                answers.append(str(error))

        asking = [threading.Thread(target=wait_for_an_answer) for _ in range(MOST_WAITING + 5)]
        for thread in asking:
            thread.start()
        wait_for(lambda: "Hang: too many calls at a time" in answers)
        assert not any(one.emit("Happened", "x", 1) for _ in range(3))
        goes_on.set()
        for thread in asking:
            thread.join(PATIENCE_S)
        assert set(answers) == {"done", "Hang: too many calls at a time"}
        assert ask(client, "Length", "abc", signature="s") == (3,)
    assert opened_since(before) == []

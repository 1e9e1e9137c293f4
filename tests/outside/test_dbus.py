"""A connection with a real message bus."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from oomd.outside import dbus
from oomd.outside.dbus import MOST_BYTES, MOST_WAITING, Bus, BusError
from oomd.outside.served import Method, Served
from tests.descriptors import open_descriptors, opened_since
from tests.outside.bus import OwnBus, running_bus

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = pytest.mark.integration

NAME, PATH, INTERFACE = "org.example.oomd", "/org/example/oomd", "org.example.Oomd"
DAEMON = ("org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus")
PATIENCE_S = 20.0


def served(**methods: Method) -> Served:
    """An object of the test."""
    return Served(NAME, PATH, INTERFACE, methods, {"Happened": "si"})


@contextmanager
def connected(bus: OwnBus, what: Served | None = None) -> Iterator[tuple[Bus, list[str]]]:
    """A connection, and what it said to people."""
    said: list[str] = []
    one = Bus(said.append, address=bus.address, served=what)
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


def test_call_and_answer(tmp_path: Path) -> None:
    """A call that is made before the connection stands waits for it; the answer's values come back."""
    with running_bus(tmp_path) as bus, connected(bus) as (one, said):
        (names,) = one.call(*DAEMON, "ListNames")
        assert "org.freedesktop.DBus" in names
        assert one.call(*DAEMON, "NameHasOwner", "s", ("org.example.nobody",)) == (False,)
        assert said == []


def test_what_fails_says_why(tmp_path: Path) -> None:
    """An error of the other side, in its words; nobody of that name; and no bus at all."""
    with running_bus(tmp_path) as bus, connected(bus) as (one, _):
        with pytest.raises(BusError, match=r"org\.example\.nobody"):
            one.call("org.example.nobody", "/", "org.example.Nothing", "Do", timeout_s=PATIENCE_S)
        with pytest.raises(BusError, match="NoSuchMethod"):
            one.call(*DAEMON, "NoSuchMethod")
    nowhere = OwnBus(tmp_path)
    with connected(nowhere, served()) as (one, said):
        assert not one.emit("Happened", "x", 1)
        with pytest.raises(BusError, match="no connection with the bus"):
            one.call(*DAEMON, "ListNames", timeout_s=0.5)
        assert len(said) == 1


def test_object_is_served(tmp_path: Path) -> None:
    """systemd's client sees the object, calls it, gets a descriptor, and is told what is wrong."""

    def read(word: str) -> tuple[object, ...]:
        if word == "bug":
            raise ZeroDivisionError("by nothing")
        if word == "no":
            raise BusError("not now")
        return (word * 2,)

    def pass_file() -> tuple[object, ...]:
        reading, writing = os.pipe()
        os.write(writing, b"through the bus")
        os.close(writing)
        return (os.fdopen(reading, "rb"),)

    before = open_descriptors()
    with (
        running_bus(tmp_path) as bus,
        connected(bus, served(Twice=Method("s", "s", read), Pass=Method("", "h", pass_file))) as (one, _),
        connected(bus) as (other, _),
    ):
        assert one.call(NAME, PATH, INTERFACE, "Twice", "s", ("self",)) == ("selfself",)
        assert other.call(NAME, PATH, INTERFACE, "Twice", "s", ("ab",)) == ("abab",)
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
            (("Twice", "i", "1"), "takes s"),
            (("Thrice",), "there is no method org.example.Oomd.Thrice"),
        ):
            done = bus.busctl("call", NAME, PATH, INTERFACE, *words)
            assert text in done.stderr, done
        assert "there is no object /elsewhere" in bus.busctl("call", NAME, "/elsewhere", INTERFACE, "Twice").stderr
    assert opened_since(before) == []


def test_signals(tmp_path: Path) -> None:
    """Whoever listens hears them."""
    heard: list[tuple[object, ...]] = []
    with running_bus(tmp_path) as bus, connected(bus, served()) as (one, _):
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
            one.call(*DAEMON, "ListNames")
            assert one.emit("Happened", "Müller", 7)
            for line in lines:
                if '"Happened"' in line:
                    heard.append((line,))
                    break
        os.kill(pid, signal.SIGTERM)
        os.waitpid(pid, 0)
    assert '"data":["Müller",7]' in str(heard[0][0])


def test_comes_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bus that ends and begins again has the name and the object again; who waits for an answer meanwhile is told."""
    monkeypatch.setattr(dbus, "RETRY_S", 0.05)
    waits, goes_on = threading.Event(), threading.Event()

    def hang() -> tuple[object, ...]:
        waits.set()
        goes_on.wait(PATIENCE_S)
        return ()

    bus = OwnBus(tmp_path)
    bus.start()
    errors: list[str] = []
    with connected(bus, served(Hang=Method("", "", hang), Ping=Method("", "s", lambda: ("pong",)))) as (one, said):

        def ask() -> None:
            try:
                one.call(NAME, PATH, INTERFACE, "Hang")
            except BusError as error:
                errors.append(str(error))

        asking = threading.Thread(target=ask)
        asking.start()
        assert waits.wait(PATIENCE_S)
        bus.stop()
        asking.join(PATIENCE_S)
        assert errors == ["the connection with the bus was lost"]
        goes_on.set()
        wait_for(lambda: said)
        assert not one.emit("Happened", "x", 1)
        bus.start()
        assert one.call(NAME, PATH, INTERFACE, "Ping", timeout_s=PATIENCE_S) == ("pong",)
        assert len(said) == 1
        bus.stop()
        wait_for(lambda: len(said) == 2)


def test_bus_that_hangs_ends_the_call(tmp_path: Path) -> None:
    """Nobody waits longer than he said."""
    with running_bus(tmp_path) as bus, connected(bus) as (one, _):
        one.call(*DAEMON, "ListNames")
        bus.freeze(signal.SIGSTOP)
        with pytest.raises(BusError, match="no answer within"):
            one.call(*DAEMON, "ListNames", timeout_s=0.2)
        bus.freeze(signal.SIGCONT)
        assert one.call(*DAEMON, "ListNames")


def test_name_of_somebody_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is told once, nothing is served by us, and it is taken as soon as it is free; where the policy says no, that
    is told.
    """
    monkeypatch.setattr(dbus, "RETRY_S", 0.05)
    with running_bus(tmp_path) as bus:
        with connected(bus, served()) as (first, _):
            first.call(*DAEMON, "ListNames")
            with connected(bus, served(Ping=Method("", "s", lambda: ("second",)))) as (second, said):
                wait_for(lambda: said)
                first.close()
                assert second.call(NAME, PATH, INTERFACE, "Ping") == ("second",)
                assert said == [f"somebody else has the name {NAME}"]
                first.close = lambda: None  # type: ignore[method-assign]
        with connected(bus, Served("org.example.other", PATH, INTERFACE)) as (_, said):
            wait_for(lambda: said)
            assert "not allowed to own" in said[0]


def test_calls_are_bounded_and_long_messages_unread(tmp_path: Path) -> None:
    """While one method hangs so many wait; the next is refused at once. What is longer than anything that is asked here
    is skipped, whole, with the descriptors in it.
    """
    goes_on = threading.Event()

    def hang() -> tuple[object, ...]:
        goes_on.wait(PATIENCE_S)
        return ()

    before = open_descriptors()
    what = served(Hang=Method("", "", hang), Length=Method("s", "i", lambda text: (len(text),)))
    with running_bus(tmp_path) as bus, connected(bus, what) as (one, _), connected(bus) as (other, _):
        assert one.call(NAME, PATH, INTERFACE, "Length", "s", ("x" * 1000,)) == (1000,)
        with pytest.raises(BusError, match="no answer"):
            other.call(NAME, PATH, INTERFACE, "Length", "s", ("x" * (3 * MOST_BYTES),), timeout_s=0.5)
        ours, theirs = socket.socketpair()
        with ours, theirs, pytest.raises(BusError, match="there is no method"):
            other.call(NAME, PATH, INTERFACE, "Take", "hh", (ours.fileno(), theirs.fileno()))
        answers: list[str] = []

        def ask() -> None:
            try:
                other.call(NAME, PATH, INTERFACE, "Hang")
                answers.append("done")
            except BusError as error:
                answers.append(str(error))

        asking = [threading.Thread(target=ask) for _ in range(MOST_WAITING + 5)]
        for thread in asking:
            thread.start()
        wait_for(lambda: "too many calls at a time" in answers)
        goes_on.set()
        for thread in asking:
            thread.join(PATIENCE_S)
        assert set(answers) == {"done", "too many calls at a time"}
        assert one.call(*DAEMON, "ListNames")
    assert opened_since(before) == []

"""D-Bus: calls, properties, signals and what goes wrong, on a bus of the test's own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from oomd.outside.dbus import Bus, BusError, Deadline
from tests.outside.fake_bus import FakeBus

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

WHERE = ("org.example", "/org/example", "org.example.Thing")


def answers(member: str, arguments: tuple[Any, ...]) -> Any:
    """What the service says."""
    return {
        "Double": ("u", (2 * arguments[0],)) if member == "Double" else None,
        "Get": ("v", (("s", f"value of {arguments[-1]}"),)) if member == "Get" else None,
        "Nothing": ("", ()),
        "Denied": "org.freedesktop.DBus.Error.AccessDenied",
        "Hang": None,
    }[member]


@pytest.fixture
def bus(tmp_path: Path) -> Iterator[FakeBus]:
    """One that answers."""
    bus = FakeBus(tmp_path, answers)
    yield bus
    bus.close()


def test_calls_and_properties(bus: FakeBus) -> None:
    """Arguments go there, values come back, one after the other over one connection."""
    with Bus(bus.address) as connection:
        assert connection.call(*WHERE, "Double", (21,), signature="u", timeout_s=90) == (42,)
        assert connection.call(*WHERE, "Nothing", timeout_s=90) == ()
        assert connection.read_property(*WHERE, "State", timeout_s=90) == "value of State"
    assert bus.calls == [("Double", (21,)), ("Nothing", ()), ("Get", (WHERE[2], "State"))]


def test_signals(bus: FakeBus) -> None:
    """They are sent, and nobody answers."""
    with Bus(bus.address) as connection:
        connection.emit("/org/example", "org.example.Thing", "Killed", ("/a", "memory-used"), signature="ss")
        connection.call(*WHERE, "Nothing", timeout_s=90)
    assert bus.signals == [("Killed", ("/a", "memory-used"))]


def test_errors(bus: FakeBus) -> None:
    """An answer that is an error, none in time, and a bus that hangs up are told as such."""
    with Bus(bus.address) as connection:
        with pytest.raises(BusError, match="Denied: told org") as caught:
            connection.call(*WHERE, "Denied", timeout_s=90)
        assert caught.value.name == "org.freedesktop.DBus.Error.AccessDenied"
        with pytest.raises(BusError, match=r"Hang: no answer within 0\.1 s"):
            connection.call(*WHERE, "Hang", timeout_s=0.1)
    connection = Bus(bus.address)
    bus._answers = lambda *_: exec("raise OSError")
    with pytest.raises(BusError, match="Nothing: "):
        connection.call(*WHERE, "Nothing", timeout_s=90)
    connection.close()


def test_no_bus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody listens, nobody is let in, or what listens says nothing."""
    with pytest.raises(BusError, match="cannot be had"):
        Bus(f"unix:path={tmp_path}/none")
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", f"unix:path={tmp_path}/none")
    with pytest.raises(BusError, match="the system bus cannot be had"):
        Bus()
    closed = FakeBus(tmp_path, answers, lets_in=False)
    with pytest.raises(BusError, match="cannot be had"):
        Bus(closed.address)
    closed.close()


def test_deadline() -> None:
    """Counts down to nothing, and no further."""
    assert 19 < Deadline(20).left_s <= 20
    assert Deadline(-1).left_s == 0

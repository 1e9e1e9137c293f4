"""Restarting a service, against a manager of the test's own; a real one is asked in the VM lab."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from oomd.outside.units import restart_unit
from tests.outside.fake_bus import FakeBus

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PATH = "/org/freedesktop/systemd1/unit/web_2eservice"


class Manager:
    """systemd, as far as it is asked."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {"LoadState": "loaded", "ActiveState": "active", "SubState": "running"}
        self.jobs = 3
        """Looks at which the job is still there."""
        self.refuses = ""

    def answer(self, member: str, arguments: tuple[Any, ...]) -> Any:
        """What it says."""
        if member == "LoadUnit":
            return ("o", (PATH,))
        if member == "RestartUnit":
            return self.refuses or ("o", ("/org/freedesktop/systemd1/job/7",))
        if arguments[1] == "Job":
            self.jobs -= 1
            return ("v", (("(uo)", (7 if self.jobs >= 0 else 0, "/")),))
        return ("v", (("s", self.values[arguments[1]]),))


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[tuple[Manager, FakeBus]]:
    """One with a service that runs."""
    manager = Manager()
    bus = FakeBus(tmp_path, manager.answer)
    yield manager, bus
    bus.close()


def ask(bus: FakeBus, unit: object = "web.service", patience_s: float = 20) -> dict[str, Any]:
    """The answer to a request."""
    return restart_unit({"unit": unit, "patience_us": int(patience_s * 1e6)}, bus.address)


def test_until_it_runs_again(manager: tuple[Manager, FakeBus]) -> None:
    """The job is waited for, and the state after it is told."""
    state, bus = manager
    assert ask(bus) == {"ok": True, "text": "web.service is active (running)"}
    assert ("RestartUnit", ("web.service", "replace")) in bus.calls
    assert state.jobs == -1


def test_what_goes_wrong(manager: tuple[Manager, FakeBus]) -> None:
    """It does not come up, takes too long, is not there, may not be restarted."""
    state, bus = manager
    state.values.update(ActiveState="failed", SubState="failed")
    assert ask(bus) == {"ok": False, "text": "web.service is failed (failed)"}
    state.jobs = 10**6
    assert ask(bus, patience_s=3) == {"ok": False, "text": "web.service is still being restarted"}
    state.values["LoadState"] = "not-found"
    assert ask(bus) == {"ok": False, "text": "there is no web.service"}
    state.values["LoadState"] = "loaded"
    state.refuses = "org.freedesktop.DBus.Error.InteractiveAuthorizationRequired"
    assert "InteractiveAuthorizationRequired" in ask(bus)["text"]


@pytest.mark.parametrize("unit", ["user.slice", "a b.service", "../x.service", "", None, 7, "x" * 300 + ".service"])
def test_only_services(manager: tuple[Manager, FakeBus], unit: object) -> None:
    """Nothing else is asked for."""
    _, bus = manager
    assert ask(bus, unit) == {"ok": False, "text": f"{unit!r} is no service"}
    assert bus.calls == []


def test_no_bus(tmp_path: Path) -> None:
    """Is an answer, not an error."""
    answer = restart_unit({"unit": "web.service", "patience_us": 10**6}, f"unix:path={tmp_path}/none")
    assert answer["ok"] is False
    assert "cannot be had" in answer["text"]

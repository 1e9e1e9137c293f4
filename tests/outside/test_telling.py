"""Who is told besides the log: each channel by itself, and none holds up another."""

from __future__ import annotations

import queue
import threading
import time
from typing import TYPE_CHECKING

from oomd.outside import low_memory as monitor
from oomd.outside import telling as module
from oomd.outside.reporter import note
from oomd.outside.telling import Telling, start_telling
from tests.outside.events import DECISION, OUTCOME

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest

    from oomd.model.report import Plain

PATIENCE_S = 90.0


class Killer:
    """Whose events are listened to."""

    def __init__(self) -> None:
        self.listeners: list[Callable[[Plain], object]] = []

    def listen(self, listener: Callable[[Plain], object]) -> None:
        """One more."""
        self.listeners.append(listener)

    def say(self, event: Plain) -> None:
        """As the link does."""
        for listener in self.listeners:
            listener(event)


def test_channels_hear_what_may_concern_them() -> None:
    """Decisions, escalations, outcomes; nothing else wakes them."""
    heard: queue.SimpleQueue[Plain] = queue.SimpleQueue()
    telling = Telling()
    telling.add(heard.put)
    for event in (note("x"), DECISION, OUTCOME):
        telling.put(event)
    assert [heard.get(timeout=PATIENCE_S)["event"] for _ in range(2)] == ["decision", "outcome"]
    telling.finish()
    assert heard.empty()


def test_one_that_hangs_holds_up_nobody() -> None:
    """Neither the others, nor whoever puts, nor the end."""
    gate, heard = threading.Event(), queue.SimpleQueue[str]()
    telling = Telling()

    def hang(_: Plain) -> None:
        gate.wait()

    telling.add(hang)
    telling.add(lambda event: heard.put(event["event"]))
    begin = time.monotonic()
    for _ in range(500):
        telling.put(OUTCOME)
        assert heard.get(timeout=PATIENCE_S) == "outcome"
    telling.finish()
    assert time.monotonic() - begin < PATIENCE_S / 2
    gate.set()


def test_only_what_was_asked_for_is_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the keys of the configuration; what cannot be had is told, and costs nobody else."""
    begun: list[str] = []

    def absent(_: object) -> Callable[[Plain], None]:
        raise FileNotFoundError(2, "no such device")

    def make(name: str) -> Callable[[object], Callable[[Plain], None]]:
        def begin(_: object) -> Callable[[Plain], None]:
            begun.append(name)
            return lambda event: None

        return begin

    monkeypatch.setattr(module, "CHANNELS", {"kmsg": absent, "wall": make("wall"), "desktop": make("desktop")})
    told: list[Plain] = []
    start_telling({"tell": ["kmsg", "wall"]}, Killer(), told.append).finish()  # type: ignore[arg-type]
    assert begun == ["wall"]
    assert [(event["event"], event["text"]) for event in told] == [
        ("degraded", "tell.kmsg: nobody will be told so: no such device")
    ]
    start_telling({}, Killer(), told.append).finish()  # type: ignore[arg-type]
    assert begun == ["wall"]


def test_programs_are_asked_to_trim(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the killer says of memory goes to the bus as it is."""
    sent: list[tuple[object, ...]] = []

    class Station:
        def __init__(self, served: object, say: object, address: str) -> None:
            pass

        def start(self) -> None:
            pass

        def emit(self, *signal: object) -> bool:
            sent.append(signal)
            return True

    monkeypatch.setattr(monitor, "Station", Station)
    killer = Killer()
    telling = start_telling({"tell": ["low_memory_monitor"]}, killer, lambda event: None)  # type: ignore[arg-type]
    killer.say({"event": "shortage", "time": 0.0, "level": 100, "status": {"available_bytes": 1}})
    killer.say({"event": "shortage", "time": 0.0, "level": 0})
    killer.say(DECISION)
    telling.finish()
    assert sent == [("LowMemoryWarning", 100)]

"""Who is told besides the log (``tell:``): each channel has a thread and a bounded queue of its own, so that one that
hangs holds up neither the link nor the others.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from oomd.outside.kmsg import Kmsg
from oomd.outside.pods import Pods, name_pods
from oomd.outside.reporter import FLUSH_S, Reporter
from oomd.outside.wall import Wall

if TYPE_CHECKING:
    from oomd.model.report import Plain
    from oomd.outside.killer import Killer
    from oomd.outside.sinks import Sink

Say = Callable[[str], object]
"""Tells people what cannot be told to others."""
KINDS = frozenset({"decision", "escalation", "outcome"})
"""What a channel may have something to say about."""


def _kmsg(_: Say) -> Sink:
    return name_pods(Kmsg(), Pods())


def _wall(_: Say) -> Sink:
    return Wall()


def _desktop(say: Say) -> Sink:
    from oomd.outside.desktop import Desktop  # D-Bus is loaded only where somebody wants it

    return Desktop(say)


CHANNELS: dict[str, Callable[[Say], Sink]] = {"kmsg": _kmsg, "wall": _wall, "desktop": _desktop}
"""By the key of the configuration; whoever cannot be had raises OSError."""


class Telling:
    """The channels that were asked for."""

    def __init__(self) -> None:
        self._reporters: list[Reporter] = []

    def add(self, sink: Sink) -> None:
        """One more channel."""
        self._reporters.append(Reporter(sink))

    def put(self, event: Plain) -> None:
        """Have everybody told, soon; never blocks."""
        if event["event"] in KINDS:
            for reporter in self._reporters:
                reporter.put(event)

    def finish(self) -> None:
        """Tell what is left, as long as that takes no longer than it may for one of them."""
        threads = [threading.Thread(target=reporter.finish, daemon=True) for reporter in self._reporters]
        for thread in threads:
            thread.start()
        end_s = time.monotonic() + FLUSH_S
        for thread in threads:
            thread.join(max(0.0, end_s - time.monotonic()))


def start_telling(options: dict[str, Any], killer: Killer, report: Callable[[Plain], object]) -> Telling:
    """Begin, with the channels that ``options`` (of the outside process) name. Before the link is read."""

    def say(text: str) -> None:
        report({"event": "degraded", "time": time.time(), "text": text})

    telling = Telling()
    for name in options.get("tell", ()):
        if name == "low_memory_monitor":
            from oomd.outside.low_memory import LowMemory  # likewise

            killer.listen(LowMemory(say).hear)
            continue
        try:
            telling.add(CHANNELS[name](say))
        except OSError as error:
            say(f"tell.{name}: nobody will be told so: {error.strerror}")
    killer.listen(telling.put)
    return telling

"""org.freedesktop.LowMemoryMonitor on the system's message bus: every program that uses GLib's GMemoryMonitor hears how
short memory is, and can drop what it can do without. One signal, LowMemoryWarning(level).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from oomd.outside.dbus import SYSTEM
from oomd.outside.served import Served
from oomd.outside.station import Station

if TYPE_CHECKING:
    from collections.abc import Callable

    from oomd.model.report import Plain

NAME = "org.freedesktop.LowMemoryMonitor"
SERVED = Served(NAME, "/org/freedesktop/LowMemoryMonitor", NAME, {}, {"LowMemoryWarning": "y"})


class LowMemory:
    """Owns the name from when it is made."""

    def __init__(self, say: Callable[[str], object], address: str = SYSTEM) -> None:
        """``say`` tells people why nobody hears us."""
        self._station = Station(SERVED, lambda text: say(f"tell.low_memory_monitor: {text}"), address)
        self._station.start()

    def hear(self, event: Plain) -> None:
        """An event of the killer; never waits."""
        if event["event"] == "shortage" and 0 < event["level"] <= 255:
            self._station.emit("LowMemoryWarning", event["level"])

    def close(self) -> None:
        """Hang up."""
        self._station.close()

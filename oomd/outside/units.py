"""Has the system's manager restart a service, and waits until it runs again; org.freedesktop.systemd1(5)."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING

from oomd.outside.dbus import SYSTEM, Bus, BusError, Deadline

if TYPE_CHECKING:
    from oomd.model.report import Plain

SERVICE = "org.freedesktop.systemd1"
MANAGER = "/org/freedesktop/systemd1"
MANAGER_INTERFACE = f"{SERVICE}.Manager"
UNIT_INTERFACE = f"{SERVICE}.Unit"
LOOK_AGAIN_S = 0.1
MARGIN_S = 0.3
"""The answer must be there before the patience of whoever asked is at its end."""
_NAME = re.compile(r"[A-Za-z0-9:_.\\@-]{1,255}\.service", re.ASCII)
"""Only services can be restarted to give memory back; systemd.unit(5)."""


def restart_unit(event: Plain, address: str = SYSTEM) -> Plain:
    """The request ``restart_unit``: ``unit``, within ``patience_us``. Whether it runs again, and what it is now."""
    unit = event.get("unit")
    if not isinstance(unit, str) or not _NAME.fullmatch(unit):
        return {"ok": False, "text": f"{unit!r} is no service"}
    deadline = Deadline(event["patience_us"] / 1e6 - MARGIN_S)
    try:
        with Bus(address) as bus:
            return _Unit(bus, unit, deadline).restart()
    except BusError as error:
        return {"ok": False, "text": str(error)}


class _Unit:
    """One service of the system's manager."""

    def __init__(self, bus: Bus, name: str, deadline: Deadline) -> None:
        self._bus = bus
        self._name = name
        self._deadline = deadline
        (self._path,) = self._call("LoadUnit", name)

    def restart(self) -> Plain:
        """Raises BusError."""
        if self._read("LoadState") != "loaded":
            return {"ok": False, "text": f"there is no {self._name}"}
        self._call("RestartUnit", self._name, "replace")
        while self._is_busy():
            if not self._deadline.left_s:
                return {"ok": False, "text": f"{self._name} is still being restarted"}
            time.sleep(LOOK_AGAIN_S)
        state = f"{self._read('ActiveState')} ({self._read('SubState')})"
        return {"ok": state.startswith("active"), "text": f"{self._name} is {state}"}

    def _call(self, method: str, *arguments: str) -> tuple[str, ...]:
        return self._bus.call(
            SERVICE,
            MANAGER,
            MANAGER_INTERFACE,
            method,
            arguments,
            signature="s" * len(arguments),
            timeout_s=self._deadline.left_s,
        )

    def _is_busy(self) -> bool:
        """Whether a job of it waits or runs: the property is its number, 0 for none, and its path."""
        job = self._read("Job")
        return isinstance(job, tuple) and job[0] != 0

    def _read(self, name: str) -> object:
        timeout_s = max(self._deadline.left_s, LOOK_AGAIN_S)
        return self._bus.read_property(SERVICE, self._path, UNIT_INTERFACE, name, timeout_s=timeout_s)

"""systemd-oomd's interface on the message bus, for whoever has taken its place: ``oomctl`` shows our state, and whoever
listens for kills hears of ours.

At /org/freedesktop/oom1: DumpByFileDescriptor() → h, and the signal Killed(cgroup, reason).
"""

from __future__ import annotations

import os
from typing import IO, TYPE_CHECKING

from oomd.model.values import dataclass, field
from oomd.outside.dbus import SYSTEM, BusError
from oomd.outside.oomctl import read_group, render_dump
from oomd.outside.served import Method, Served
from oomd.outside.station import Station

if TYPE_CHECKING:
    from collections.abc import Callable

    from oomd.model.report import Plain

NAME = "org.freedesktop.oom1"
PATH = "/org/freedesktop/oom1"
INTERFACE = f"{NAME}.Manager"
KILLED = ("killed", "exited")
"""Outcomes of a decision that cost somebody the life."""
MOST_REMEMBERED = 64
"""Decisions whose end is not known yet."""


@dataclass(slots=True)
class Oom1:
    """Answers ``oomctl`` and tells of kills, from when :meth:`take_over` is called."""

    ask: Callable[[str], Plain | None]
    """Killer.ask."""
    say: Callable[[str], object]
    cgroup_root: str = "/sys/fs/cgroup"
    address: str = SYSTEM
    _station: Station | None = None
    _decisions: dict[str, tuple[str, str]] = field(default_factory=dict)
    """Cgroup and reason by the decision's id."""
    _pgscan: dict[str, int] = field(default_factory=dict)
    """As of the dump before."""

    def take_over(self) -> None:
        """PID 1 takes us for systemd-oomd, so we speak in its name; again does nothing."""
        if self._station is None:
            methods = {"DumpByFileDescriptor": Method("", "h", self.dump)}
            served = Served(NAME, PATH, INTERFACE, methods, {"Killed": "ss"})
            self._station = Station(served, self.say, self.address)
            self._station.start()

    def close(self) -> None:
        """Hang up."""
        if self._station is not None:
            self._station.close()

    def hear(self, event: Plain) -> None:
        """An event of the killer; never waits."""
        if self._station is None:
            return
        if event["event"] == "decision" and not event.get("dry_run"):
            target = event["decision"]["target"]
            if target is not None:
                while len(self._decisions) >= MOST_REMEMBERED:
                    del self._decisions[next(iter(self._decisions))]
                self._decisions[event["id"]] = (target["cgroup"], reason_of(event["decision"]["ruleset"] or ""))
        elif event["event"] == "outcome" and event["status"] in KILLED:
            told = self._decisions.pop(event["id"], None)  # of those that die as one the first outcome tells
            if told is not None:
                self._station.emit("Killed", *told)

    def dump(self) -> tuple[IO[bytes]]:
        """What ``oomctl`` prints, in a file of nobody's. Raises BusError."""
        answer = self.ask("status")
        if answer is None:
            raise BusError("the killer did not answer in time")
        paths = {path for path, *_ in answer["managed"]["units"]}
        groups = {path: read_group(self.cgroup_root, path, self._pgscan) for path in paths}
        self._pgscan = {path: group.pgscan for path, group in groups.items()}
        file = os.fdopen(os.memfd_create("oomctl", os.MFD_CLOEXEC), "w+b")
        file.write(render_dump(answer, groups).encode("utf-8", "backslashreplace"))
        file.flush()
        file.seek(0)
        return (file,)


def reason_of(ruleset: str) -> str:
    """In systemd-oomd's words where the rule is one of a unit's own settings, else the ruleset's name."""
    if not ruleset.startswith("systemd: "):
        return ruleset
    return "memory-used" if ruleset == "systemd: swap" else "memory-pressure"

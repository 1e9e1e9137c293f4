"""Units' settings as PID 1, users' managers and ``systemctl show`` tell them, kept apart by who said so, and merged."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

from oomd.model.managed import MOST_UNITS, ManagedUnit, is_duration, is_unit_path
from oomd.model.values import dataclass, replace

if TYPE_CHECKING:
    from collections.abc import Hashable

SWAP = "ManagedOOMSwap"
PRESSURE = "ManagedOOMMemoryPressure"
_FULL = (1 << 32) - 1
"""A limit of 100 %."""
MOST_PER_USER = 32
"""Entries that one user's manager may have."""
SYSTEM = "system"
"""Whose word stands above everybody's."""
_NOT_SET = (1 << 64) - 1
_SPAN = re.compile(r"(\d+(?:\.\d+)?)(us|ms|s|min|h|d|w)")
_SECOND_US = 1_000_000
_UNITS_US = {"us": 1, "ms": 1000, "s": _SECOND_US, "min": 60 * _SECOND_US}
_UNITS_US |= {"h": 3600 * _SECOND_US, "d": 86400 * _SECOND_US, "w": 7 * 86400 * _SECOND_US}


@dataclass(frozen=True, slots=True)
class Entry:
    """One property of one unit, set to ``kill``."""

    limit: float | None = None
    duration_us: int | None = None


Entries = dict[tuple[str, str], Entry]
"""By path and property."""


class Settings:
    """What everybody said."""

    def __init__(self) -> None:
        self._said: dict[Hashable, Entries] = {}

    def replace(self, source: Hashable, entries: Entries) -> None:
        """That is all that this source says."""
        self._said[source] = entries

    def hear(self, source: Hashable, cgroups: object, uid: int | None = None, root: str = "") -> None:
        """News of this source: elements of ``cgroups`` as in io.systemd.ManagedOOM. ``uid``: a user who speaks for
        cgroups that are his, below ``root``, and for no others.
        """
        entries = self._said.setdefault(source, {})
        for element in cgroups if isinstance(cgroups, list) else []:
            found = read_element(element)
            if found is None:
                continue
            path, name, entry = found
            if entry is None:  # taken back: what this source has said itself, also of a cgroup that is gone by now
                entries.pop((path, name), None)
                continue
            if uid not in (None, 0) and not owns(uid, root, path):
                continue
            if uid is None or len(entries) < MOST_PER_USER or (path, name) in entries:
                entries[path, name] = entry

    def forget(self, source: Hashable) -> None:
        """It has hung up."""
        self._said.pop(source, None)

    def knows(self, source: Hashable) -> bool:
        """Whether this source has said anything at all."""
        return source in self._said

    def units(self) -> tuple[list[ManagedUnit], int]:
        """Every unit with a setting, by path, and how many more there are than are heard. The system's manager stands
        above users.
        """
        merged: Entries = {}
        for source in sorted(self._said, key=lambda each: each == SYSTEM):
            merged |= self._said[source]
        units: dict[str, ManagedUnit] = {}
        for (path, name), entry in merged.items():
            unit = units.get(path, ManagedUnit(path))
            if name == SWAP:
                units[path] = replace(unit, swap=True)
            else:
                units[path] = replace(unit, pressure=True, limit=entry.limit, duration_us=entry.duration_us)
        # Whoever stands higher in the tree speaks for more: where not all are heard, those below go unheard.
        ordered = sorted(units.values(), key=lambda unit: (unit.path.count("/"), unit.path))
        return sorted(ordered[:MOST_UNITS], key=lambda unit: unit.path), max(0, len(ordered) - MOST_UNITS)


def read_element(element: object) -> tuple[str, str, Entry | None] | None:
    """Path, property and setting (None for ``auto``) of an element; None for one that is not understood, or is about
    something else (OOMRules).
    """
    if not isinstance(element, dict) or element.get("property") not in (SWAP, PRESSURE):
        return None
    path = element.get("path")
    path = "/" if path == "" else path
    if not is_unit_path(path) or element.get("mode") not in ("auto", "kill"):
        return None
    if element["mode"] == "auto":
        return str(path), element["property"], None
    limit, duration = element.get("limit"), element.get("duration")
    share = _share(limit / _FULL) if isinstance(limit, int) and 0 < limit <= _FULL else None
    known = duration if is_duration(duration) and duration else None
    return str(path), element["property"], Entry(share, known)


def rules_of(cgroups: object) -> list[str]:
    """The units that have OOMRules= (systemd 261), which only systemd-oomd reads."""
    elements = [each for each in cgroups if isinstance(each, dict)] if isinstance(cgroups, list) else []
    found = [each.get("path") for each in elements if each.get("property") == "OOMRules" and each.get("rules")]
    return [path for path in found if isinstance(path, str) and is_unit_path(path)]


def owns(uid: int | None, root: str, path: str) -> bool:
    """Whether the cgroup's directory is this user's."""
    try:
        return os.stat(root + path).st_uid == uid
    except (OSError, ValueError):
        return False


SHOWN = (
    *("ControlGroup", "ActiveState", SWAP, PRESSURE),
    *(f"{PRESSURE}Limit", f"{PRESSURE}DurationUSec"),
)
"""Properties that are asked for."""


def parse_show(text: str) -> Entries:
    """The entries of ``systemctl show -p …`` for many units: blocks of ``name=value`` lines, an empty line between."""
    entries: Entries = {}
    for block in text.split("\n\n"):
        values = dict(line.split("=", 1) for line in block.splitlines() if "=" in line)
        path = values.get("ControlGroup", "")
        if not is_unit_path(path):
            continue
        if values.get(SWAP) == "kill":
            entries[path, SWAP] = Entry()
        if values.get(PRESSURE) == "kill":
            limit = parse_limit(values.get(f"{PRESSURE}Limit", ""))
            entries[path, PRESSURE] = Entry(limit, parse_span(values.get(f"{PRESSURE}DurationUSec", "")))
    return entries


def parse_limit(text: str) -> float | None:
    """``2576980377`` (of 2^32 - 1) or ``60%`` as a fraction; None for 0 and what is neither."""
    percent = text.endswith("%")
    try:
        value = float(text.removesuffix("%"))
    except ValueError:
        return None
    share = _share(value / 100 if percent else value / _FULL)
    return share if 0 < share <= 1 else None


def _share(share: float) -> float:
    """As somebody wrote it: systemd takes permyriads, and of 2^32 - 1 a half is no half."""
    return round(share, 6)


def parse_span(text: str) -> int | None:
    """Microseconds of ``1min 30s``, or of a plain number of them; None for ``infinity``, ``[not set]`` and the like."""
    if text.isascii() and text.isdigit():
        return int(text) if 0 < int(text) < _NOT_SET else None
    words = text.split()
    parts = [_SPAN.fullmatch(word) for word in words]
    if not words or not all(parts):
        return None
    return int(sum(float(part[1]) * _UNITS_US[part[2]] for part in parts if part)) or None

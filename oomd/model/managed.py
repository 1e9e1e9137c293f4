"""What units ask of a killer by systemd's own settings (ManagedOOMSwap= and its kin), as plain values."""

from __future__ import annotations

from oomd.model.units import SECOND_US
from oomd.model.values import dataclass

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from oomd.model.report import Plain

OFF, AUTO, TAKEOVER, POLL = "off", "auto", "takeover", "poll"
SOURCES = (AUTO, TAKEOVER, POLL, OFF)

MOST_UNITS = 128
"""Units that are heard; each that watches its pressure is a ruleset of its own."""
MOST_PATH_BYTES = 4096
_SIGNS = frozenset("*?[,")
"""What a pattern of cgroups gives a meaning of its own. No name of a unit has any of them."""
_MOST_US = 1 << 62


@dataclass(frozen=True, slots=True)
class ManagedOptions:
    """``managed:`` of the configuration: where units' settings come from, and what holds where a unit says nothing.
    The defaults are those of oomd.conf(5).
    """

    systemd: str = OFF
    """``auto``, ``takeover`` (subscribed to PID 1), ``poll`` (its properties are looked at), ``off``."""
    swap_limit: float = 0.9
    """ManagedOOMSwap=kill: in use of memory and of swap."""
    pressure_limit: float = 0.6
    pressure_duration_us: int = 30 * SECOND_US


@dataclass(frozen=True, slots=True)
class ManagedUnit:
    """One unit's settings."""

    path: str
    """Its cgroup."""
    swap: bool = False
    """ManagedOOMSwap=kill."""
    pressure: bool = False
    """ManagedOOMMemoryPressure=kill."""
    limit: float | None = None
    """ManagedOOMMemoryPressureLimit= as a fraction; None: the default."""
    duration_us: int | None = None
    """ManagedOOMMemoryPressureDurationSec=; None: the default."""


def read_units(plain: object) -> tuple[ManagedUnit, ...]:
    """The units of a message ``[[path, swap, pressure, limit, duration_us], …]``, sorted by path. What cannot be a
    unit's settings is left out, and so is whoever comes after :data:`MOST_UNITS`.
    """
    units: dict[str, ManagedUnit] = {}
    for item in plain if isinstance(plain, list) else []:
        if len(units) >= MOST_UNITS:
            break
        if not isinstance(item, list) or len(item) != 5 or not is_unit_path(item[0]):
            continue
        path, swap, pressure, limit, duration = item
        if not is_limit(limit) or not is_duration(duration):
            continue
        units[path] = ManagedUnit(path, bool(swap), bool(pressure), limit or None, duration or None)
    return tuple(units[path] for path in sorted(units))


def plain_units(units: Iterable[ManagedUnit]) -> list[list[Any]]:
    """What :func:`read_units` reads."""
    return [[unit.path, unit.swap, unit.pressure, unit.limit, unit.duration_us] for unit in units]


def plain_managed(options: ManagedOptions, units: Iterable[ManagedUnit]) -> Plain:
    """What is in force: defaults, and every unit with settings of its own as in :func:`plain_units`."""
    return {
        "swap_limit": options.swap_limit,
        "pressure_limit": options.pressure_limit,
        "pressure_duration_us": options.pressure_duration_us,
        "units": plain_units(units),
    }


def is_unit_path(path: object) -> bool:
    """Whether that can be the cgroup of a unit, and nothing but it."""
    if not isinstance(path, str) or not path.startswith("/") or len(path) > MOST_PATH_BYTES:
        return False
    return not _SIGNS & set(path) and not {".", ".."} & set(path.split("/")) and path.isprintable()


def is_limit(limit: object) -> bool:
    """A share of the time, or nothing."""
    return limit is None or (isinstance(limit, (int, float)) and 0 <= limit <= 1)


def is_duration(duration: object) -> bool:
    """Microseconds, or nothing."""
    return duration is None or (isinstance(duration, int) and 0 <= duration <= _MOST_US)

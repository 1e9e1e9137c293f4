"""``tell:``: who is told besides the log."""

from __future__ import annotations

import itertools

from oomd.config.nodes import switch_of
from oomd.config.schema import LOW_MEMORY_KEYS, TELL_KEYS
from oomd.model.telling import LowMemoryOptions, TellOptions
from oomd.model.units import format_share, format_threshold

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    import yaml

    from oomd.config.nodes import Walker

RANGES = {"pressure": (0.01, 1.0)}
ORDER = ("low", "medium", "critical")


def build_tell(walker: Walker, node: yaml.Node | None) -> TellOptions:
    """The options; what is not named is off."""
    inner = {} if node is None else walker.mapping(node, "tell", (key.name for key in TELL_KEYS))
    values: dict[str, Any] = {
        key.name: value
        for key in TELL_KEYS
        if key.kind == "bool"
        and key.name in inner
        and (value := walker.scalar(inner[key.name], f"tell.{key.name}", key)) is not None
    }
    if "low_memory_monitor" in inner:
        values["low_memory_monitor"] = _low_memory(walker, inner["low_memory_monitor"])
    return TellOptions(**values)


def _low_memory(walker: Walker, node: yaml.Node) -> LowMemoryOptions | None:
    path = "tell.low_memory_monitor"
    switch = switch_of(node)
    if switch is not None:
        return LowMemoryOptions() if switch else None
    if not walker.is_mapping(node):
        if not walker.is_nothing(node):
            walker.problem(node, path, "should be on, off, or limits (low: …, medium: …)")
        return None
    values = walker.options(node, path, LOW_MEMORY_KEYS)
    walker.ranges(node, path, values, RANGES)
    options = LowMemoryOptions(**values)
    for upper, lower in itertools.pairwise(ORDER):
        if getattr(options, lower).may_exceed(getattr(options, upper)):
            where = walker.value_of(node, lower)
            walker.problem(where, f"{path}.{lower}", f"is above {path}.{upper}: that level would never be told")
    return options


def in_words(tell: TellOptions) -> list[str]:
    """Who is told besides the log, as sentences."""
    whom = [key.meaning for key in TELL_KEYS if key.kind == "bool" and getattr(tell, key.name)]
    lines = [f"told besides the log: {'; '.join(whom)}"] if whom else []
    low = tell.low_memory_monitor
    if low is not None:
        limits = ", ".join(f"{name} below {format_threshold(getattr(low, name))}" for name in ORDER)
        stall = f"one level more at {format_share(low.pressure)} of stall"
        lines.append(f"programs are asked to trim (org.freedesktop.LowMemoryMonitor): {limits}; {stall}")
    return lines

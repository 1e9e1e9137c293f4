"""Who is told, besides the log: what ``tell:`` of the configuration says."""

from __future__ import annotations

from oomd.model.threshold import Threshold
from oomd.model.units import GIB
from oomd.model.values import dataclass

OKAY, LOW, MEDIUM, CRITICAL = 0, 50, 100, 255
"""Levels of org.freedesktop.LowMemoryMonitor, as GLib's GMemoryMonitorWarningLevel has them; 0: nothing is wrong."""


@dataclass(frozen=True, slots=True)
class LowMemoryOptions:
    """``low_memory_monitor:``: when programs are asked to trim their caches. Available memory below each limit makes
    its level; stall makes the one above it.
    """

    low: Threshold = Threshold(share=0.20, size_bytes=4 * GIB)
    medium: Threshold = Threshold(share=0.14, size_bytes=5 * GIB // 2)
    critical: Threshold = Threshold(share=0.08, size_bytes=3 * GIB // 2)
    pressure: float = 0.20
    """Share of the time in which everything stalls for memory (PSI full)."""


@dataclass(frozen=True, slots=True)
class TellOptions:
    """``tell:`` of the configuration; nobody is told unless asked for."""

    kmsg: bool = False
    """Lines in the kernel log, where node-problem-detector looks."""
    wall: bool = False
    """The terminals of the victim's owner."""
    desktop: bool = False
    """The desktop of the victim's owner."""
    low_memory_monitor: LowMemoryOptions | None = None
    """Every program that listens to GLib's GMemoryMonitor; None: nobody."""

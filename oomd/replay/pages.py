"""The size of the pages in which a trace counts: it may be of another machine (arm64 has pages of 4, 16 or 64 KiB)."""

from __future__ import annotations

import os

from oomd.kernel.files import PAGE_BYTES, KernelFormatError
from oomd.kernel.zoneinfo import parse_zones

SIZES_KB = (4, 8, 16, 64)
SLACK = 16
"""MemTotal and zoneinfo tell the same pages, but not at the same instant; they may differ by one part in so many."""


def page_bytes_of(proc_dir: str) -> int:
    """MemTotal by the managed pages of all zones; this machine's own size where the tree has no such files, and where
    it is this machine's own procfs: some hypervisors take pages away that MemTotal still counts.
    """
    try:
        if os.path.samefile(proc_dir, "/proc"):
            return PAGE_BYTES
        with open(os.path.join(proc_dir, "meminfo"), "rb") as file:
            total_kb = int(file.read().partition(b"MemTotal:")[2].split(None, 1)[0])
        with open(os.path.join(proc_dir, "zoneinfo"), "rb") as file:
            pages = sum(zone.managed_pages for zone in parse_zones(file.read()))
    except (OSError, ValueError, IndexError, KernelFormatError):
        return PAGE_BYTES
    fitting = [size for size in SIZES_KB if abs(pages * size - total_kb) * SLACK <= total_kb]
    return fitting[0] * 1024 if fitting else PAGE_BYTES

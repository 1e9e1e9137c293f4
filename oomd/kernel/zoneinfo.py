"""/proc/zoneinfo: free pages by zone, and those on per-CPU lists, which nothing else shows; mm/vmstat.c."""

from __future__ import annotations

from oomd.kernel.files import KernelFormatError, parse_number
from oomd.kernel.process import decode_name
from oomd.model.values import dataclass

_FILE = "/proc/zoneinfo"


@dataclass(frozen=True, slots=True)
class Zone:
    """One zone of one node, in pages."""

    node: int
    name: str
    free_pages: int
    min_pages: int
    low_pages: int
    high_pages: int
    managed_pages: int
    protection_pages: int = 0
    """The largest of its lowmem reserves: what allocations that could also be served by a higher zone must leave."""


def parse_pcp_pages(data: bytes) -> int:
    """Pages on per-CPU free lists, summed over all zones and CPUs.

    Neither MemFree nor MemAvailable counts them, and since 6.7 the pages of a process that exits stay on
    them for a while (up to 1/8 of the memory). Raises KernelFormatError when a count is no number.
    """
    total = 0
    at = data.find(b" count:")
    while at >= 0:
        end = data.find(b"\n", at)
        total += parse_number(data[at + 7 : end] if end >= 0 else b"", _FILE, "count")
        at = data.find(b" count:", end)
    return total


def parse_zones(data: bytes) -> tuple[Zone, ...]:
    """The zones in the kernel's order, empty ones too. Raises KernelFormatError when one lacks a wanted
    field.
    """
    return tuple(_parse_zone(part) for part in (b"\n" + data).split(b"\nNode ")[1:])


def _parse_zone(part: bytes) -> Zone:
    heading, _, body = part.partition(b"\n")
    node, comma, name = heading.partition(b", zone ")
    if not comma:
        raise KernelFormatError(_FILE, "zone")
    return Zone(
        node=parse_number(node, _FILE, "Node"),
        name=decode_name(name.strip()),
        free_pages=_find_pages(body, b"pages free "),
        min_pages=_find_pages(body, b" min "),
        low_pages=_find_pages(body, b" low "),
        # Not the `high:` of the per-CPU lists, which ends in a colon.
        high_pages=_find_pages(body, b" high "),
        managed_pages=_find_pages(body, b" managed "),
        protection_pages=_parse_protection(body),
    )


def _parse_protection(body: bytes) -> int:
    """``protection: (0, 3019, 9803)``; none where the line is absent."""
    inside = body.partition(b"protection: (")[2].partition(b")")[0]
    return max((parse_number(part, _FILE, "protection") for part in inside.split(b",") if part), default=0)


def watermark_margins(zones: tuple[Zone, ...]) -> tuple[int, int, int] | None:
    """How many pages the best zone has above its min, low and high watermark, lowmem reserve included; negative where
    every zone is below. None without any zone that has memory.

    That is the allocator's own question for a page of user memory: it takes the first zone that stays above the mark
    (zone_watermark_ok() in mm/page_alloc.c). Below ``low`` everywhere kswapd is awake, below ``min`` tasks reclaim
    directly.
    """
    used = [zone for zone in zones if zone.managed_pages]
    if not used:
        return None
    spare = [(zone.free_pages - zone.protection_pages, zone) for zone in used]
    return (
        max(free - zone.min_pages for free, zone in spare),
        max(free - zone.low_pages for free, zone in spare),
        max(free - zone.high_pages for free, zone in spare),
    )


def _find_pages(body: bytes, key: bytes) -> int:
    return parse_number(body.partition(key)[2].partition(b"\n")[0], _FILE, key.decode().strip())

"""Zones and per-CPU lists."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given

from oomd.kernel.files import PAGE_BYTES, KernelFormatError
from oomd.kernel.meminfo import parse_meminfo
from oomd.kernel.zoneinfo import Zone, parse_pcp_pages, parse_zones, watermark_margins
from tests.kernel.arbitrary import captured, mangled, survives


def test_captured_zones() -> None:
    """Zones come in the kernel's order with the values of their own lines."""
    zones = parse_zones(captured("zoneinfo"))
    assert [(zone.node, zone.name) for zone in zones] == [
        (0, "DMA"),
        (0, "DMA32"),
        (0, "Normal"),
        (0, "Movable"),
        (0, "Device"),
    ]
    dma = zones[0]
    assert (dma.free_pages, dma.managed_pages) == (3840, 3840)
    assert (dma.min_pages, dma.low_pages, dma.high_pages) == (34, 42, 50)
    for zone in zones:
        assert zone.min_pages <= zone.low_pages <= zone.high_pages
        assert zone.free_pages <= zone.managed_pages


def test_captured_per_cpu_lists() -> None:
    """F16: the lists of all CPUs in all zones are summed."""
    lines = [line.split() for line in captured("zoneinfo").splitlines()]
    counts = [int(fields[1]) for fields in lines if fields[0] == b"count:"]
    assert parse_pcp_pages(captured("zoneinfo")) == sum(counts) > 0
    assert len(counts) > 1


def test_this_machine() -> None:
    """The real zones hold no more than MemTotal (which also shows what a balloon or virtio-mem may still
    bring).
    """
    data = Path("/proc/zoneinfo").read_bytes()
    total = parse_meminfo(Path("/proc/meminfo").read_bytes()).mem_total_bytes
    managed = sum(zone.managed_pages for zone in parse_zones(data)) * PAGE_BYTES
    assert 0 < managed <= total
    assert 0 <= parse_pcp_pages(data) * PAGE_BYTES < managed


def test_nothing() -> None:
    """A file without zones has no zones and no pages on lists."""
    assert parse_zones(b"") == ()
    assert parse_pcp_pages(b"") == 0


@pytest.mark.parametrize("field", [b" min ", b" managed ", b"pages free ", b", zone "])
def test_missing_field(field: bytes) -> None:
    """A zone without a wanted field is an error."""
    with pytest.raises(KernelFormatError, match="/proc/zoneinfo"):
        parse_zones(captured("zoneinfo").replace(field, b" other "))


@given(mangled("zoneinfo"))
def test_arbitrary_bytes(data: bytes) -> None:
    """F19: anything gives a value or KernelFormatError."""
    assert survives(parse_zones, data)
    assert survives(parse_pcp_pages, data)


def test_lowmem_reserve() -> None:
    """The largest entry of ``protection:`` is what ordinary memory must leave in a low zone; the highest has none."""
    zones = {zone.name: zone for zone in parse_zones(captured("zoneinfo"))}
    assert zones["DMA"].protection_pages > zones["DMA32"].protection_pages > 0
    assert zones["Normal"].protection_pages == 0
    assert parse_zones(captured("zoneinfo").replace(b"protection:", b"other:"))[0].protection_pages == 0


def test_margins_are_the_best_zones() -> None:
    """A zone above its mark serves, whatever the others have; a reserve counts against its zone; empty ones do not."""

    def zone(free: int, protection: int = 0, managed: int = 1000) -> Zone:
        return Zone(0, "Z", free, 10, 20, 30, managed, protection)

    assert watermark_margins((zone(25), zone(500, protection=600))) == (15, 5, -5)
    assert watermark_margins((zone(5), zone(5))) == (-5, -15, -25)
    assert watermark_margins((zone(0), zone(100, protection=50))) == (40, 30, 20)
    assert watermark_margins((zone(900, managed=0),)) is None
    assert watermark_margins(()) is None

"""What lmkd decides by, read at every evaluation from files that stay open: meminfo, vmstat, pressure; zoneinfo once
in a minute.
"""

from __future__ import annotations

from oomd.kernel.files import KernelFile, KernelFormatError, open_optional
from oomd.kernel.psi import parse_pressure
from oomd.kernel.zoneinfo import parse_pcp_pages, parse_zones
from oomd.model.units import SECOND_US
from oomd.model.values import dataclass

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from oomd.kernel.zoneinfo import Zone
    from oomd.model.snapshot import Pressure

WATERMARKS_US = 60 * SECOND_US
"""How long watermarks are taken for the same: they change with min_free_kbytes and memory hotplug only."""


@dataclass(frozen=True, slots=True)
class Marks:
    """Sums over all zones of all nodes, in pages: each zone's watermark and the largest of its lowmem reserves."""

    min_pages: int = 0
    low_pages: int = 0
    high_pages: int = 0


@dataclass(frozen=True, slots=True)
class Facts:
    """The machine at one evaluation."""

    time_us: int
    """CLOCK_MONOTONIC."""
    meminfo: Mapping[str, int]
    """kB by the name in proc_meminfo(5); what a kernel lacks is not there."""
    vmstat: Mapping[str, int]
    """Events or pages since boot, by the name in proc_vmstat(5)."""
    marks: Marks
    page_kb: int
    pcp_pages: int = 0
    """Free pages on per-CPU lists, which MemFree does not count; counted right after a kill only."""
    memory: Pressure | None = None
    io: Pressure | None = None
    cpu: Pressure | None = None

    def kb(self, name: str) -> int:
        """A line of meminfo; 0 where the kernel has none."""
        return self.meminfo.get(name, 0)


def parse_kb(data: bytes) -> dict[str, int]:
    """All lines of /proc/meminfo in kB. Lines of another shape are left out."""
    found = {}
    for line in data.split(b"\n"):
        name, _, rest = line.partition(b":")
        number = rest.split(None, 1)
        if number and number[0].isdigit():
            found[name.decode("ascii", "replace")] = int(number[0])
    return found


def parse_counters(data: bytes) -> dict[str, int]:
    """All lines of /proc/vmstat."""
    found = {}
    for line in data.split(b"\n"):
        name, _, number = line.partition(b" ")
        if number.isdigit():
            found[name.decode("ascii", "replace")] = int(number)
    return found


def sum_marks(zones: tuple[Zone, ...]) -> Marks:
    """The thresholds of lmkd: of any number of nodes and zones, empty ones left out."""
    used = [zone for zone in zones if zone.managed_pages]
    return Marks(
        sum(zone.protection_pages + zone.min_pages for zone in used),
        sum(zone.protection_pages + zone.low_pages for zone in used),
        sum(zone.protection_pages + zone.high_pages for zone in used),
    )


class FactsFiles:
    """Keeps the files open."""

    def __init__(self, proc_dir: str, page_bytes: int) -> None:
        """Raises OSError where there is no meminfo or vmstat."""
        self._meminfo = KernelFile(f"{proc_dir}/meminfo", single_record=True)
        self._vmstat = KernelFile(f"{proc_dir}/vmstat")
        self._zoneinfo = open_optional(f"{proc_dir}/zoneinfo")
        self._pressure = {name: open_optional(f"{proc_dir}/pressure/{name}") for name in ("memory", "io", "cpu")}
        self._page_kb = page_bytes // 1024
        self._marks = Marks()
        self._marked_us: int | None = None

    def read(self, now_us: int, *, count_lists: bool, all_pressure: bool = False) -> Facts:
        """The machine now. ``count_lists``: a kill is just over, and what it freed may lie on per-CPU lists.
        ``all_pressure``: of io and cpu, too, which only the log of a kill tells. Raises OSError, KernelFormatError.
        """
        if self._marked_us is None or now_us - self._marked_us >= WATERMARKS_US:
            self._marks, self._marked_us = self._read_marks(), now_us
        zoneinfo = self._zoneinfo.read() if count_lists and self._zoneinfo is not None else b""
        return Facts(
            time_us=now_us,
            meminfo=parse_kb(self._meminfo.read()),
            vmstat=parse_counters(self._vmstat.read()),
            marks=self._marks,
            page_kb=self._page_kb,
            pcp_pages=parse_pcp_pages(zoneinfo),
            memory=self._read_pressure("memory"),
            io=self._read_pressure("io") if all_pressure else None,
            cpu=self._read_pressure("cpu") if all_pressure else None,
        )

    def forget_marks(self) -> None:
        """Read the watermarks anew at the next look: before the very first kill."""
        self._marked_us = None

    def close(self) -> None:
        """Close the files."""
        for file in (self._meminfo, self._vmstat, self._zoneinfo, *self._pressure.values()):
            if file is not None:
                file.close()

    def _read_marks(self) -> Marks:
        return Marks() if self._zoneinfo is None else sum_marks(parse_zones(self._zoneinfo.read()))

    def _read_pressure(self, name: str) -> Pressure | None:
        file = self._pressure[name]
        try:
            return None if file is None else parse_pressure(file.read())
        except (OSError, KernelFormatError):  # switched off (psi=0)
            return None

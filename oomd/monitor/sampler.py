"""Observe: a few kernel files, kept open and read again at every tick."""

from __future__ import annotations

from oomd.kernel.arc import parse_arcstats
from oomd.kernel.files import KernelFile, open_optional
from oomd.kernel.meminfo import parse_available, parse_brief, parse_meminfo, parse_swap_free
from oomd.kernel.psi import parse_totals
from oomd.kernel.zoneinfo import parse_pcp_pages
from oomd.model.snapshot import NO_DETAILS, Brief, MemoryStatus
from oomd.model.values import replace
from oomd.monitor.details import DetailReader

TYPE_CHECKING = False
if TYPE_CHECKING:
    from oomd.engine.calm import Calm
    from oomd.model.snapshot import Levels


class Sampler:
    """Reads :class:`MemoryStatus`. Needs meminfo; lives without pressure (PSI off), zoneinfo and ZFS."""

    def __init__(self, proc_dir: str, page_bytes: int, details: frozenset[str] = frozenset()) -> None:
        """``details``: fields of :class:`oomd.model.snapshot.Details` that a rule wants; they cost further files at
        every tick.
        """
        self._proc_dir = proc_dir
        self._details: DetailReader | None = None
        self._meminfo = KernelFile(f"{proc_dir}/meminfo", single_record=True)
        self._pressure = open_optional(f"{proc_dir}/pressure/memory", single_record=True)
        self._zoneinfo = open_optional(f"{proc_dir}/zoneinfo")
        self._arcstats = open_optional(f"{proc_dir}/spl/kstat/zfs/arcstats")
        self._page_bytes = page_bytes
        self._text = b""
        """meminfo, where it was read at this look already."""
        self._glanced: tuple[int, bytes, bytes] | None = None
        """The last glance: its time, meminfo, pressure."""
        self.want(details)

    def want(self, details: frozenset[str]) -> None:
        """Read these details from now on (after a reload, others than before)."""
        if self._details is not None:
            self._details.close()
        self._details = DetailReader(self._proc_dir, self._page_bytes, details) if details else None

    @property
    def has_pressure(self) -> bool:
        """Whether memory pressure can be read."""
        return self._pressure is not None

    @property
    def can_glance(self) -> bool:
        """Whether meminfo and pressure say everything: no rule wants details, and no file system hides free memory."""
        return self._details is None and self._arcstats is None

    def glance(self, bounds: Calm, now_us: int) -> bool:
        """Whether everything is within bounds: two files and up to four numbers. If not, the next look goes on with
        what was read.
        """
        text = self._meminfo.read()
        if parse_available(text) >= bounds.least_bytes:
            pressure = self._read_pressure()
            if bounds.is_of_memory or self._is_within(bounds, text, pressure):
                self._glanced = (now_us, text, pressure)
                return True
        self._text = text
        return False

    def _is_within(self, bounds: Calm, text: bytes, pressure: bytes) -> bool:
        some, full = parse_totals(pressure) if pressure else (0, 0)
        return bounds.holds(parse_swap_free(text), some, full)

    def take_glanced(self) -> MemoryStatus | None:
        """What the last glance saw; once, and None where there was none since."""
        if self._glanced is None:
            return None
        (time_us, text, pressure), self._glanced = self._glanced, None
        some, full = parse_totals(pressure) if pressure else (None, None)
        return replace(self._levels(text, 0, time_us), psi_some_us=some, psi_full_us=full)

    def read_brief(self, now_us: int) -> Levels:
        """What a level is compared with, now; the next look goes on with what was read."""
        if self._arcstats is not None:
            return self.read_levels(now_us)
        self._text = self._text or self._meminfo.read()
        total, available, anon, shmem, swap_total, swap_free = parse_brief(self._text)
        return Brief(now_us, total, available, available + anon, shmem, swap_total, swap_free)

    def read_levels(self, now_us: int) -> MemoryStatus:
        """Where memory stands now, without pressure, per-CPU lists and details: one file."""
        text, self._text = self._text or self._meminfo.read(), b""
        arc = 0 if self._arcstats is None else parse_arcstats(self._arcstats.read())
        return self._levels(text, arc, now_us)

    def _levels(self, text: bytes, arc: int, now_us: int) -> MemoryStatus:
        meminfo = parse_meminfo(text)
        return MemoryStatus(
            time_us=now_us,
            mem_total_bytes=meminfo.mem_total_bytes,
            mem_free_bytes=meminfo.mem_free_bytes,
            mem_available_bytes=meminfo.mem_available_bytes,
            anon_bytes=meminfo.anon_pages_bytes,
            shmem_bytes=meminfo.shmem_bytes,
            slab_unreclaimable_bytes=meminfo.slab_unreclaimable_bytes,
            swap_total_bytes=meminfo.swap_total_bytes,
            swap_free_bytes=meminfo.swap_free_bytes,
            arc_bytes=arc,
            file_bytes=meminfo.active_file_bytes + meminfo.inactive_file_bytes,
            commit_limit_bytes=meminfo.commit_limit_bytes,
            committed_bytes=meminfo.committed_as_bytes,
        )

    def read_rest(self, levels: MemoryStatus, *, per_cpu_lists: bool = False) -> MemoryStatus:
        """The same with all that a rule may look at. ``per_cpu_lists`` also counts pages on per-CPU lists: wanted while
        a kill is under way.
        """
        pressure = self._read_pressure()
        some, full = parse_totals(pressure) if pressure else (None, None)
        pcp = 0
        if per_cpu_lists and self._zoneinfo is not None:
            pcp = parse_pcp_pages(self._zoneinfo.read()) * self._page_bytes
        details = NO_DETAILS if self._details is None else self._details.read()
        return replace(levels, psi_some_us=some, psi_full_us=full, pcp_bytes=pcp, details=details)

    def read_status(self, now_us: int, *, per_cpu_lists: bool = False) -> MemoryStatus:
        """The machine now."""
        return self.read_rest(self.read_levels(now_us), per_cpu_lists=per_cpu_lists)

    def _read_pressure(self) -> bytes:
        """Empty where there is none."""
        if self._pressure is None:
            return b""
        try:
            return self._pressure.read()
        except OSError:  # PSI compiled in, but switched off (psi=0): EOPNOTSUPP at read
            self._pressure = None
            return b""

    def close(self) -> None:
        """Close its files."""
        for file in (self._meminfo, self._pressure, self._zoneinfo, self._arcstats, self._details):
            if file is not None:
                file.close()

"""Thrashing: pages of files are taken, and wanted back at once."""

from __future__ import annotations

from oomd.detectors.subjects import Series, collect, verdict, words_of
from oomd.model.globs import MACHINE, split_patterns
from oomd.model.ruleset import Wants
from oomd.model.units import SECOND_US, format_duration, format_share
from oomd.model.values import dataclass

TYPE_CHECKING = False
if TYPE_CHECKING:
    from oomd.model.decision import Evidence
    from oomd.model.ruleset import View
    from oomd.model.snapshot import Cgroup, MemoryStatus
    from oomd.model.units import Percent, Subject

WINDOWS = 4
"""How many windows count: the last one whole, each one before it half of the next."""


@dataclass(frozen=True, slots=True)
class Thrashing:
    """File pages that came back soon after they were taken, as a share of the page cache on the kernel's lists when
    the window began: at 100 % as much was read again as there is room for. Thrashing of the windows before counts on,
    halved with every window, as in Android's lmkd: it comes in waves.
    """

    above: Percent = 1.0
    over_us: int = 1 * SECOND_US
    of: Subject = MACHINE
    name = "thrashing"
    meaning = "file pages are read again as soon as they were dropped"
    meanings = {
        "above": "refaults as a share of the page cache; above 100% the whole cache is read again in one window",
        "over": "the window; what the three before it saw counts half, a quarter, an eighth",
        "of": "machine, or cgroups: /system.slice/*",
    }
    ranges = {"over": (SECOND_US // 2, 15 * SECOND_US)}

    @property
    def window_us(self) -> int:
        """How much history it looks at."""
        return WINDOWS * self.over_us

    @property
    def wants(self) -> Wants:
        """workingset_refault_file of /proc/vmstat, or of memory.stat."""
        if self.of == MACHINE:
            return Wants(details=frozenset({"counters"}))
        return Wants(cgroups=split_patterns(self.of), files=frozenset({"memory.stat"}))

    def detect(self, view: View, *, firing: bool) -> Evidence:
        """Silent at the first look."""
        page = view.status.details.page_bytes
        caches = {
            series.subject: series for series in collect(view, self.of, _machine_cache, _cgroup_cache, self.window_us)
        }
        figures = []
        for refaults in collect(view, self.of, _machine_refaults, _cgroup_refaults, self.window_us):
            cache = caches.get(refaults.subject)
            if cache is not None and refaults.span_us:
                figures.append((refaults.subject, self._share(refaults, cache, page)))
        return verdict(
            self.name,
            figures,
            self.above,
            lambda share: share > self.above,
            lambda share: (
                f"{format_share(round(share, 2))} of the page cache read again within {format_duration(self.over_us)},"
                f" limit {format_share(self.above)}"
            ),
            silence="thrashing is not known yet",
            window_us=self.over_us,
        )

    def words(self) -> str:
        """The rule as a sentence."""
        return (
            f"{words_of(self.of)} reads more than {format_share(self.above)} of its page cache again"
            f" within {format_duration(self.over_us)}"
        )

    def _share(self, refaults: Series, cache: Series, page_bytes: int) -> float:
        now = refaults.points[-1][0]
        total, weight = 0.0, 1.0
        for window in range(WINDOWS):
            end, begin = now - window * self.over_us, now - (window + 1) * self.over_us
            grown = _at(refaults, end) - _at(refaults, begin)
            total += weight * max(0.0, grown) * page_bytes / (_at(cache, begin) + page_bytes)
            weight /= 2
        return total


def _at(series: Series, time_us: int) -> float:
    """The figure at this time: of the newest point that is as old, or the oldest there is."""
    for time, figure in reversed(series.points):
        if time <= time_us:
            return figure
    return series.points[0][1]


def _machine_refaults(status: MemoryStatus) -> float | None:
    counters = status.details.counters
    return None if counters is None else counters.refault_file


def _machine_cache(status: MemoryStatus) -> float:
    return status.file_bytes


def _cgroup_refaults(cgroup: Cgroup) -> float | None:
    return cgroup.refault_file


def _cgroup_cache(cgroup: Cgroup) -> float | None:
    if cgroup.active_file_bytes is None or cgroup.inactive_file_bytes is None:
        return None
    return cgroup.active_file_bytes + cgroup.inactive_file_bytes

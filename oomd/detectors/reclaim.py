"""Reclaim at work: the kernel looks for pages to take."""

from __future__ import annotations

from oomd.detectors.subjects import collect, verdict, words_of
from oomd.model.globs import MACHINE, split_patterns
from oomd.model.ruleset import Wants
from oomd.model.units import SECOND_US, format_duration
from oomd.model.values import dataclass

TYPE_CHECKING = False
if TYPE_CHECKING:
    from oomd.model.decision import Evidence
    from oomd.model.ruleset import View
    from oomd.model.snapshot import MemoryStatus
    from oomd.model.units import Subject


@dataclass(frozen=True, slots=True)
class Reclaim:
    """Pages were scanned for reclaim within the last seconds. Beside a pressure detector it tells shortage from the
    after-pains of one that is over: refaults stall too, and nobody scans. Each cgroup is compared with itself, and what
    was scanned before the first look does not count.
    """

    within_us: int = 10 * SECOND_US
    of: Subject = MACHINE
    name = "reclaim"
    meaning = "the kernel scanned for pages to reclaim within the last seconds"
    meanings = {"within": "how long ago at most", "of": "machine, or cgroups: /system.slice/*"}
    ranges = {"within": (SECOND_US, 60 * SECOND_US)}

    @property
    def window_us(self) -> int:
        """How much history it looks at."""
        return self.within_us

    @property
    def wants(self) -> Wants:
        """pgscan of /proc/vmstat, or of memory.stat."""
        if self.of == MACHINE:
            return Wants(details=frozenset({"counters"}))
        return Wants(cgroups=split_patterns(self.of), files=frozenset({"memory.stat"}))

    def detect(self, view: View, *, firing: bool) -> Evidence:
        """Any growth counts."""
        found = collect(view, self.of, _scanned, lambda cgroup: cgroup.pgscan, self.within_us)
        figures = [(series.subject, series.rise) for series in found]
        return verdict(
            self.name,
            figures,
            0,
            lambda pages: pages > 0,
            lambda pages: f"{max(pages, 0):.0f} pages scanned for reclaim within {format_duration(self.within_us)}",
            silence="reclaim is not known",
            window_us=self.within_us,
        )

    def words(self) -> str:
        """The rule as a sentence."""
        return f"{words_of(self.of)} had pages scanned for reclaim within {format_duration(self.within_us)}"


def _scanned(status: MemoryStatus) -> float | None:
    counters = status.details.counters
    return None if counters is None else counters.pgscan

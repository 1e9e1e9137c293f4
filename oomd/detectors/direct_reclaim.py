"""Direct reclaim: tasks that want memory must look for it themselves."""

from __future__ import annotations

from oomd.detectors.subjects import collect, unknown, verdict
from oomd.model.globs import MACHINE
from oomd.model.ruleset import Wants
from oomd.model.units import SECOND_US, format_duration
from oomd.model.values import dataclass

TYPE_CHECKING = False
if TYPE_CHECKING:
    from oomd.model.decision import Evidence
    from oomd.model.ruleset import View
    from oomd.model.snapshot import MemoryStatus
    from oomd.model.units import Count


@dataclass(frozen=True, slots=True)
class DirectReclaim:
    """So many allocations per second had to reclaim by themselves (allocstall_* of /proc/vmstat): kswapd no longer
    keeps up.
    """

    above: Count = 1
    over_us: int = 2 * SECOND_US
    name = "direct_reclaim"
    meaning = "allocations must reclaim memory themselves, as kswapd does not keep up"
    meanings = {"above": "how many per second", "over": "the window"}
    ranges = {"over": (SECOND_US // 2, 60 * SECOND_US)}
    wants = Wants(details=frozenset({"counters"}))

    @property
    def window_us(self) -> int:
        """How much history it looks at."""
        return self.over_us

    def detect(self, view: View, *, firing: bool) -> Evidence:
        """Silent at the first look, and where vmstat cannot be read."""
        found = collect(view, MACHINE, _stalls, unknown, self.over_us)
        figures = [
            (series.subject, series.rise * SECOND_US / max(series.span_us, self.over_us))
            for series in found
            if series.span_us
        ]
        return verdict(
            self.name,
            figures,
            self.above,
            lambda rate: rate >= self.above,
            lambda rate: f"{rate:.1f} direct reclaims/s over {format_duration(self.over_us)}, limit {self.above}/s",
            silence="direct reclaim is not known yet",
            window_us=self.over_us,
        )

    def words(self) -> str:
        """The rule as a sentence."""
        return f"{self.above} or more direct reclaims per second over {format_duration(self.over_us)}"


def _stalls(status: MemoryStatus) -> float | None:
    counters = status.details.counters
    return None if counters is None else counters.allocstall

"""Memory that grows fast."""

from __future__ import annotations

from oomd.detectors.subjects import collect, verdict, words_of
from oomd.model.globs import MACHINE, split_patterns
from oomd.model.ruleset import Wants
from oomd.model.units import SECOND_US, format_duration, format_size
from oomd.model.values import dataclass

TYPE_CHECKING = False
if TYPE_CHECKING:
    from oomd.model.decision import Evidence
    from oomd.model.ruleset import View
    from oomd.model.snapshot import Cgroup, MemoryStatus
    from oomd.model.units import Rate, Subject


@dataclass(frozen=True, slots=True)
class MemoryGrowth:
    """Memory grew by so much per second over a window: as soon as the growth collected suffices for the whole window,
    and never at the first look.
    """

    above: Rate
    over_us: int = 10 * SECOND_US
    kind: str = "anon"
    of: Subject = MACHINE
    name = "memory_growth"
    meaning = "memory in use grows fast"
    meanings = {
        "above": "growth per second, averaged over the window",
        "over": "the window",
        "kind": "anon: anonymous memory (the machine's with swap); total: memory.current, or all but what is available",
        "of": "machine, or cgroups: /system.slice/*",
    }
    choices = {"kind": ("anon", "total")}
    ranges = {"over": (SECOND_US, 60 * SECOND_US)}

    @property
    def window_us(self) -> int:
        """How much history it looks at."""
        return self.over_us

    @property
    def wants(self) -> Wants:
        """memory.stat or memory.current of its cgroups."""
        file = "memory.stat" if self.kind == "anon" else "memory.current"
        return Wants(cgroups=split_patterns(self.of), files=frozenset({file} if self.of != MACHINE else ()))

    def detect(self, view: View, *, firing: bool) -> Evidence:
        """Compares the fastest with the limit."""
        found = collect(view, self.of, self._machine, self._cgroup, self.over_us)
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
            lambda rate: (
                f"{self.kind} memory grows by {format_size(int(rate))}/s over {format_duration(self.over_us)},"
                f" limit {format_size(self.above)}/s"
            ),
            silence="growth is not known yet",
            window_us=self.over_us,
        )

    def words(self) -> str:
        """The rule as a sentence."""
        return (
            f"{self.kind} memory of {words_of(self.of)} grows by {format_size(self.above)}/s or more"
            f" over {format_duration(self.over_us)}"
        )

    def _machine(self, status: MemoryStatus) -> float:
        if status.budget is not None:
            return status.budget.usage_bytes
        if self.kind == "total":
            return status.mem_total_bytes - status.available_bytes
        return status.anon_bytes + status.swap_total_bytes - status.swap_free_bytes

    def _cgroup(self, cgroup: Cgroup) -> float | None:
        return cgroup.anon_bytes if self.kind == "anon" else cgroup.current_bytes

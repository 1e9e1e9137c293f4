"""Memory pressure: the share of time in which tasks stalled, over a window of our own."""

from __future__ import annotations

from dataclasses import dataclass

from oomd.model.decision import Evidence
from oomd.model.units import SECOND_US, format_duration, format_share

TYPE_CHECKING = False
if TYPE_CHECKING:
    from oomd.model.ruleset import PressureSample, View

LET_GO = 0.8
"""An alarm that holds ends only below this share of its limit."""

FULL_ENOUGH = 0.9
"""A history this close to the window's length counts as the whole window: ticks do not come to the microsecond."""


@dataclass(frozen=True, slots=True)
class MemoryPressure:
    """Stall over the last ``over_us`` reached the share ``above``. From ``total=`` of the pressure file, which every
    read brings up to date;
    the averages beside it move every 2 s and lag by ten.
    """

    above: float
    over_us: int = 2 * SECOND_US
    kind: str = "full"
    """``full``: everything that could run stalled. ``some``: at least one task did."""
    name = "pressure"
    choices = {"kind": ("full", "some")}
    ranges = {"over": (SECOND_US // 2, 10 * SECOND_US), "above": (0.01, 1.0)}
    """The windows that the kernel's own triggers know; a share of nothing would always hold."""

    @property
    def window_us(self) -> int:
        """How much history it looks at."""
        return self.over_us

    def detect(self, view: View, *, firing: bool) -> Evidence:
        """Holds as soon as the stall collected suffices for the whole window, even if none followed."""
        if view.status.budget is not None:
            return self._silent("the machine's pressure does not count against a budget")
        if not view.history:
            return self._silent("memory pressure is not known" if view.status.psi_full_us is None else "no window yet")
        first, last = self._begin(view.history), view.history[-1]
        span_us, stall_us = last.time_us - first.time_us, self._total_us(last) - self._total_us(first)
        full = span_us >= FULL_ENOUGH * self.over_us
        share = stall_us / max(span_us if full else self.over_us, 1)
        holds = share >= (self.above * LET_GO if firing and full else self.above)
        text = f"memory pressure {self.kind} {format_share(round(share, 3))} over {format_duration(self.over_us)}"
        if not full:
            text += f" (window not full yet: {format_duration(span_us)})"
        elif span_us > 2 * self.over_us:
            text += f" (no look for {format_duration(span_us)})"
        return Evidence(self.name, holds, f"{text}, limit {format_share(self.above)}", share, self.above, span_us)

    def words(self) -> str:
        """The rule as a sentence."""
        return (
            f"memory pressure ({self.kind}) is {format_share(self.above)} or more over {format_duration(self.over_us)}"
        )

    def _begin(self, history: tuple[PressureSample, ...]) -> PressureSample:
        """The last sample that is a whole window old, or the oldest. The history is as long as the longest window of
        all rules: what lies before our own is not our business.
        """
        begin = history[-1].time_us - self.over_us
        return next((sample for sample in reversed(history) if sample.time_us <= begin), history[0])

    def _total_us(self, sample: PressureSample) -> int:
        return sample.full_us if self.kind == "full" else sample.some_us

    def _silent(self, text: str) -> Evidence:
        return Evidence(self.name, holds=False, text=text, limit=self.above)

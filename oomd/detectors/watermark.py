"""The kernel's own watermarks of free memory."""

from __future__ import annotations

from oomd.model.decision import Evidence
from oomd.model.ruleset import Wants
from oomd.model.units import format_size
from oomd.model.values import dataclass

TYPE_CHECKING = False
if TYPE_CHECKING:
    from oomd.model.ruleset import View


@dataclass(frozen=True, slots=True)
class Watermark:
    """Every zone has fewer free pages than its watermark and its lowmem reserve: the allocator's own question, zone by
    zone. (Summed over zones, as Android's lmkd has it, a full zone hides behind the reserve of an empty one.)
    """

    below: str = "low"
    name = "watermark"
    meaning = "free memory is below the kernel's watermark in every zone (/proc/zoneinfo)"
    meanings = {"below": "min: tasks reclaim directly; low: kswapd wakes; high: kswapd sleeps only above it"}
    choices = {"below": ("min", "low", "high")}
    window_us = 0
    wants = Wants(details=frozenset({"watermarks"}))

    def detect(self, view: View, *, firing: bool) -> Evidence:
        """Silent under a budget, and where zoneinfo cannot be read."""
        if view.status.budget is not None:
            return Evidence(self.name, holds=False, text="the machine's watermarks do not count against a budget")
        marks = view.status.details.watermarks
        if marks is None:
            return Evidence(self.name, holds=False, text="the watermarks are not known")
        margin = {"min": marks.min_bytes, "low": marks.low_bytes, "high": marks.high_bytes}[self.below]
        side = "below" if margin < 0 else "above"
        text = f"the best zone is {format_size(abs(margin))} {side} its {self.below} watermark"
        return Evidence(self.name, margin < 0, text, value=margin, limit=0)

    def words(self) -> str:
        """The rule as a sentence."""
        return f"every zone is below its {self.below} watermark"

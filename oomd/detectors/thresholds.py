"""Detectors that compare one amount with a limit: a row of a table each."""

from __future__ import annotations

from dataclasses import dataclass

from oomd.model.decision import Evidence
from oomd.model.units import format_size, format_threshold

TYPE_CHECKING = False
if TYPE_CHECKING:
    from oomd.model.ruleset import View
    from oomd.model.threshold import Threshold

LET_GO = 1.1
"""An alarm that holds ends only at this multiple of its limit: a little hysteresis, so that it does not flicker."""


@dataclass(frozen=True, slots=True)
class MemoryAvailable:
    """Available memory is below a limit. Shares are of MemAvailable + AnonPages, or of the budget."""

    below: Threshold
    name = "memory_available"
    window_us = 0

    def detect(self, view: View, *, firing: bool) -> Evidence:
        """Compares what is available after credit."""
        limit = self.below.resolve_bytes(view.status.base_bytes)
        holds = view.available_bytes < (limit * LET_GO if firing else limit)
        text = f"{format_size(view.available_bytes)} available, {_limit(limit, self.below)}"
        return Evidence(self.name, holds, text, value=view.available_bytes, limit=limit)

    def words(self) -> str:
        """The rule as a sentence."""
        return f"available memory is below {format_threshold(self.below)}"


@dataclass(frozen=True, slots=True)
class SwapFree:
    """Free swap is below a limit, or there is no swap to delay the end."""

    below: Threshold
    name = "swap_free"
    window_us = 0

    def detect(self, view: View, *, firing: bool) -> Evidence:
        """Holds without swap, and under a budget, which counts swap as usage."""
        if not view.status.has_swap:
            return Evidence(self.name, holds=True, text="no swap")
        limit = self.below.resolve_bytes(view.status.swap_total_bytes)
        holds = view.swap_free_bytes < (limit * LET_GO if firing else limit)
        text = f"{format_size(view.swap_free_bytes)} of swap free, {_limit(limit, self.below)}"
        return Evidence(self.name, holds, text, value=view.swap_free_bytes, limit=limit)

    def words(self) -> str:
        """The rule as a sentence."""
        return f"free swap is below {format_threshold(self.below)} (or there is none)"


def _limit(limit_bytes: int, threshold: Threshold) -> str:
    return f"limit {format_size(limit_bytes)} ({format_threshold(threshold)})"

"""Swap in compressed memory that takes too much of the memory itself."""

from __future__ import annotations

from oomd.model.decision import Evidence
from oomd.model.ruleset import Wants
from oomd.model.units import format_share, format_size, format_threshold
from oomd.model.values import dataclass

TYPE_CHECKING = False
if TYPE_CHECKING:
    from oomd.model.ruleset import View
    from oomd.model.threshold import Threshold
    from oomd.model.units import Share

LET_GO = 1.1


@dataclass(frozen=True, slots=True)
class ZramUsed:
    """What zram takes is above a limit: free swap says nothing about that, as it counts what goes in, not what that
    takes. Pages that do not compress (``huge_pages``) take their full size and more; with ``incompressible`` it holds
    only where they are a share of all, so that swapping out still frees memory where data compress well.
    """

    above: Threshold
    incompressible: Share | None = None
    name = "zram"
    meaning = "compressed swap (zram) takes too much memory"
    meanings = {
        "above": "what it takes; shares are of all memory",
        "incompressible": "and this share of what was swapped out does not compress",
    }
    window_us = 0
    wants = Wants(details=frozenset({"zram"}))

    def detect(self, view: View, *, firing: bool) -> Evidence:
        """Silent without zram, and under a budget."""
        zram = view.status.details.zram
        if zram is None or view.status.budget is not None:
            return Evidence(self.name, holds=False, text="no zram")
        limit = self.above.resolve_bytes(view.status.mem_total_bytes)
        bad = zram.huge_bytes / zram.original_bytes if zram.original_bytes else 0.0
        holds = zram.used_bytes > (limit / LET_GO if firing else limit)
        if self.incompressible is not None:
            holds = holds and bad >= self.incompressible
        text = (
            f"zram takes {format_size(zram.used_bytes)} for {format_size(zram.original_bytes)}"
            f" ({format_size(zram.same_bytes)} of one value, {format_share(round(bad, 3))} incompressible),"
            f" limit {format_size(limit)} ({format_threshold(self.above)})"
        )
        return Evidence(self.name, holds, text, value=zram.used_bytes, limit=limit)

    def words(self) -> str:
        """The rule as a sentence."""
        text = f"zram takes more than {format_threshold(self.above)} of the memory"
        if self.incompressible is not None:
            text += f" and {format_share(self.incompressible)} or more of it does not compress"
        return text

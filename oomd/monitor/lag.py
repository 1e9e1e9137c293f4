"""How late the loop woke, counted: what others do to it, for whoever asks how it stands."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from oomd.model.report import Plain

BOUNDS_US = (500, 2_000, 10_000, 50_000, 200_000, 1_000_000, 5_000_000)
"""From what a timer costs on an idle machine to a daemon that was as good as absent."""


class Lags:
    """Counts of waits by how much later than asked for they returned. Nothing grows: a few numbers in all."""

    def __init__(self) -> None:
        self._counts = [0] * (len(BOUNDS_US) + 1)
        self._total_us = 0

    def note(self, lag_us: int) -> None:
        """A wait ended by itself, so much too late."""
        place = 0
        while place < len(BOUNDS_US) and lag_us > BOUNDS_US[place]:
            place += 1
        self._counts[place] += 1
        self._total_us += lag_us

    def plain(self) -> Plain:
        """``counts`` of lags up to each of ``bounds_us`` (above the one before), the last of all above; their sum."""
        return {"bounds_us": list(BOUNDS_US), "counts": list(self._counts), "total_us": self._total_us}

"""How often leaders are looked at while memory is short, and how often everybody may be read: a scan takes 12 to 15 µs
for each process.
"""

from __future__ import annotations

LOOK_US = 1_000_000
"""How often the leaders are looked at while memory is short and does not fall."""

REFRESH_US = 5_000_000
"""A scan older than this is refreshed while memory is short."""

BUDGET_REFRESH_US = 1_000_000
"""The same where the sum of all is what counts."""

OVERHEAD = 20
"""Scans that the bound asks for take at most one part in so many of the time while memory is short."""
REFRESH_OVERHEAD = 1000
"""Those that merely refresh: at most one part in so many. 10 000 processes are read in 0.12 s, so every two minutes."""


class Ration:
    """Remembers when everybody was read, and what that took."""

    def __init__(self) -> None:
        self.scanned_us: int | None = None
        """When the last scan began; None before the first."""
        self.read_us: int | None = None
        """When everybody was read last, by a scan or in search of somebody."""
        self.cost_us = 0
        """What that took."""

    def note(self, begin_us: int, end_us: int) -> None:
        """Everybody was read, and who leads was chosen anew."""
        self.scanned_us = begin_us
        self.note_sought(begin_us, end_us)

    def note_sought(self, begin_us: int, end_us: int) -> None:
        """Everybody was read; who is preferred though he is small was not asked again."""
        self.read_us, self.cost_us = begin_us, end_us - begin_us

    def is_due(self, now_us: int, *, sums: bool) -> bool:
        """Whether the picture is too old, whatever was allocated since. ``sums``: everybody's size counts."""
        if self.scanned_us is None:
            return True
        refresh_us = max(BUDGET_REFRESH_US, OVERHEAD * self.cost_us)
        if not sums:
            refresh_us = max(REFRESH_US, REFRESH_OVERHEAD * self.cost_us)
        return now_us - self.scanned_us >= refresh_us

    def allows(self, now_us: int) -> bool:
        """Whether another scan is within its share of the time."""
        return self.read_us is None or now_us - self.read_us >= OVERHEAD * self.cost_us

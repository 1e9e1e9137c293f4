"""How large one process was: fine where that was a moment ago, coarse where it is long ago."""

from __future__ import annotations

from oomd.model.history import thin
from oomd.model.snapshot import HORIZONS_US

FINE_US = 200_000
"""Sizes closer together than this are not worth two places."""
PARTS = 4
"""How finely the past is remembered: places no nearer to each other than a quarter of their age."""


class Past:
    """When one process was looked at, and its size and shared memory then."""

    __slots__ = ("_chosen", "_from_us", "_samples", "_until_us")

    def __init__(self) -> None:
        self._samples: list[tuple[int, int, int]] = []
        """Oldest first, thinned with age."""
        self._chosen: tuple[tuple[int, int], ...] = ()
        self._from_us = self._until_us = 0
        """From when until when the sizes that were chosen last are the right ones."""

    def __len__(self) -> int:
        return len(self._samples)

    @property
    def newest_us(self) -> int:
        """When it was looked at last; only where it was."""
        return self._samples[-1][0]

    def begin(self, time_us: int, size_bytes: int, shmem_bytes: int) -> None:
        """What is known of it from elsewhere."""
        self._samples.append((time_us, size_bytes, shmem_bytes))
        self._until_us = 0

    def note(self, now_us: int, size_bytes: int, shmem_bytes: int) -> None:
        """It was looked at."""
        if self._samples and now_us - self._samples[-1][0] < FINE_US:
            return
        self.begin(now_us, size_bytes, shmem_bytes)
        thin(self._samples, lambda sample: sample[0], FINE_US, PARTS, HORIZONS_US[-1])

    def then(self, now_us: int) -> tuple[tuple[int, int], ...]:
        """Its size and shared memory before each of the horizons, or as long ago as is known; nothing where it was
        looked at for the first time just now.
        """
        if not self._from_us <= now_us < self._until_us:
            self._choose(now_us)
        return self._chosen

    def _choose(self, now_us: int) -> None:
        """The newest that is old enough, for each horizon; else the oldest. Right until the next one is old enough."""
        samples = self._samples
        if not samples or now_us - samples[0][0] < FINE_US:
            self._chosen, self._until_us = (), 0
            return
        chosen: list[tuple[int, int]] = []
        self._from_us, self._until_us = samples[0][0] + FINE_US, 1 << 62
        place = len(samples) - 1
        for horizon in HORIZONS_US:
            while place and samples[place][0] + horizon > now_us:
                self._until_us = min(self._until_us, samples[place][0] + horizon)
                place -= 1
            time, size, shmem = samples[place]
            chosen.append((size, shmem))
            if time + horizon <= now_us:
                self._from_us = max(self._from_us, time + horizon)
        self._chosen = tuple(chosen)

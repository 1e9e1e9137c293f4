"""A past that is bounded: fine where it is recent, coarse where it is old."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    Sample = TypeVar("Sample")


def thin(samples: list[Sample], time_of: Callable[[Sample], int], fine_us: int, parts: int, longest_us: int) -> None:
    """Drop what the past can do without: what lies before the last sample that is ``longest_us`` old, and one sample
    whose neighbours stand nearer to each other than ``fine_us`` or one part in ``parts`` of their age.

    Called after every new sample it keeps about parts * (1 + log(longest / fine)) of them, whatever the rate. The
    newest and the oldest stay.
    """
    now = time_of(samples[-1])
    start = 0
    while start + 1 < len(samples) and time_of(samples[start + 1]) <= now - longest_us:
        start += 1
    del samples[:start]
    for index in range(len(samples) - 2, 0, -1):
        before, after = time_of(samples[index - 1]), time_of(samples[index + 1])
        if after - before < max(fine_us, (now - after) // parts):
            del samples[index]
            return

"""How short memory is, in the levels of org.freedesktop.LowMemoryMonitor: long before anybody has to go. Pure.

A level begins at its limit and ends a little above it, so that memory which stands still there is no news for ever. A
level that holds is told again: the higher, the sooner; the lowest once.
"""

from __future__ import annotations

from oomd.engine.credit import outstanding
from oomd.model.telling import CRITICAL, LOW, MEDIUM, OKAY, LowMemoryOptions
from oomd.model.units import SECOND_US
from oomd.model.values import dataclass, replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from oomd.model.decision import Credit
    from oomd.model.snapshot import MemoryStatus

LEVELS = (OKAY, LOW, MEDIUM, CRITICAL)
LET_GO = 1.1
"""A level ends when so many times its limit is available."""
WINDOW_US = 2 * SECOND_US
"""At least so far back stall is looked at."""
AGAIN_US = {MEDIUM: 60 * SECOND_US, CRITICAL: 15 * SECOND_US}
"""How soon a level that holds is told again."""
LAPSE_US = 15 * SECOND_US
"""For so long a level that was told is no news when it comes back."""


@dataclass(frozen=True, slots=True)
class Shortage:
    """What is remembered between looks."""

    level: int = OKAY
    told: int = OKAY
    """The level that was told last, until memory was better for a while."""
    told_us: int = 0
    older: tuple[int, int] | None = None
    """A time, and the stall since boot at that time: two, in turns, so that one of them is old enough."""
    newer: tuple[int, int] | None = None


def judged(
    options: LowMemoryOptions, status: MemoryStatus, credits: tuple[Credit, ...], before: Shortage
) -> tuple[Shortage, bool]:
    """After another look at the machine; and whether the level is to be told now. What kills under way will give back
    counts as available.
    """
    coming, _ = outstanding(credits, status, killed_only=False)
    available = status.available_bytes + coming
    place = max(
        (place for place in (1, 2, 3) if available < _limit(options, status, place, before.level)),
        default=0,
    )
    now, stall = _with_sample(before, status)
    if place and stall >= options.pressure:
        place = min(place + 1, len(LEVELS) - 1)
    now, now_us = replace(now, level=LEVELS[place]), status.time_us
    if now.level == now.told:
        is_news = now.told in AGAIN_US and now_us - now.told_us >= AGAIN_US[now.told]
    else:
        is_news = now.level > now.told
    if is_news or (now.level < now.told and now_us - now.told_us >= LAPSE_US):
        now = replace(now, told=now.level, told_us=now_us)
    return now, is_news


def is_over(shortage: Shortage) -> bool:
    """Whether nothing was told, or its end was: until memory is short again there is nothing to tell."""
    return shortage.level == shortage.told == OKAY


def _limit(options: LowMemoryOptions, status: MemoryStatus, place: int, level: int) -> float:
    """Below this much available memory the level at this place holds."""
    threshold = (options.low, options.medium, options.critical)[place - 1]
    limit = threshold.resolve_bytes(status.base_bytes)
    return limit * LET_GO if LEVELS[place] <= level else limit


def _with_sample(before: Shortage, status: MemoryStatus) -> tuple[Shortage, float]:
    """The memory with this look in it, and the share of the time since the older sample in which everything stalled."""
    if status.psi_full_us is None:
        return before, 0.0
    sample = (status.time_us, status.psi_full_us)
    older, newer = before.older or sample, before.newer or sample
    if sample[0] - newer[0] >= WINDOW_US:
        older, newer = newer, sample
    elapsed_us = sample[0] - older[0]
    share = (sample[1] - older[1]) / elapsed_us if elapsed_us >= WINDOW_US else 0.0
    return replace(before, older=older, newer=newer), share

"""Proactive reclaim: what is long cold is taken in small portions while nobody is short of memory, so that less has to
be found in a hurry. Off unless asked for. What Meta's oomd calls senpai, in the form that backs off at once.
"""

from __future__ import annotations

from oomd.model.threshold import Threshold
from oomd.model.units import MIB, SECOND_US, format_duration, format_share, format_size, format_threshold
from oomd.model.values import dataclass

TYPE_CHECKING = False
if TYPE_CHECKING:
    from oomd.model.units import CgroupGlob, Share


@dataclass(frozen=True, slots=True)
class Proactive:
    """``proactive:`` of the configuration."""

    of: CgroupGlob
    every_us: int = 6 * SECOND_US
    share: Share = 0.01
    least: Threshold = Threshold(size_bytes=100 * MIB)
    most: Threshold = Threshold(size_bytes=256 * MIB)
    pressure: Share = 0.001
    io_pressure: Share = 0.001
    swap_free: Share = 0.2
    name = "proactive"
    meaning = "takes what is cold from cgroups in small portions, as long as nothing stalls for it"
    meanings = {
        "of": "cgroups, each for itself: /system.slice/*",
        "every": "how often each is asked for something",
        "share": "so much of what can be taken there, each time",
        "least": "never below this, and what cannot be reclaimed; shares are of all memory",
        "most": "no more than this at once",
        "pressure": "nothing is taken while so much of the time somebody there stalls for memory (PSI some)",
        "io_pressure": "the same for input and output",
        "swap_free": "anonymous memory is left alone while less of the swap is free",
    }
    ranges = {
        "every": (SECOND_US, 3600 * SECOND_US),
        "share": (0.0001, 0.5),
        "pressure": (0.0001, 1.0),
        "io_pressure": (0.0001, 1.0),
    }

    def words(self) -> str:
        """The rule as a sentence."""
        return (
            f"every {format_duration(self.every_us)} {format_share(self.share)} of what is reclaimable, at most"
            f" {format_threshold(self.most)}, is taken from each of {' and '.join(self.of.split(','))}, down to"
            f" {format_threshold(self.least)}, while there is no alarm and less than {format_share(self.pressure)} of"
            f" the time is lost there (input and output: {format_share(self.io_pressure)})"
        )


@dataclass(frozen=True, slots=True)
class Probe:
    """Take so much of this cgroup."""

    path: str
    inode: int
    amount_bytes: int
    stall_us: int
    """It ends as soon as somebody there has stalled for so long since it began."""

    def __str__(self) -> str:
        return f"{format_size(self.amount_bytes)} of {self.path}"


@dataclass(frozen=True, slots=True)
class Watched:
    """What is remembered of one cgroup."""

    path: str
    inode: int
    time_us: int
    """When it was looked at last."""
    stall_us: int
    """Its stall (some) as of then."""
    rest_until_us: int = 0
    """Nothing is taken before: there was pressure."""


@dataclass(frozen=True, slots=True)
class ProbingState:
    """All that is remembered; as many as there are cgroups."""

    due_us: int = 0
    watched: tuple[Watched, ...] = ()

"""All detectors that there are: each has its line of import and its entry in the tuple."""

from oomd.detectors.direct_reclaim import DirectReclaim
from oomd.detectors.exists import Exists
from oomd.detectors.memory_growth import MemoryGrowth
from oomd.detectors.pressure import PressureShare
from oomd.detectors.pressure_rising import PressureRising
from oomd.detectors.reclaim import Reclaim
from oomd.detectors.thrashing import Thrashing
from oomd.detectors.thresholds import (
    Commit,
    DyingDescendants,
    MemoryAbove,
    MemoryAvailable,
    ProcessCount,
    SwapFree,
    SwapUtilisation,
)
from oomd.detectors.watermark import Watermark
from oomd.detectors.zram import ZramUsed

ALL = (
    MemoryAvailable,
    SwapFree,
    PressureShare,
    PressureRising,
    MemoryAbove,
    MemoryGrowth,
    Reclaim,
    Thrashing,
    Watermark,
    DirectReclaim,
    Commit,
    SwapUtilisation,
    ZramUsed,
    DyingDescendants,
    Exists,
    ProcessCount,
)
"""Every detector, by the key ``name`` in the configuration."""

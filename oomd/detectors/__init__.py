"""Detectors: pure rules that say "now", with their evidence."""

from oomd.detectors.pressure import MemoryPressure
from oomd.detectors.thresholds import MemoryAvailable, SwapFree

ALL = (MemoryAvailable, SwapFree, MemoryPressure)
"""Every detector, by the key ``name`` in the configuration."""

"""The short form of the rules (``level``, ``stall``) expanded into rulesets: the engine knows nothing else."""

from __future__ import annotations

from oomd.detectors.pressure import PressureShare
from oomd.detectors.thresholds import HOLDS, MemoryAvailable, SwapFree
from oomd.model.ruleset import Ruleset
from oomd.model.threshold import Threshold
from oomd.model.units import GIB, SECOND_US
from oomd.model.values import dataclass
from oomd.policies.culprit import Culprit


@dataclass(frozen=True, slots=True)
class Level:
    """``level:`` of the configuration: too little is left."""

    term: Threshold = Threshold(share=0.05, size_bytes=GIB)
    kill: Threshold | None = None
    """Half of ``term`` unless given."""
    swap: Threshold = Threshold(share=0.10)
    grace_us: int = 5 * SECOND_US


@dataclass(frozen=True, slots=True)
class Stall:
    """``stall:`` of the configuration: the machine stands still although something is left."""

    term: float = 0.40
    kill: float = 0.70
    over_us: int = 2 * SECOND_US
    available: Threshold = Threshold(share=0.12, size_bytes=2 * GIB)
    grace_us: int = 5 * SECOND_US
    limited: str = ""
    """Cgroups whose stall at their own memory.max does not count."""


def level_ruleset(level: Level) -> Ruleset:
    """Available memory below the limit, and swap (if there is any) nearly used up."""
    kill = level.kill if level.kill is not None else level.term.halved()
    swap = SwapFree(level.swap, swapless=HOLDS)
    return Ruleset(
        name="level",
        when=((MemoryAvailable(level.term), swap),),
        critical=((MemoryAvailable(kill), swap),),
        policy=Culprit(),
        grace_us=level.grace_us,
    )


def stall_ruleset(stall: Stall) -> Ruleset:
    """Everything stalls for memory while available memory is short: never by pressure alone, nor by the level alone."""
    short = MemoryAvailable(stall.available)
    return Ruleset(
        name="stall",
        when=((PressureShare(stall.term, stall.over_us, limited=stall.limited), short),),
        critical=((PressureShare(stall.kill, stall.over_us, limited=stall.limited), short),),
        policy=Culprit(),
        grace_us=stall.grace_us,
    )

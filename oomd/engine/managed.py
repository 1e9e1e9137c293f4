"""Units' own settings as rulesets: what systemd-oomd does with ManagedOOMSwap= and ManagedOOMMemoryPressure=.

Pure: the same settings make the same rulesets. Where ours do otherwise it is on purpose: swap in pieces of less than
5 % ends in a kill of the largest piece instead of none; an alarm that holds lets go a little below its limit; what a
kill under way will give back is counted in before the next one.
"""

from __future__ import annotations

from oomd.detectors.pressure import PressureShare
from oomd.detectors.reclaim import Reclaim
from oomd.detectors.thresholds import NEVER, MemoryAbove, SwapFree
from oomd.model.ruleset import CGROUP, Choice, Ruleset
from oomd.model.threshold import Threshold
from oomd.model.units import SECOND_US, format_duration, format_share
from oomd.model.values import replace
from oomd.policies.metrics import PgscanRate, Swap

TYPE_CHECKING = False
if TYPE_CHECKING:
    from oomd.model.managed import ManagedOptions, ManagedUnit
    from oomd.model.ruleset import Rules

SWAP_RULESET = "systemd: swap"
AT_LEAST = Threshold(share=0.05)
"""Whoever holds less of the swap comes after all that hold as much."""
RECLAIMED_WITHIN_US = 30 * SECOND_US
PAUSE_US = 15 * SECOND_US
MOST_TOLD = 10
"""Settings that one report names."""
SHORTEST_US = SECOND_US
"""systemd accepts no shorter duration."""
MOST_PROCESSES = 1024
"""A cgroup goes as a whole, however many are in it; each takes a descriptor."""


def with_managed(rules: Rules, units: tuple[ManagedUnit, ...], options: ManagedOptions) -> Rules:
    """The rules of the configuration, and after them those of the units."""
    return replace(rules, rulesets=(*rules.rulesets, *managed_rulesets(units, options)))


def managed_rulesets(units: tuple[ManagedUnit, ...], options: ManagedOptions) -> tuple[Ruleset, ...]:
    """One for all that watch swap, and one for each that watches its pressure."""
    swap = tuple(below(unit.path) for unit in units if unit.swap)
    found = [_swap_ruleset(swap, options)] if swap else []
    return (*found, *(_pressure_ruleset(unit, options) for unit in units if unit.pressure))


def words_of(units: tuple[ManagedUnit, ...], options: ManagedOptions) -> str:
    """The units' settings for people."""
    words = []
    for unit in units:
        if unit.swap:
            words.append(f"{unit.path}: swap above {format_share(options.swap_limit)}")
        if unit.pressure:
            limit, duration_us = limits_of(unit, options)
            words.append(f"{unit.path}: pressure above {format_share(limit)} for {format_duration(duration_us)}")
    shown, more = "; ".join(words[:MOST_TOLD]), len(words) - MOST_TOLD
    return f"units' own settings: {shown or 'none'}" + (f"; and {more} more" if more > 0 else "")


def limits_of(unit: ManagedUnit, options: ManagedOptions) -> tuple[float, int]:
    """How much pressure is too much there, and for how long, in microseconds. PID 1 tells a fraction of 2³²-1, which is
    a little less than the hundredths of a percent that somebody wrote, as are those of the kernel's averages.
    """
    limit = options.pressure_limit if unit.limit is None else round(unit.limit, 4)
    duration_us = options.pressure_duration_us if unit.duration_us is None else unit.duration_us
    return limit, max(SHORTEST_US, duration_us)


def below(path: str) -> str:
    """The pattern of a cgroup and all that is below."""
    return f"{path.rstrip('/')}/**"


def _swap_ruleset(among: tuple[str, ...], options: ManagedOptions) -> Ruleset:
    free = Threshold(share=round(1 - options.swap_limit, 6))
    used = Threshold(share=options.swap_limit)
    # Where there is no swap at all systemd-oomd does nothing.
    when = (MemoryAbove(used), SwapFree(free, swapless=NEVER))
    return Ruleset(
        name=SWAP_RULESET,
        when=(when,),
        policy=Swap(AT_LEAST),
        choice=Choice(CGROUP, among, most=MOST_PROCESSES, leaves=True),
        grace_us=0,
    )


def _pressure_ruleset(unit: ManagedUnit, options: ManagedOptions) -> Ruleset:
    limit, duration_us = limits_of(unit, options)
    return Ruleset(
        name=f"systemd: {unit.path}",
        when=((PressureShare(limit, of=unit.path, avg="10s"), Reclaim(RECLAIMED_WITHIN_US, of=unit.path)),),
        policy=PgscanRate(),
        choice=Choice(CGROUP, (below(unit.path),), most=MOST_PROCESSES, leaves=True),
        for_us=duration_us,
        grace_us=0,
        pause_us=PAUSE_US,
    )

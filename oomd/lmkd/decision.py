"""Whether lmkd asks for a victim now, and how important that one may be. Pure: facts and a state in, a decision and the
next state out.
"""

from __future__ import annotations

from oomd.model.units import MILLISECOND_US, SECOND_US
from oomd.model.values import dataclass, replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from oomd.lmkd.facts import Facts
    from oomd.model.lmkd_properties import Properties

MEDIUM, CRITICAL = 1, 2
"""Levels of pressure events; None stands for a poll."""
PERCEPTIBLE = 201
"""The lowest adj of what people do not notice at once."""
PRESSURE_AFTER_KILL, NOT_RESPONDING, LOW_SWAP_AND_THRASHING, LOW_MEM_AND_SWAP, LOW_MEM_AND_THRASHING = range(5)
DIRECT_RECL_AND_THRASHING, LOW_MEM_AND_SWAP_UTIL, LOW_FILECACHE_AFTER_THRASHING, LOW_MEM, DIRECT_RECL_STUCK = range(
    5, 10
)
THRASHING_WINDOW_US = SECOND_US
MOST_WINDOWS = 64
"""After so many windows nothing is left of what was before."""


@dataclass(frozen=True, slots=True)
class State:
    """What is remembered from evaluation to evaluation."""

    known: bool = False
    """Whether anything is: the first evaluation has nothing to compare with."""
    refault: int = 0
    pgscan_direct: int = 0
    kswapd: int = 0
    """pgscan_kswapd + pgrefill."""
    base_pages: int = 0
    """File pages on the LRU lists when the thrashing window began."""
    window_us: int = 0
    window_refault: int = 0
    growth: int = 0
    """Percent of the windows before, decayed."""
    limit: int | None = None
    """The limit of thrashing, lowered by kills; None: as configured."""
    max_thrashing: int = 0
    """The highest percentage since the last kill."""
    after_thrashing: bool = False
    """Somebody was killed for thrashing: the file cache is looked at until it has grown again."""
    direct_since_us: int | None = None
    swap_is_low: bool = False


@dataclass(frozen=True, slots=True)
class Decision:
    """Somebody is to be killed."""

    reason: int
    text: str
    min_adj: int
    thrashing: int
    max_thrashing: int
    free_mem_kb: int
    free_swap_kb: int


@dataclass(frozen=True, slots=True)
class _View:
    """What the reasons are told from."""

    level: int | None
    after_kill: bool
    free_swap_kb: int
    swap_limit_kb: int
    swap_is_low: bool
    direct: bool
    direct_us: int
    thrashing: int
    limit: int
    below_min: bool
    below_low: bool
    swap_used: int
    """Percent of what could be swapped that is."""
    file_kb: int


def decide(
    facts: Facts, level: int | None, state: State, properties: Properties, *, after_kill: bool = False
) -> tuple[Decision | None, State]:
    """``level``: of the event that woke us, None for a poll. ``after_kill``: a victim's memory has just come back."""
    refault = facts.vmstat.get("workingset_refault_file", facts.vmstat.get("workingset_refault", 0))
    base = (facts.kb("Inactive(file)") + facts.kb("Active(file)")) // facts.page_kb
    if after_kill or not state.known:
        state = replace(state, base_pages=base, window_refault=refault, window_us=facts.time_us, growth=0)
    direct, busy, state = _reclaim(facts, refault, state)
    free_swap_kb, swap_limit_kb = _free_swap(facts, properties)
    state = replace(state, swap_is_low=free_swap_kb < swap_limit_kb)
    if not busy:
        return None, state
    thrashing, state = _thrashing(facts.time_us, refault, base, state, properties)
    view = _look(facts, level, direct, thrashing, state, properties, after_kill=after_kill)
    found = _reason(view, properties) or _filecache(view, state, properties) or _low_memory(view, properties)
    flagged = found is not None and found[0] in (
        LOW_SWAP_AND_THRASHING, LOW_MEM_AND_THRASHING, DIRECT_RECL_AND_THRASHING, LOW_FILECACHE_AFTER_THRASHING
    )  # fmt: skip
    earlier = found is not None and found[0] not in (LOW_FILECACHE_AFTER_THRASHING, LOW_MEM)
    state = replace(state, after_thrashing=flagged or (earlier and state.after_thrashing))
    if found is None:
        return None, state
    reason, text, min_adj = found
    stall = 0.0 if facts.memory is None or facts.memory.full is None else facts.memory.full.avg10
    if stall * 100 > properties.stall_limit_critical:
        min_adj = 0
    free_kb, swap_kb = facts.kb("MemFree"), view.free_swap_kb
    return Decision(reason, text, max(0, min_adj), thrashing, state.max_thrashing, free_kb, swap_kb), state


def after_success(state: State, reason: int, properties: Properties) -> State:
    """Somebody was killed for this reason: what thrashes on is taken sooner, and the highest thrashing is that since
    the last kill.
    """
    state = replace(state, max_thrashing=0)
    if reason not in (LOW_MEM_AND_THRASHING, DIRECT_RECL_AND_THRASHING):
        return state
    limit = properties.thrashing_limit if state.limit is None else state.limit
    return replace(state, limit=limit * (100 - properties.thrashing_limit_decay) // 100)


def _reclaim(facts: Facts, refault: int, state: State) -> tuple[bool, bool, State]:
    """Whether tasks reclaim directly; whether anything happens at all."""
    direct = facts.vmstat.get("pgscan_direct", 0)
    kswapd = facts.vmstat.get("pgscan_kswapd", 0) + facts.vmstat.get("pgrefill", 0)
    is_direct = state.known and direct != state.pgscan_direct
    busy = not state.known or is_direct or kswapd != state.kswapd or refault != state.refault
    since = (facts.time_us if state.direct_since_us is None else state.direct_since_us) if is_direct else None
    state = replace(state, known=True, refault=refault, pgscan_direct=direct, kswapd=kswapd, direct_since_us=since)
    return is_direct, busy, state


def _thrashing(now_us: int, refault: int, base: int, state: State, properties: Properties) -> tuple[int, State]:
    """Percent of the file pages that were read back within the window, and what is left of the windows before."""
    fresh = max(0, refault - state.window_refault) * 100 // (state.base_pages + 1)
    passed_us = now_us - state.window_us
    thrashing = fresh + state.growth
    if passed_us > THRASHING_WINDOW_US:
        windows = passed_us // THRASHING_WINDOW_US
        limit = properties.thrashing_limit if state.limit is None else state.limit
        growth = 0 if windows >= MOST_WINDOWS else fresh >> windows
        if windows == 1 and fresh >= limit:
            growth = fresh  # nobody could be killed: keep trying
        # What came together over an hour of calm is no thrashing: of a window that is over only the rest counts.
        thrashing = growth
        state = replace(state, growth=growth, base_pages=base, window_refault=refault, window_us=now_us, limit=None)
    return thrashing, replace(state, max_thrashing=max(state.max_thrashing, thrashing))


def _look(
    facts: Facts,
    level: int | None,
    direct: bool,
    thrashing: int,
    state: State,
    properties: Properties,
    *,
    after_kill: bool,
) -> _View:
    free_swap_kb, limit_kb = _free_swap(facts, properties)
    anon_kb = facts.kb("Active(anon)") + facts.kb("Inactive(anon)") + facts.kb("Shmem")
    used_kb = facts.kb("SwapTotal") - facts.kb("SwapFree")
    free = (facts.kb("MemFree") - facts.kb("CmaFree")) // facts.page_kb + facts.pcp_pages
    return _View(
        level=level,
        after_kill=after_kill,
        free_swap_kb=free_swap_kb,
        swap_limit_kb=limit_kb,
        swap_is_low=free_swap_kb < limit_kb,
        direct=direct,
        direct_us=0 if state.direct_since_us is None else facts.time_us - state.direct_since_us,
        thrashing=thrashing,
        limit=properties.thrashing_limit if state.limit is None else state.limit,
        below_min=free < facts.marks.min_pages,
        below_low=free < facts.marks.low_pages,
        swap_used=used_kb * 100 // max(1, anon_kb + used_kb),
        file_kb=facts.kb("Active(file)") + facts.kb("Inactive(file)"),
    )


def _free_swap(facts: Facts, properties: Properties) -> tuple[int, int]:
    """What can still be swapped out, and below what that is little, in kB."""
    free_kb = facts.kb("SwapFree")
    if properties.swap_compression_ratio:
        free_kb = min(free_kb, _easy_kb(facts, properties))
    return free_kb, facts.kb("SwapTotal") * properties.swap_free_low_percentage // 100


def _easy_kb(facts: Facts, properties: Properties) -> int:
    """What memory could take in if it were compressed."""
    ratio, divisor = properties.swap_compression_ratio, properties.swap_compression_ratio_div
    if not properties.relaxed_available_memory:
        return (facts.kb("MemFree") + facts.kb("Inactive(file)")) * ratio // divisor
    easy = facts.kb("MemFree") + facts.kb("Active(file)") + facts.kb("Inactive(file)") - facts.kb("Dirty")
    anon = facts.kb("Active(anon)") + facts.kb("Inactive(anon)")
    return (easy + anon * (ratio - divisor) // ratio) * ratio // divisor


def _reason(view: _View, properties: Properties) -> tuple[int, str, int] | None:
    """The first reason that holds of those that need no memory of an earlier kill."""
    serious = 0 if view.thrashing >= properties.critical_thrashing else PERCEPTIBLE
    desperate = 0 if view.below_min else serious
    mark = "min" if view.below_min else "low"
    swap = f"({view.free_swap_kb}kB < {view.swap_limit_kb}kB)"
    percent = f"({view.thrashing}%)"
    if view.after_kill and view.below_min:
        text = "min watermark is breached even after kill"
        return PRESSURE_AFTER_KILL, text, properties.pressure_after_kill_min_score
    if view.level == CRITICAL:
        return NOT_RESPONDING, "device is not responding", 0
    if view.swap_is_low and view.thrashing > properties.thrashing_limit:
        return LOW_SWAP_AND_THRASHING, f"device is low on swap {swap} and thrashing {percent}", desperate
    if view.swap_is_low and view.below_low:
        return LOW_MEM_AND_SWAP, f"{mark} watermark is breached and swap is low {swap}", desperate
    if view.below_low and properties.swap_util_max < 100 and view.swap_used > properties.swap_util_max:
        util = f"({view.swap_used}% > {properties.swap_util_max}%)"
        return LOW_MEM_AND_SWAP_UTIL, f"{mark} watermark is breached and swap utilization is high {util}", 0
    if view.below_low and view.thrashing > view.limit:
        return LOW_MEM_AND_THRASHING, f"{mark} watermark is breached and thrashing {percent}", serious
    if view.direct and view.thrashing > view.limit:
        return DIRECT_RECL_AND_THRASHING, f"device is in direct reclaim and thrashing {percent}", serious
    threshold = properties.direct_reclaim_threshold_ms
    if view.direct and threshold and view.direct_us > threshold * MILLISECOND_US:
        text = f"device is stuck in direct reclaim ({view.direct_us // MILLISECOND_US}ms > {threshold}ms)"
        return DIRECT_RECL_STUCK, text, 0
    return None


def _filecache(view: _View, state: State, properties: Properties) -> tuple[int, str, int] | None:
    if not state.after_thrashing or view.file_kb >= properties.filecache_min_kb:
        return None
    text = f"filecache is low ({view.file_kb}kB < {properties.filecache_min_kb}kB) after thrashing"
    return LOW_FILECACHE_AFTER_THRASHING, text, PERCEPTIBLE


def _low_memory(view: _View, properties: Properties) -> tuple[int, str, int] | None:
    if not view.below_low:
        return None
    mark = "min" if view.below_min else "low"
    return LOW_MEM, f"{mark} watermark is breached", properties.lowmem_min_oom_score

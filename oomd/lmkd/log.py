"""lmkd's own words for a kill: the line for people, and the fields of the event log."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from oomd.lmkd.facts import Facts
    from oomd.model.snapshot import Pressure

KILLINFO = "killinfo"
MEMINFO = (
    "MemFree", "Cached", "SwapCached", "Buffers", "Shmem", "Unevictable", "SwapTotal", "SwapFree", "Active(anon)",
    "Inactive(anon)", "Active(file)", "Inactive(file)", "SReclaimable", "SUnreclaim", "KernelStack", "PageTables",
    "IonHeap", "IonHeapPool", "CmaFree",
)  # fmt: skip
"""Fields 7 to 25, in order; 0 for what a kernel lacks."""


def kill_line(cmdline: str, pid: int, uid: int, adj: int, rss_kb: int, swap_kb: int, reason: str) -> str:
    """What log readers look for."""
    return (
        f"Kill '{cmdline}' ({pid}), uid {uid}, oom_score_adj {adj} to free {rss_kb}kB rss, {swap_kb}kB swap; "
        f"reason: {reason}"
    )


def killinfo_line(head: Sequence[int], facts: Facts, waking: Sequence[int], tail: Sequence[int]) -> str:
    """The 38 fields as logcat shows an event. ``head``: pid, uid, adj, least adj, resident kB, reason. ``waking``: ms
    since the event and since the last wake-up, wake-ups since the event, skipped ones. ``tail``: swapped kB, GPU kB,
    thrashing and its maximum in percent.
    """
    numbers = [*head, *(facts.kb(name) for name in MEMINFO), *waking, *tail]
    pressures = (*_both(facts.memory), *_both(facts.io), _both(facts.cpu)[0])
    return "[" + ",".join((*map(str, numbers), *(f"{each:.2f}" for each in pressures))) + "]"


def zero_killinfo(pid: int, uid: int, adj: int) -> str:
    """The same of a kill of which nothing else is known: the watchdog's."""
    return "[" + ",".join((f"{pid},{uid},{adj}", *["0"] * 30, *["0.00"] * 5)) + "]"


def _both(pressure: Pressure | None) -> tuple[float, float]:
    """avg10 of some and full, in percent."""
    if pressure is None:
        return 0.0, 0.0
    return pressure.some.avg10 * 100, 0.0 if pressure.full is None else pressure.full.avg10 * 100

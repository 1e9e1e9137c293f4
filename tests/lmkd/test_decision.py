"""The table of reasons: one case each, with its boundary."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oomd.lmkd.decision import CRITICAL, MEDIUM, Decision, State, after_success, decide
from oomd.model.lmkd_properties import Properties
from tests.lmkd.machine import facts

BUSY = {"pgscan_kswapd": 1}
DIRECT = {"pgscan_direct": 1}
BELOW_LOW = {"MemFree": 4 * 19_999}
AT_LOW = {"MemFree": 4 * 20_000}
BELOW_MIN = {"MemFree": 4 * 9_999}
AT_MIN = {"MemFree": 4 * 10_000}
SWAP_LOW = {"SwapFree": 99_999}
SWAP_OK = {"SwapFree": 100_000}
BASE_PAGES = 100_000


def refaults(percent: int) -> dict[str, int]:
    """So many that thrashing is just this."""
    return {"workingset_refault_file": -(-percent * (BASE_PAGES + 1) // 100)}


def after_calm(
    *parts: dict[str, Any], level: int | None = None, after_kill: bool = False, **options: Any
) -> Decision | None:
    """The decision after one quiet look half a second earlier."""
    properties = Properties(**options)
    _, state = decide(facts(10.0), None, State(), properties)
    changes = {key: value for part in parts for key, value in part.items()}
    found, _ = decide(facts(10.5, **changes), level, state, properties, after_kill=after_kill)
    return found


CASES = [
    ((BUSY, BELOW_LOW), {}, 8, 701, "low watermark is breached"),
    ((BUSY, BELOW_MIN), {}, 8, 701, "min watermark is breached"),
    ((BUSY, BELOW_LOW), {"lowmem_min_oom_score": 800}, 8, 800, "low watermark is breached"),
    ((BUSY, BELOW_LOW, SWAP_LOW), {}, 3, 201, "low watermark is breached and swap is low (99999kB < 100000kB)"),
    ((BUSY, BELOW_MIN, SWAP_LOW), {}, 3, 0, "min watermark is breached and swap is low (99999kB < 100000kB)"),
    ((SWAP_LOW, refaults(101)), {}, 2, 201, "device is low on swap (99999kB < 100000kB) and thrashing (101%)"),
    ((SWAP_LOW, refaults(300)), {}, 2, 0, "device is low on swap (99999kB < 100000kB) and thrashing (300%)"),
    ((BELOW_LOW, refaults(101)), {}, 4, 201, "low watermark is breached and thrashing (101%)"),
    ((BELOW_LOW, refaults(300)), {}, 4, 0, "low watermark is breached and thrashing (300%)"),
    ((DIRECT, refaults(101)), {}, 5, 201, "device is in direct reclaim and thrashing (101%)"),
    (
        (BUSY, BELOW_LOW, {"SwapFree": 500_000}),
        {"swap_util_max": 30},
        6,
        0,
        "low watermark is breached and swap utilization is high (33% > 30%)",
    ),
]


@pytest.mark.parametrize(("parts", "options", "reason", "min_adj", "text"), CASES)
def test_reason(parts: Any, options: dict[str, Any], reason: int, min_adj: int, text: str) -> None:
    """Number, least adj and words of each."""
    found = after_calm(*parts, **options)
    assert found is not None
    assert (found.reason, found.min_adj, found.text) == (reason, min_adj, text)


NONE = [
    ((BUSY, AT_LOW), {}),
    ((BELOW_LOW,), {}),
    ((BUSY, SWAP_LOW), {}),
    ((SWAP_LOW, refaults(100)), {}),
    ((DIRECT, refaults(100)), {}),
    ((refaults(500),), {}),
    ((BUSY, AT_LOW, {"SwapFree": 500_000}), {"swap_util_max": 30}),
    ((BUSY, SWAP_LOW, AT_LOW), {}),
]


@pytest.mark.parametrize(("parts", "options"), NONE)
def test_boundary(parts: Any, options: dict[str, Any]) -> None:
    """At the limit, or without any reclaim, nothing is asked for."""
    assert after_calm(*parts, **options) is None


def test_boundary_between_two() -> None:
    """At the min watermark it is the low one that is breached; with swap just enough it is memory alone."""
    assert after_calm(BUSY, AT_MIN, SWAP_LOW).min_adj == 201  # type: ignore[union-attr]
    assert after_calm(BUSY, BELOW_LOW, SWAP_OK).reason == 8  # type: ignore[union-attr]
    assert after_calm(BELOW_LOW, refaults(299)).min_adj == 201  # type: ignore[union-attr]
    util = {"SwapFree": 500_000}
    assert after_calm(BUSY, BELOW_LOW, util, swap_util_max=33).reason == 8  # type: ignore[union-attr]


def test_critical_event() -> None:
    """A real critical event is enough by itself; a medium one, or a poll, is not."""
    found = after_calm(BUSY, level=CRITICAL)
    assert found is not None
    assert (found.reason, found.min_adj, found.text) == (1, 0, "device is not responding")
    assert after_calm(BUSY, level=MEDIUM) is None
    assert after_calm(level=CRITICAL) is None


def test_after_a_kill() -> None:
    """Still below min: anybody down to the configured adj; above it, as always."""
    found = after_calm(BUSY, BELOW_MIN, after_kill=True, pressure_after_kill_min_score=300)
    assert found is not None
    assert (found.reason, found.min_adj) == (0, 300)
    assert after_calm(BUSY, AT_MIN, after_kill=True).reason == 8  # type: ignore[union-attr]


def test_pages_on_lists_are_free() -> None:
    """Right after a kill what lies on per-CPU lists counts, or a second victim would die for a counter that lags."""
    _, state = decide(facts(10.0), None, State(), Properties())
    look = facts(10.5, pcp_pages=1, **BUSY, **BELOW_LOW)
    assert decide(look, None, state, Properties(), after_kill=True)[0] is None


def test_pages_of_any_size() -> None:
    """Watermarks are counted in pages: of 16 KiB each the same thresholds are four times the memory."""
    _, state = decide(facts(10.0, page_kb=16), None, State(), Properties())
    for free_kb, asked in ((16 * 20_000, False), (16 * 20_000 - 1, True)):
        found, _ = decide(facts(10.5, page_kb=16, MemFree=free_kb, **BUSY), None, state, Properties())
        assert (found is not None) == asked


def test_critical_stall() -> None:
    """Strictly above the limit of full stall nobody is spared, whatever the reason."""
    _, state = decide(facts(10.0), None, State(), Properties())
    for stall, min_adj in ((0.5, 701), (0.51, 0)):
        found, _ = decide(
            facts(10.5, stall=stall, **BUSY, **BELOW_LOW), None, state, Properties(stall_limit_critical=50)
        )
        assert found is not None
        assert found.min_adj == min_adj


def test_direct_reclaim_that_goes_on() -> None:
    """Longer than the threshold; one look without it begins anew."""
    properties = Properties(direct_reclaim_threshold_ms=500)
    state = State()
    seen = []
    for step, direct in enumerate((0, 1, 2, 3, 3, 4)):
        found, state = decide(facts(step * 0.3, pgscan_direct=direct, pgscan_kswapd=step), None, state, properties)
        seen.append(None if found is None else (found.reason, found.min_adj))
    assert seen == [None, None, None, (9, 0), None, None]


def test_filecache_after_thrashing() -> None:
    """Once somebody died for thrashing a small file cache is a reason of its own, until it has grown."""
    properties = Properties(filecache_min_kb=50_000)
    _, state = decide(facts(10.0), None, State(), properties)
    small = {"Active_file": 20_000, "Inactive_file": 29_999}
    found, _ = decide(facts(10.4, **BUSY, **small), None, state, properties)
    assert found is None
    found, state = decide(facts(10.5, **BELOW_LOW, **refaults(101)), None, state, properties)
    assert found is not None
    assert found.reason == 4
    found, again = decide(facts(10.6, pgscan_kswapd=2, **refaults(0), **small), None, state, properties)
    assert found is not None
    assert (found.reason, found.min_adj) == (7, 201)
    grown = {"Active_file": 20_000, "Inactive_file": 30_000}
    found, again = decide(facts(10.7, pgscan_kswapd=3, **refaults(0), **grown), None, again, properties)
    assert found is None
    found, _ = decide(facts(10.8, pgscan_kswapd=4, **refaults(0), **small), None, again, properties)
    assert found is None


def test_limit_decays_with_kills_and_comes_back() -> None:
    """Each kill for thrashing lowers the limit by a tenth; the next window begins with the configured one."""
    properties = Properties()
    _, state = decide(facts(10.0), None, State(), properties)
    state = after_success(state, 4, properties)
    assert state.limit == 90
    assert after_success(state, 5, properties).limit == 81
    assert after_success(state, 8, properties).limit == 90
    assert decide(facts(10.5, **BELOW_LOW, **refaults(91)), None, state, properties)[0].reason == 4  # type: ignore[union-attr]
    _, state = decide(facts(11.1, **BUSY), None, state, properties)
    assert state.limit is None


def test_thrashing_of_earlier_windows_fades() -> None:
    """Halved for every window that passed; a window at the limit in which nobody could be killed is kept whole."""
    properties = Properties()
    _, state = decide(facts(10.0), None, State(), properties)
    _, kept = decide(facts(11.5, **refaults(100)), None, state, properties)
    assert kept.growth == 100
    _, faded = decide(facts(11.5, **refaults(80)), None, state, properties)
    assert faded.growth == 40
    _, gone = decide(facts(110.0, **refaults(80)), None, state, properties)
    assert gone.growth == 0
    found, _ = decide(facts(3600.0, **BELOW_LOW, **refaults(5000)), None, state, properties)
    assert found is not None
    assert found.reason == 8  # an hour's refaults are no thrashing
    assert kept.max_thrashing == 100


def test_free_swap_is_what_memory_can_take() -> None:
    """zram needs memory for what is swapped; the ratio says how little, and 0 that swap is no zram."""
    short = {"MemFree": 4 * 20_000, "Inactive_file": 10_000}
    assert after_calm(short, refaults(101)).reason == 2  # type: ignore[union-attr]
    assert after_calm(short, refaults(101), swap_compression_ratio=0) is None
    assert after_calm(short, refaults(101), swap_compression_ratio=2) is None
    relaxed = after_calm(short, refaults(101), relaxed_available_memory=True)
    assert relaxed is None


@given(
    st.builds(
        dict,
        MemFree=st.integers(0, 4_000_000),
        SwapFree=st.integers(0, 1_000_000),
        Active_file=st.integers(0, 1_000_000),
        pgscan_direct=st.integers(0, 5),
        pgscan_kswapd=st.integers(0, 5),
        workingset_refault_file=st.integers(0, 1 << 30),
    ),
    st.sampled_from((None, MEDIUM, CRITICAL)),
    st.booleans(),
    st.integers(-1000, 1000),
)
def test_nobody_below_zero_is_ever_asked_for(
    changes: dict[str, int], level: int | None, after: bool, least: int
) -> None:
    """Whatever happens, the least adj is 0 or more, and a decision has words."""
    found = after_calm(changes, level=level, after_kill=after, pressure_after_kill_min_score=least)
    assert found is None or (found.min_adj >= 0 and found.text)

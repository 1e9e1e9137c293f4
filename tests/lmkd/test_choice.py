"""Who would die first."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from oomd.lmkd.choice import in_order
from oomd.lmkd.registry import Registered
from oomd.model.snapshot import ProcessId


def registered(*adjs: int) -> tuple[Registered, ...]:
    """Processes 1, 2 … of these adjs, the earlier the longer left alone."""
    found = [Registered(ProcessId(pid, 1), adj, 0, pid) for pid, adj in enumerate(adjs, 1)]
    return tuple(sorted(found, key=lambda each: (-each.adj, each.order)))


def pids(candidates: tuple[Registered, ...], least: int, *, heaviest: bool = False, **pages: int | None) -> list[int]:
    """Their order; ``p1=5``: process 1 has 5 pages."""
    order = in_order(candidates, least, heaviest=heaviest, read_rss_pages=lambda each: pages.get(f"p{each.id.pid}"))
    return [each.id.pid for each in order]


def test_least_important_first_then_longest_left_alone() -> None:
    """Size does not matter there."""
    assert pids(registered(900, 1000, 900, 300), 0, p3=9) == [2, 1, 3, 4]


def test_least_adj() -> None:
    """Nobody below it, and nobody below 0 whatever it says."""
    assert pids(registered(900, 701, 700), 701) == [1, 2]
    assert pids(registered(0, -1, -1000), -1000) == [1]


def test_heaviest_where_people_notice() -> None:
    """Up to 200 the largest goes first; elsewhere only when asked to."""
    assert pids(registered(200, 200, 200), 0, p1=1, p2=3, p3=2) == [2, 3, 1]
    assert pids(registered(201, 201), 0, p1=1, p2=3) == [1, 2]
    assert pids(registered(201, 201), 0, heaviest=True, p1=1, p2=3) == [2, 1]


def test_without_figures_the_oldest() -> None:
    """Unreadable or empty ones are not skipped: of only such the one that was longest left alone goes."""
    assert pids(registered(100, 100), 0, p1=None, p2=0) == [1, 2]
    assert pids(registered(100, 100), 0, p1=None, p2=1) == [2, 1]


@given(st.lists(st.integers(-1000, 1000), max_size=20), st.integers(-1000, 1001), st.booleans())
def test_everybody_eligible_once(adjs: list[int], least: int, heaviest: bool) -> None:
    """Exactly those of at least this adj, least important first."""
    found = pids(registered(*adjs), least, heaviest=heaviest)
    assert sorted(found) == [pid for pid, adj in enumerate(adjs, 1) if adj >= max(0, least)]
    order = [adjs[pid - 1] for pid in found]
    assert order == sorted(order, reverse=True)

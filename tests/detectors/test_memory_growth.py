"""Memory that grows fast."""

from __future__ import annotations

from dataclasses import replace

import pytest

from oomd.detectors.memory_growth import MemoryGrowth
from oomd.model.ruleset import View
from oomd.model.snapshot import Budget, Cgroup
from oomd.model.units import GIB, MIB, SECOND_US
from tests.fakes.builders import moment, over_time

GROWTH = MemoryGrowth(above=10 * MIB, over_us=10 * SECOND_US)


def machine(seconds: float, anon_mib: int) -> View:
    """One look at the machine."""
    return moment(seconds, anon_bytes=anon_mib * MIB)


@pytest.mark.parametrize(
    ("looks", "holds"),
    [
        (((0, 100),), False),
        (((0, 100), (10, 200)), True),
        (((0, 100), (10, 199)), False),
        (((0, 100), (1, 200)), True),  # enough for the whole window already
        (((0, 100), (1, 150)), False),  # 50 MiB/s so far, but not for long
        (((0, 0), (10, 900), (20, 950)), False),  # what grew before the window is past
        (((0, 500), (10, 100)), False),
    ],
)
def test_growth_over_the_window(looks: tuple[tuple[int, int], ...], holds: bool) -> None:
    """Holds once the growth suffices for the whole window, and never at the first look."""
    assert GROWTH.detect(over_time(*(machine(*look) for look in looks)), firing=False).holds is holds


def test_swap_is_no_way_out() -> None:
    """What was swapped out meanwhile has grown all the same."""
    before = moment(0, anon_bytes=GIB, swap_total_bytes=GIB, swap_free_bytes=GIB)
    after = moment(10, anon_bytes=GIB, swap_total_bytes=GIB, swap_free_bytes=GIB - 100 * MIB)
    assert GROWTH.detect(over_time(before, after), firing=False).holds


def test_cgroups_and_budgets() -> None:
    """Each cgroup grows by itself, one made anew begins anew; a budget's usage grows too."""
    growth = MemoryGrowth(above=10 * MIB, kind="total", of="/a/*")

    def look(seconds: float, **sizes: tuple[int, int]) -> View:
        groups = (Cgroup(f"/a/{name}", inode, current_bytes=mib * MIB) for name, (inode, mib) in sizes.items())
        return moment(seconds, cgroups=tuple(groups))

    grown = growth.detect(over_time(look(0, x=(1, 10), y=(2, 10)), look(10, x=(1, 50), y=(2, 200))), firing=False)
    assert grown.cgroups == ("/a/y",)
    assert not growth.detect(over_time(look(0, y=(2, 10)), look(10, y=(3, 200))), firing=False).holds
    views = [moment(second) for second in (0, 10)]
    views = [
        replace(view, status=replace(view.status, budget=Budget(GIB, used * MIB, "processes")))
        for view, used in zip(views, (100, 300), strict=True)
    ]
    assert GROWTH.detect(over_time(*views), firing=False).holds


def test_what_it_wants_and_words() -> None:
    """The file of its kind, and the rule as a sentence."""
    assert not GROWTH.wants.details | GROWTH.wants.files
    assert MemoryGrowth(above=1, of="/a").wants.files == {"memory.stat"}
    assert MemoryGrowth(above=1, of="/a", kind="total").wants.files == {"memory.current"}
    assert GROWTH.words() == "anon memory of the machine grows by 10 MiB/s or more over 10s"

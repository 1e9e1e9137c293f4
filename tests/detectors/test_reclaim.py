"""Reclaim at work."""

from __future__ import annotations

from oomd.detectors.reclaim import Reclaim
from oomd.model.ruleset import View
from oomd.model.snapshot import Cgroup, Counters, Details
from tests.fakes.builders import moment, over_time

WITHIN = Reclaim(within_us=10_000_000)


def machine(seconds: float, pgscan: int) -> View:
    """One look at the machine's counter."""
    return moment(seconds, Details(counters=Counters(pgscan, 0, 0, 0, 0, 0, 0)))


def test_first_look_registers_no_growth() -> None:
    """What was scanned since boot happened some time. (Meta's oomd takes the first run for growth.)"""
    assert not WITHIN.detect(over_time(machine(0, 1_000_000)), firing=False).holds


def test_growth_counts_for_as_long_as_the_window() -> None:
    """D5: the counter grew by 5, and for 10 s that was lately."""
    looks = [machine(0, 100), machine(1, 105)]
    assert WITHIN.detect(over_time(*looks), firing=False).holds
    later = [machine(second, 105) for second in range(2, 11)]
    assert WITHIN.detect(over_time(*looks, *later[:8]), firing=False).holds
    assert not WITHIN.detect(over_time(*looks, *later, machine(11, 105)), firing=False).holds


def test_cgroups_that_come_and_go_are_no_reclaim() -> None:
    """The sum over all would grow with a newcomer: each is compared with itself."""
    reclaim = Reclaim(of="/a/*")
    before = moment(0, cgroups=(Cgroup("/a/x", pgscan=10),))
    newcomer = moment(1, cgroups=(Cgroup("/a/x", pgscan=10), Cgroup("/a/y", pgscan=500)))
    assert not reclaim.detect(over_time(before, newcomer), firing=False).holds
    scanned = moment(2, cgroups=(Cgroup("/a/x", pgscan=10), Cgroup("/a/y", pgscan=501)))
    assert reclaim.detect(over_time(before, newcomer, scanned), firing=False).cgroups == ("/a/y",)


def test_unknown_is_no_reclaim() -> None:
    """Where vmstat cannot be read it says so."""
    assert WITHIN.detect(moment(0), firing=False).text == "reclaim is not known"
    assert WITHIN.wants.details == {"counters"}
    assert Reclaim(of="/a").wants.files == {"memory.stat"}
    assert WITHIN.words() == "the machine had pages scanned for reclaim within 10s"

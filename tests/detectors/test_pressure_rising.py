"""Pressure that was high for a while and does not fall."""

from __future__ import annotations

from dataclasses import replace

import pytest

from oomd.detectors.pressure_rising import PressureRising
from oomd.model.ruleset import View
from oomd.model.snapshot import Budget, Cgroup, Details
from oomd.model.units import GIB
from tests.fakes.builders import moment, over_time, pressure

RISING = PressureRising(above=0.4)


def machine(seconds: float, avg10: float, avg60: float) -> View:
    """One look at the machine's averages."""
    return moment(seconds, Details(memory_pressure=pressure(avg10, avg60)))


@pytest.mark.parametrize(
    ("before", "now", "holds"),
    [
        ((0.8, 0.6), (0.8, 0.6), True),
        ((0.8, 0.6), (0.69, 0.6), True),  # falls a little
        ((0.8, 0.6), (0.67, 0.6), False),  # falls fast
        ((0.8, 0.6), (0.8, 0.4), False),  # not for long yet
        ((0.8, 0.6), (0.4, 0.6), False),  # over already
        ((0.0, 0.6), (0.8, 0.6), True),
    ],
)
def test_high_for_long_high_now_and_not_falling(
    before: tuple[float, float], now: tuple[float, float], holds: bool
) -> None:
    """Both averages above the limit, and the short one not below 85 % of what it was 2 s ago."""
    assert RISING.detect(over_time(machine(0, *before), machine(2, *now)), firing=False).holds is holds


def test_first_look_tells_no_direction() -> None:
    """One look, or two within 2 s, are not enough."""
    assert not RISING.detect(over_time(machine(0, 0.9, 0.9)), firing=False).holds
    evidence = RISING.detect(over_time(machine(0, 0.9, 0.9), machine(1, 0.9, 0.9)), firing=False)
    assert not evidence.holds
    assert "not known yet whether it falls" in evidence.text


def test_each_cgroup_is_compared_with_itself() -> None:
    """One that falls and one that appeared just now do not make a rising one."""
    rising = PressureRising(above=0.4, of="/a/*")

    def look(seconds: float, **shares: float) -> View:
        groups = (Cgroup(f"/a/{name}", memory_pressure=pressure(share, 0.9)) for name, share in shares.items())
        return moment(seconds, cgroups=tuple(groups))

    assert not rising.detect(over_time(look(0, x=0.9), look(2, x=0.5, y=0.9)), firing=False).holds
    evidence = rising.detect(over_time(look(0, x=0.9, y=0.5), look(2, x=0.5, y=0.6)), firing=False)
    assert evidence.cgroups == ("/a/y",)
    assert evidence.text.startswith("/a/y: memory pressure full 60% over 10s and 90% over 60s")


def test_silence_is_explained() -> None:
    """Under a budget, and where PSI is off."""
    budget = machine(0, 0.9, 0.9)
    budget = replace(budget, status=replace(budget.status, budget=Budget(GIB, 0, "processes")))
    assert "budget" in RISING.detect(budget, firing=False).text
    assert RISING.detect(moment(0), firing=False).text == "memory pressure is not known"


def test_what_it_wants_and_words() -> None:
    """The machine's averages, or the cgroups' files; the rule as a sentence."""
    assert RISING.wants.details == {"memory_pressure"}
    wants = PressureRising(above=0.4, of="/a,/b/*", resource="io").wants
    assert wants.cgroups == ("/a", "/b/*")
    assert wants.files == {"io.pressure"}
    assert RISING.words() == "memory pressure (full) is above 40% and does not fall"

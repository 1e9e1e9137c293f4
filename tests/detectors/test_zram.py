"""Swap in compressed memory."""

from __future__ import annotations

from dataclasses import replace

from oomd.detectors.zram import ZramUsed
from oomd.model.ruleset import View
from oomd.model.snapshot import Budget, Details, Zram
from oomd.model.threshold import Threshold
from oomd.model.units import GIB, MIB
from tests.fakes.builders import moment

FORTY = Threshold(share=0.4)


def machine(used: int, original: int = 2 * GIB, huge: int = 0) -> View:
    """A board of 1 GiB."""
    return moment(0, Details(zram=Zram(original, used, used, 5 * MIB, huge)), mem_total_bytes=GIB)


def test_what_it_takes_counts_not_what_it_holds() -> None:
    """40 % of the memory, with a little hysteresis."""
    assert ZramUsed(FORTY).detect(machine(410 * MIB), firing=False).holds
    assert not ZramUsed(FORTY).detect(machine(400 * MIB), firing=False).holds
    assert ZramUsed(FORTY).detect(machine(400 * MIB), firing=True).holds


def test_incompressible_pages() -> None:
    """With ``incompressible`` a large but well compressed store is no alarm."""
    strict = ZramUsed(FORTY, incompressible=0.3)
    assert not strict.detect(machine(500 * MIB, huge=100 * MIB), firing=False).holds
    assert strict.detect(machine(500 * MIB, original=GIB, huge=310 * MIB), firing=False).holds
    assert not strict.detect(machine(500 * MIB, original=0), firing=False).holds


def test_silence_and_words() -> None:
    """No zram, or a budget: never."""
    assert ZramUsed(FORTY).detect(moment(0), firing=False).text == "no zram"
    view = machine(GIB)
    budget = replace(view, status=replace(view.status, budget=Budget(GIB, 0, "processes")))
    assert not ZramUsed(FORTY).detect(budget, firing=False).holds
    assert ZramUsed(FORTY).words() == "zram takes more than 40% of the memory"
    assert ZramUsed(FORTY, 0.3).words().endswith("and 30% or more of it does not compress")

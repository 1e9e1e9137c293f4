"""The kernel's own watermarks."""

from __future__ import annotations

from dataclasses import replace

import pytest

from oomd.detectors.watermark import Watermark
from oomd.model.snapshot import Budget, Details, Watermarks
from oomd.model.units import GIB, MIB
from tests.fakes.builders import moment


@pytest.mark.parametrize(
    ("margins", "breached"),
    [((9, 5, 1), ()), ((9, 5, -1), ("high",)), ((9, -1, -5), ("low", "high")), ((-1, -5, -9), ("min", "low", "high"))],
)
def test_margin_below_nothing(margins: tuple[int, int, int], breached: tuple[str, ...]) -> None:
    """A watermark is breached when even the best zone is below it."""
    view = moment(0, Details(watermarks=Watermarks(*(margin * MIB for margin in margins))))
    for mark in ("min", "low", "high"):
        assert Watermark(mark).detect(view, firing=False).holds is (mark in breached)


def test_silence_and_words() -> None:
    """Unknown without zoneinfo, meaningless under a budget; the evidence says how far."""
    assert Watermark().detect(moment(0), firing=False).text == "the watermarks are not known"
    view = moment(0, Details(watermarks=Watermarks(0, -3 * MIB, 0)))
    assert Watermark().detect(view, firing=False).text == "the best zone is 3.0 MiB below its low watermark"
    budget = replace(view, status=replace(view.status, budget=Budget(GIB, 0, "processes")))
    assert not Watermark().detect(budget, firing=False).holds
    assert Watermark().words() == "every zone is below its low watermark"

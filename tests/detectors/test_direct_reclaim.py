"""Direct reclaim."""

from __future__ import annotations

import pytest

from oomd.detectors.direct_reclaim import DirectReclaim
from oomd.model.ruleset import View
from oomd.model.snapshot import Counters, Details
from tests.fakes.builders import moment, over_time


def machine(seconds: float, stalls: int) -> View:
    """One look at the machine's counter."""
    return moment(seconds, Details(counters=Counters(0, 0, stalls, 0, 0, 0, 0)))


@pytest.mark.parametrize(
    ("looks", "holds"),
    [
        (((0, 5000),), False),
        (((0, 0), (2, 20)), True),
        (((0, 0), (2, 19)), False),
        (((0, 0), (0.1, 20)), True),
        (((0, 0), (0.1, 10)), False),
        (((0, 0), (1, 500), (5, 500)), False),
    ],
)
def test_rate_over_the_window(looks: tuple[tuple[float, int], ...], holds: bool) -> None:
    """Ten a second over two seconds, however the looks fall; nothing at the first one."""
    detector = DirectReclaim(above=10)
    assert detector.detect(over_time(*(machine(*look) for look in looks)), firing=False).holds is holds


def test_silence_and_words() -> None:
    """Where vmstat cannot be read it says so; the rule as a sentence."""
    assert DirectReclaim().detect(moment(0), firing=False).text == "direct reclaim is not known yet"
    assert DirectReclaim().words() == "1 or more direct reclaims per second over 2s"
    assert DirectReclaim().wants.details == {"counters"}

"""Memory pressure over a window of our own."""

from __future__ import annotations

from dataclasses import replace

import pytest

from oomd.detectors.pressure import MemoryPressure
from oomd.model.ruleset import PressureSample, View
from oomd.model.snapshot import Budget
from oomd.model.units import GIB
from tests.fakes.builders import status

DETECTOR = MemoryPressure(above=0.4, over_us=2_000_000)


def view(*samples: tuple[int, int]) -> View:
    """A history of (milliseconds, milliseconds of full stall so far)."""
    history = tuple(PressureSample(time * 1000, full * 1000 + 500_000, full * 1000) for time, full in samples)
    return View(status(), 4 * GIB, 0, history)


@pytest.mark.parametrize(
    ("samples", "holds"),
    [
        (((0, 0), (2000, 800)), True),
        (((0, 0), (2000, 799)), False),
        (((0, 0), (1000, 800)), True),  # enough for the whole window already
        (((0, 0), (1000, 700)), False),  # 70 % so far, but the window is not full
        (((0, 0),), False),  # nothing fires on the first sample
        (((0, 0), (20_000, 8000)), True),  # the sampler itself was stalled: the share of what passed counts
        (((0, 0), (20_000, 7000)), False),
    ],
)
def test_share_of_the_window(samples: tuple[tuple[int, int], ...], holds: bool) -> None:
    """F4, F5: the stall of the window counts as soon as it suffices, and not before."""
    assert DETECTOR.detect(view(*samples), firing=False).holds is holds


def test_longer_windows_of_others_do_not_thin_ours_out() -> None:
    """The history is as long as the longest window of all rules: ours begins where it should all the same."""
    calm = [(at, 0) for at in range(0, 8001, 100)]
    stalled = [(8000 + at, at) for at in range(100, 2001, 100)]
    assert DETECTOR.detect(view(*calm, *stalled), firing=False).holds
    past = [(at, at) for at in range(0, 8001, 100)]
    over = [(8000 + at, 8000) for at in range(100, 2001, 100)]
    assert not DETECTOR.detect(view(*past, *over), firing=False).holds


def test_evidence_says_how_much_was_seen() -> None:
    """A window that is not full, and one during which nobody looked, are told apart from an ordinary one."""
    assert "(window not full yet: 500ms)" in DETECTOR.detect(view((0, 0), (500, 100)), firing=False).text
    assert "(no look for 20s)" in DETECTOR.detect(view((0, 0), (20_000, 100)), firing=False).text
    ordinary = DETECTOR.detect(view((0, 0), (2000, 100)), firing=False)
    assert ordinary.text == "memory pressure full 5% over 2s, limit 40%"


def test_hysteresis() -> None:
    """An alarm that holds lets go below four fifths of its limit."""
    assert DETECTOR.detect(view((0, 0), (2000, 660)), firing=True).holds
    assert not DETECTOR.detect(view((0, 0), (2000, 660)), firing=False).holds
    assert not DETECTOR.detect(view((0, 0), (2000, 600)), firing=True).holds


def test_some_counts_other_stall() -> None:
    """``some`` looks at the other counter."""
    history = (PressureSample(0, 0, 0), PressureSample(2_000_000, 900_000, 0))
    some = MemoryPressure(above=0.4, kind="some")
    assert some.detect(View(status(), 0, 0, history), firing=False).holds
    assert not DETECTOR.detect(View(status(), 0, 0, history), firing=False).holds


def test_silence_is_explained() -> None:
    """Under a budget, without PSI, and before the first sample it never holds and says why."""
    budget = replace(status(), budget=Budget(GIB, 0, "processes"))
    stalled = (PressureSample(0, 0, 0), PressureSample(2_000_000, 2_000_000, 2_000_000))
    told = [
        DETECTOR.detect(View(budget, 0, 0, stalled), firing=True),
        DETECTOR.detect(View(replace(status(), psi_full_us=None), 0, 0), firing=False),
        DETECTOR.detect(View(status(), 0, 0), firing=False),
    ]
    assert [evidence.holds for evidence in told] == [False, False, False]
    assert [evidence.text for evidence in told] == [
        "the machine's pressure does not count against a budget",
        "memory pressure is not known",
        "no window yet",
    ]


def test_words_and_window() -> None:
    """The rule as a sentence, and how much history it needs."""
    assert DETECTOR.words() == "memory pressure (full) is 40% or more over 2s"
    assert DETECTOR.window_us == 2_000_000

"""Pressure triggers: real ones where this kernel has them."""

from __future__ import annotations

import os

import pytest

from oomd.lmkd.triggers import PRESSURE_FILE, Triggers, fit_window
from oomd.monitor.waiter import Waiter
from tests.descriptors import open_descriptors, opened_since


def test_window_that_the_kernel_lets_us_have() -> None:
    """Without the capability whole multiples of two seconds, with the same share of stall."""
    assert fit_window(70_000, 1_000_000, any_window=True) == (70_000, 1_000_000)
    assert fit_window(70_000, 1_000_000, any_window=False) == (140_000, 2_000_000)
    assert fit_window(70_000, 2_000_000, any_window=False) == (70_000, 2_000_000)
    assert fit_window(300_000, 3_000_000, any_window=False) == (400_000, 4_000_000)
    assert fit_window(1, 500_000, any_window=False) == (4, 2_000_000)


def test_open_and_close() -> None:
    """One descriptor per level, told apart by it; what the kernel refuses is told and left out; none stays behind."""
    if not os.access(PRESSURE_FILE, os.R_OK | os.W_OK):
        pytest.skip("no pressure triggers for us here")
    before = open_descriptors()
    said: list[str] = []
    waiter = Waiter()
    triggers = Triggers(waiter, "lmkd", lambda _, text: said.append(text), any_window=False)
    assert not triggers
    triggers.open((("some", 70, 1), ("full", 1100, 2), ("full", 700, 2)), 1000)
    assert said == ["no pressure trigger (full: Invalid argument); polling instead"]  # more stall than window
    assert triggers
    assert sorted(triggers._levels.values()) == [1, 2]
    assert {triggers.level_of(fd) for fd in triggers._levels} == {1, 2}
    assert triggers.level_of(-1) is None
    triggers.close()
    waiter.close()
    assert opened_since(before) == []

"""What the lifter's thread waits for."""

from __future__ import annotations

import time

import pytest

from oomd.kernel.syscalls import Timer
from oomd.reap.bell import Bell
from tests.descriptors import open_descriptors, opened_since
from tests.waiting import is_ready

PATIENCE_S = 90.0


def waited(bell: Bell, timeout_s: float | None) -> float:
    """How long, in seconds."""
    begin = time.monotonic()
    bell.wait(timeout_s)
    return time.monotonic() - begin


def test_rung_for_now() -> None:
    """Once, however often it was rung."""
    bell = Bell()
    bell.ring()
    bell.ring()
    assert waited(bell, PATIENCE_S) < PATIENCE_S
    assert waited(bell, 0.02) >= 0.02
    bell.close()


def test_rung_at_a_set_time_and_the_last_one_counts() -> None:
    """A time that was set before does not."""
    bell = Bell()
    begin = time.monotonic()
    bell.ring_after(1_000)
    bell.ring_after(30_000)
    assert waited(bell, PATIENCE_S) < PATIENCE_S
    assert time.monotonic() - begin >= 0.03
    bell.ring_after(3_600_000_000)
    assert waited(bell, 0.02) >= 0.02
    bell.close()


def test_after_its_end_nobody_is_rung() -> None:
    """Its descriptors are gone, and whoever rings harms nobody else's."""
    before = open_descriptors()
    bell = Bell()
    bell.close()
    bell.ring()
    assert not opened_since(before)


@pytest.mark.parametrize("after_us", [1, 20_000, 1_050_000])
def test_a_timer_is_readable_in_time(after_us: int) -> None:
    """Seconds and what is less than one."""
    timer = Timer()
    begin = time.monotonic()
    timer.start(after_us)
    assert is_ready(timer.fd, PATIENCE_S)
    assert time.monotonic() - begin >= after_us / 1_000_000
    timer.close()

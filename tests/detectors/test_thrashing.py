"""File pages that are read again as soon as they were dropped."""

from __future__ import annotations

import pytest

from oomd.detectors.thrashing import Thrashing
from oomd.model.ruleset import View
from oomd.model.snapshot import Cgroup, Counters, Details
from tests.fakes.builders import moment, over_time

PAGE = 4096


def machine(seconds: float, refaults: int, cache_pages: int = 999) -> View:
    """One look: refaults so far, and a page cache of so many pages."""
    details = Details(counters=Counters(0, 0, 0, 0, 0, 0, refaults), page_bytes=PAGE)
    return moment(seconds, details, file_bytes=cache_pages * PAGE)


def share(*looks: View) -> float | None:
    """What the detector measured."""
    return Thrashing().detect(over_time(*looks), firing=False).value


def test_share_of_the_cache_when_the_window_began() -> None:
    """1100 of 999 pages (and one, as lmkd adds) came back within a second: 110 %."""
    evidence = Thrashing().detect(over_time(machine(0, 5000), machine(1, 6100, cache_pages=1)), firing=False)
    assert evidence.holds
    assert evidence.value == pytest.approx(1.1)
    assert evidence.text == "110% of the page cache read again within 1s, limit 100%"


def test_past_windows_count_half_a_quarter_an_eighth() -> None:
    """Thrashing comes in waves: what it did before decays, and is gone after four windows."""
    looks = [machine(0, 0), machine(1, 800)]
    for second, expected in ((2, 0.4), (3, 0.2), (4, 0.1), (5, 0.0)):
        looks.append(machine(second, 800))
        assert share(*looks) == pytest.approx(expected)


def test_windows_add_up() -> None:
    """70 % and before that 70 % are 105 %."""
    assert share(machine(0, 0), machine(1, 700), machine(2, 1400)) == pytest.approx(1.05)


def test_first_look_is_silent() -> None:
    """Refaults since boot are nobody's news."""
    evidence = Thrashing().detect(over_time(machine(0, 10**9)), firing=False)
    assert (evidence.holds, evidence.text) == (False, "thrashing is not known yet")


def test_cgroups() -> None:
    """A cgroup's refaults against its own cache."""

    def look(seconds: float, refaults: int) -> View:
        cgroup = Cgroup("/a", refault_file=refaults, active_file_bytes=500 * PAGE, inactive_file_bytes=499 * PAGE)
        return moment(seconds, cgroups=(cgroup, Cgroup("/b")))

    thrashing = Thrashing(of="/*")
    assert thrashing.detect(over_time(look(0, 0), look(1, 1200)), firing=False).cgroups == ("/a",)
    assert thrashing.wants.files == {"memory.stat"}
    assert Thrashing().wants.details == {"counters"}
    assert Thrashing().words() == "the machine reads more than 100% of its page cache again within 1s"

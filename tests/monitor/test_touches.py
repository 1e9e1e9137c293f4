"""What a process did not touch lately, reading after reading."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from oomd.kernel.smaps import Rollup, parse_smaps_rollup
from oomd.model.units import MIB
from oomd.monitor.touches import LEAST_US, Touches
from tests.kernel.arbitrary import captured

SECOND = 1_000_000


def rollup(anonymous: int, referenced: int | None) -> Rollup:
    """A reading; MiB."""
    told = None if referenced is None else referenced * MIB
    return replace(parse_smaps_rollup(captured("smaps_rollup")), anonymous_bytes=anonymous * MIB, referenced_bytes=told)


def test_what_the_kernel_says_by_itself() -> None:
    """Untouched since it looked last: what is not referenced, were all that is referenced anonymous."""
    touches = Touches()
    assert (touches.untouched_bytes, touches.over_us) == (None, 0)
    touches.note(rollup(100, 30), 5 * SECOND, None)
    assert (touches.untouched_bytes, touches.over_us) == (70 * MIB, 0)
    touches.note(rollup(100, 130), 6 * SECOND, None)
    assert touches.untouched_bytes == 0
    touches.note(rollup(100, None), 7 * SECOND, None)
    assert touches.untouched_bytes is None


def test_watched() -> None:
    """Files that counted as touched right after the kernel forgot do not count; what was touched once stays touched,
    though reclaim may forget it; too short a time tells nothing.
    """
    touches = Touches()
    touches.note(rollup(100, 120), 10 * SECOND, None)
    touches.note(rollup(100, 20), 12 * SECOND, 0)
    assert (touches.untouched_bytes, touches.over_us) == (0, 0)  # as before
    touches.note(rollup(100, 50), 12 * SECOND + LEAST_US - 1, None)
    assert touches.over_us == 0
    touches.note(rollup(100, 60), 14 * SECOND, None)
    assert (touches.untouched_bytes, touches.over_us) == (60 * MIB, 2 * SECOND)
    touches.note(rollup(110, 30), 16 * SECOND, None)
    assert (touches.untouched_bytes, touches.over_us) == (70 * MIB, 4 * SECOND)


def test_forgotten_again() -> None:
    """After half a minute it begins anew; what was found out holds until then."""
    touches = Touches()
    touches.note(rollup(100, 0), 0, 0)
    touches.note(rollup(100, 90), 20 * SECOND, None)
    touches.note(rollup(100, 0), 40 * SECOND, 0)
    assert (touches.untouched_bytes, touches.over_us) == (10 * MIB, 20 * SECOND)
    touches.note(rollup(100, 5), 42 * SECOND, None)
    assert (touches.untouched_bytes, touches.over_us) == (95 * MIB, 2 * SECOND)


def test_kernel_that_did_not_forget() -> None:
    """Not permitted: as though nobody had asked, and it is remembered when that was."""
    touches = Touches()
    touches.note(rollup(100, 100), 0, 0)
    touches.note(rollup(100, 40), 30 * SECOND, 13)
    assert (touches.untouched_bytes, touches.over_us, touches.forgot_us) == (60 * MIB, 0, 30 * SECOND)


READINGS = st.lists(
    st.tuples(
        st.integers(0, 500),
        st.none() | st.integers(0, 600),
        st.integers(0, 40 * SECOND),
        st.sampled_from([None, None, 0, 13]),
    )
)


@given(READINGS)
def test_never_more_than_there_is(readings: list[tuple[int, int | None, int, int | None]]) -> None:
    """Whatever is read, nothing below zero comes out of it, and no more than was there at some reading."""
    touches, now, most = Touches(), 0, 0
    for anonymous, referenced, pause, forgot in readings:
        now, most = now + pause, max(most, anonymous * MIB)
        touches.note(rollup(anonymous, referenced), now, forgot)
        assert touches.untouched_bytes is None or 0 <= touches.untouched_bytes <= most
        assert touches.over_us == 0 or touches.over_us >= LEAST_US

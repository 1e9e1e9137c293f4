"""How large a process was, as it is remembered."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from oomd.model.snapshot import HORIZONS_US
from oomd.monitor.past import FINE_US, Past


@given(
    st.lists(st.tuples(st.integers(50_000, 9_000_000), st.integers(0, 1000)), min_size=1, max_size=60),
    st.lists(st.integers(-3_000_000, 5_000_000), min_size=1, max_size=6),
)
def test_what_was_chosen_before_is_chosen_again_only_while_it_is_right(
    looks: list[tuple[int, int]], asked: list[int]
) -> None:
    """Whenever somebody asks, also for a moment that lies a little back: the newest size that is old enough for each
    horizon, else the oldest.
    """
    past, now = Past(), 0
    for waited, size in looks:
        now += waited
        past.note(now, size, 2 * size)
        for later in asked:
            samples, moment = past._samples, now + later
            expected = []
            for horizon in HORIZONS_US if moment - samples[0][0] >= FINE_US else ():
                old = [sample for sample in samples if moment - sample[0] >= horizon] or [samples[0]]
                expected.append(old[-1][1:])
            assert past.then(moment) == tuple(expected)


def test_what_is_known_from_elsewhere_is_the_beginning() -> None:
    """Nothing is known of the first moment; and what lies closer together than is of use is not kept."""
    past = Past()
    assert (len(past), past.then(5)) == (0, ())
    past.begin(1_000_000, 7, 0)
    past.note(1_000_000 + FINE_US - 1, 9, 0)
    assert (len(past), past.newest_us) == (1, 1_000_000)
    assert past.then(1_000_000 + FINE_US) == ((7, 0),) * len(HORIZONS_US)

"""What memory.high is set to, and on which way."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oomd.kernel.cgroup_dir import CgroupDirectory
from oomd.kernel.files import PAGE_BYTES
from oomd.kill.throttle import MOST_STEPS, STEP_BYTES, Throttle
from oomd.kill.warrant import Refused
from oomd.model.units import GIB, MIB
from tests.fakes.cgroup_tree import CgroupTree

if TYPE_CHECKING:
    from pathlib import Path


def aim(folder: Path, to: float, **values: int) -> tuple[str, list[int]]:
    """The former value, and what would be written."""
    CgroupTree(folder).add_group("/a", **values)
    with CgroupDirectory(str(folder / "a")) as cgroup:
        found, written = Throttle().aim(cgroup, to)
    return found, [int(value) for value in written]


def test_what_is_in_use(tmp_path: Path) -> None:
    """One write: nothing has to be reclaimed for it."""
    assert aim(tmp_path, 1.0, current=100 * MIB) == ("max", [100 * MIB])
    assert aim(tmp_path, 1.0, current=100 * MIB, high=GIB) == (f"{GIB}", [100 * MIB])
    assert aim(tmp_path, 1.0, current=100 * MIB + 17) == ("max", [100 * MIB])


def test_less_in_steps(tmp_path: Path) -> None:
    """Each write has little to reclaim."""
    assert aim(tmp_path, 0.5, current=200 * MIB) == ("max", [168 * MIB, 136 * MIB, 104 * MIB, 100 * MIB])
    assert aim(tmp_path, 0.5, current=200 * MIB, high=140 * MIB) == (f"{140 * MIB}", [108 * MIB, 100 * MIB])


def test_limited_already(tmp_path: Path) -> None:
    """A limit is never raised; without the controller there is none."""
    with pytest.raises(Refused, match="may use no more than 50 MiB as it is"):
        aim(tmp_path, 1.0, current=100 * MIB, high=50 * MIB)
    (tmp_path / "a" / "memory.high").unlink()
    with CgroupDirectory(str(tmp_path / "a")) as cgroup, pytest.raises(Refused, match="memory controller is off"):
        Throttle().aim(cgroup, 1.0)


@settings(deadline=None)
@given(
    used=st.integers(0, 64 * GIB),
    high=st.none() | st.integers(0, 64 * GIB).map(lambda size: size // PAGE_BYTES * PAGE_BYTES),
    to=st.floats(0.1, 1.0),
)
def test_any_amount(tmp_path_factory: pytest.TempPathFactory, used: int, high: int | None, to: float) -> None:
    """Whole pages, downwards, not many, none below the goal, and never more than was allowed before."""
    try:
        found, written = aim(
            tmp_path_factory.mktemp("tree"), to, current=used, **({} if high is None else {"high": high})
        )
    except Refused:
        assert high is not None
        return
    goal = max(1, int(used * to) // PAGE_BYTES) * PAGE_BYTES
    assert found == ("max" if high is None else str(high))
    assert written == sorted(written, reverse=True)
    assert written[-1] == goal
    assert len(written) <= MOST_STEPS + 2
    assert all(value % PAGE_BYTES == 0 for value in written)
    assert high is None or written[0] <= high
    steps = [one - other for one, other in itertools.pairwise(written)]
    assert all(step <= max(STEP_BYTES, used // MOST_STEPS) + PAGE_BYTES for step in steps)

"""Who leads."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from oomd.kernel.process import parse_stat
from oomd.monitor.podium import EXAMINED_SHARE, LEADERS, MOST_EXAMINED, SPARED, choose_largest
from oomd.monitor.rows import Row
from tests.fakes.proc_tree import FakeProcess, _stat

if TYPE_CHECKING:
    from oomd.monitor.podium import Podium


def podium(sizes: list[int], verdicts: dict[int, str] | None = None, gone: frozenset[int] = frozenset()) -> Podium:
    """Chosen among processes of these sizes, by pid from 1 on."""

    def admit(pid: int) -> Row | None:
        row = Row(parse_stat(_stat(FakeProcess(pid), pid)), 4096)
        row.anon_bytes, row.exact = sizes[pid - 1], True
        return None if pid in gone else row

    ordered = sorted(enumerate(sizes, 1), key=lambda each: (-each[1], each[0]))
    return choose_largest(ordered, admit, lambda row: (verdicts or {}).get(row.pid, "normal"))


@given(st.lists(st.integers(1, 1000), max_size=120))
def test_the_largest_lead_and_nobody_behind_is_larger_than_the_rest(sizes: list[int]) -> None:
    """In order of size; everybody where there are few."""
    chosen = podium(sizes)
    assert [row.size_bytes for row in chosen.leaders] == sorted(sizes, reverse=True)[:LEADERS]
    assert chosen.rest_bytes == max(sorted(sizes, reverse=True)[LEADERS:], default=0)
    assert chosen.unexamined_bytes <= chosen.rest_bytes


def test_those_who_are_spared_take_nobodys_place() -> None:
    """Protected ones at the top: as many others lead, and some of the spared are kept for the report."""
    sizes = list(range(1000, 0, -1))
    verdicts = dict.fromkeys(range(1, 101), "protect") | {101: "avoid"}
    chosen = podium(sizes, verdicts)
    pids = [row.pid for row in chosen.leaders]
    assert pids == [*range(1, SPARED + 1), *range(102, 102 + LEADERS)]
    assert chosen.rest_bytes == sizes[101 + LEADERS]


def test_a_preferred_one_leads_from_behind() -> None:
    """As long as it is large enough to go first; the gone are passed over."""
    sizes = [1000] * LEADERS + [300, 200, 100, 49]
    last = LEADERS + 1
    chosen = podium(sizes, {last + 1: "prefer", last + 3: "prefer"}, gone=frozenset({last + 2}))
    assert [row.pid for row in chosen.leaders[LEADERS:]] == [last + 1]
    assert (chosen.rest_bytes, chosen.unexamined_bytes) == (300, 49)
    assert 49 * EXAMINED_SHARE < 1000


def test_examining_ends_somewhere() -> None:
    """Ten thousand of one size: a few hundred are asked, and what is not known is told."""
    chosen = podium([5] * (LEADERS + MOST_EXAMINED + 10))
    assert len(chosen.leaders) == LEADERS
    assert (chosen.rest_bytes, chosen.unexamined_bytes) == (5, 5)
    most = podium([5] * 200, dict.fromkeys(range(1, 201), "prefer"))
    assert len(most.leaders) == 2 * LEADERS

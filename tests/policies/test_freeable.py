"""The order of victims."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from oomd.model.decision import Candidate
from oomd.model.snapshot import Budget, Snapshot
from oomd.model.units import GIB, MIB
from oomd.policies.freeable import Freeable
from tests.fakes.builders import candidate, snapshot, status

MACHINE = snapshot(status=status())


def pids(candidates: tuple[Candidate, ...], machine: Snapshot = MACHINE) -> list[int]:
    """The order, best victim first."""
    return [each.process.id.pid for each in Freeable().rank(candidates, machine)]


def test_largest_first() -> None:
    """Who gives back the most goes first."""
    assert pids((candidate(1, 10), candidate(2, 300), candidate(3, 200))) == [2, 3, 1]


def test_positive_adj_does_not_outweigh_size() -> None:
    """F9: a browser tab of 5 MiB with oom_score_adj 300 lives beside a hog of 5 GiB."""
    assert pids((candidate(1, 5, oom_score_adj=300), candidate(2, 5000))) == [2, 1]


def test_positive_adj_breaks_near_ties() -> None:
    """Within 5 % the higher oom_score_adj goes first, beyond it does not count."""
    assert pids((candidate(1, 100), candidate(2, 96, oom_score_adj=200))) == [2, 1]
    assert pids((candidate(1, 100), candidate(2, 94, oom_score_adj=200))) == [1, 2]


def test_negative_adj_protects_in_proportion() -> None:
    """-500 takes half of the machine off the score, as in the kernel's oom_badness()."""
    ranked = Freeable().rank((candidate(1, 2000, oom_score_adj=-100), candidate(2, 1500)), MACHINE)
    assert [each.process.id.pid for each in ranked] == [2, 1]
    assert ranked[1].score == 2000 * MIB + -100 * 8 * GIB // 1000


def test_budget_takes_the_place_of_the_machine() -> None:
    """Under a budget of 1 GiB, -100 weighs a tenth of that."""
    machine = snapshot(status=replace(status(), budget=Budget(GIB, 0, "processes")))
    ranked = Freeable().rank((candidate(1, 500, oom_score_adj=-100),), machine)
    assert ranked[0].score == 500 * MIB + -100 * GIB // 1000


def test_preferences() -> None:
    """Preferred first if it is worth it, avoided last whatever its size."""
    prefer = candidate(1, 50, preference="prefer")
    assert pids((candidate(2, 400), prefer, candidate(3, 900, preference="avoid"))) == [1, 2, 3]
    assert pids((candidate(2, 600), prefer, candidate(3, 900, preference="avoid"))) == [2, 1, 3]


def test_tree_root_is_last_of_all() -> None:
    """The root of a tree scope goes only when nobody else is left, avoided ones included."""
    machine = snapshot(status=status(), tree_roots=frozenset({7}))
    assert pids((candidate(7, 900), candidate(1, 1), candidate(3, 9, preference="avoid")), machine) == [1, 3, 7]


@given(
    st.lists(
        st.builds(
            candidate,
            st.integers(1, 10**6),
            st.integers(0, 10**5),
            preference=st.sampled_from(["prefer", "normal", "avoid"]),
            oom_score_adj=st.integers(-999, 1000),
        ),
        unique_by=lambda each: each.process.id,
    )
)
def test_order_is_a_permutation_and_does_not_depend_on_the_input_order(candidates: list[Candidate]) -> None:
    """Nobody is lost or made up, and the answer is the same whoever was read first."""
    ranked = pids(tuple(candidates))
    assert sorted(ranked) == sorted(each.process.id.pid for each in candidates)
    assert ranked == pids(tuple(reversed(candidates)))


def test_words() -> None:
    """The order as a sentence."""
    assert Freeable().words().startswith("whose death gives back the most")

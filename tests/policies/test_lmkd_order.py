"""Importance, then size."""

from __future__ import annotations

from oomd.policies.lmkd_order import LmkdOrder
from tests.fakes.builders import candidate, snapshot


def test_highest_adj_first_then_the_largest() -> None:
    """A cached app of 1 MiB before a foreground app of 5 GiB, and the larger of two cached ones first."""
    candidates = (
        candidate(1, 5000, oom_score_adj=0),
        candidate(2, 1, oom_score_adj=900),
        candidate(3, 50, oom_score_adj=900),
        candidate(4, 9000, oom_score_adj=-800),
    )
    ranked = LmkdOrder().rank(candidates, snapshot())
    assert [each.process.id.pid for each in ranked] == [3, 2, 1, 4]
    assert [each.score for each in ranked] == [900, 900, 0, -800]

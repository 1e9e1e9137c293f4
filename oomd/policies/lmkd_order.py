"""The policy ``lmkd_order``: by importance, then by size, as Android's lmkd chooses."""

from __future__ import annotations

from oomd.model.ruleset import NOTHING
from oomd.model.values import dataclass, replace
from oomd.policies.ranking import tiered

TYPE_CHECKING = False
if TYPE_CHECKING:
    from oomd.model.decision import Candidate
    from oomd.model.snapshot import Snapshot


@dataclass(frozen=True, slots=True)
class LmkdOrder:
    """The highest oom_score_adj first, whatever its size; of equal ones the largest. Of several processes the most
    important one speaks for all. Processes below 0 come last, never instead of anybody else.
    """

    name = "lmkd_order"
    meaning = "the highest oom_score_adj first, of equal ones the largest (Android's lmkd)"
    by_size = False
    window_us = 0
    wants = NOTHING

    def rank(self, candidates: tuple[Candidate, ...], snapshot: Snapshot) -> tuple[Candidate, ...]:
        """Least important first."""
        scored = [replace(candidate, score=_adj(candidate)) for candidate in candidates]
        return tiered(scored, snapshot, _by_adj_and_size)

    def words(self) -> str:
        """The order as a sentence."""
        return "with the highest oom_score_adj, of equal ones the largest"


def _adj(candidate: Candidate) -> int:
    return min(process.oom_score_adj for process in candidate.processes)


def _by_adj_and_size(candidates: list[Candidate]) -> list[Candidate]:
    return sorted(candidates, key=lambda each: (-each.score, -each.freeable_bytes, each.process.id.pid))

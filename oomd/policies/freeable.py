"""The policy ``freeable``: whoever's death gives back the most."""

from __future__ import annotations

from oomd.model.ruleset import NOTHING
from oomd.model.values import dataclass, replace
from oomd.policies.ranking import protected_score, tiered, total_bytes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from oomd.model.decision import Candidate
    from oomd.model.snapshot import Snapshot

NEAR = 0.95
"""Scores within 5 % of a cluster's leader are a near-tie: there, and only there, a positive oom_score_adj decides."""


@dataclass(frozen=True, slots=True)
class Freeable:
    """By private anonymous memory and swap. A negative oom_score_adj protects in proportion, as in the kernel's
    oom_badness().
    """

    name = "freeable"
    meaning = "whoever's death gives back the most"
    by_size = True
    window_us = 0
    wants = NOTHING

    def rank(self, candidates: tuple[Candidate, ...], snapshot: Snapshot) -> tuple[Candidate, ...]:
        """Preferred ones first, avoided ones last, the roots of tree scopes last of all."""
        total = total_bytes(snapshot.status)
        return tiered(
            [_scored(candidate, protected_score(candidate, total)) for candidate in candidates],
            snapshot,
            near_ties_by_adj,
        )

    def words(self) -> str:
        """The order as a sentence."""
        return "whose death gives back the most (private anonymous memory and swap)"


def _scored(candidate: Candidate, score: int) -> Candidate:
    """Most have it already."""
    return candidate if candidate.score == score else replace(candidate, score=score)


def near_ties_by_adj(candidates: list[Candidate]) -> list[Candidate]:
    """Largest score first; within a near-tie the higher oom_score_adj first."""
    ordered = sorted(candidates, key=lambda each: (-each.score, each.process.id.pid))
    result: list[Candidate] = []
    cluster: list[Candidate] = []
    for candidate in ordered:
        if cluster and candidate.score < NEAR * cluster[0].score:
            result.extend(_by_adj(cluster))
            cluster = []
        cluster.append(candidate)
    return result + _by_adj(cluster)


def _by_adj(cluster: list[Candidate]) -> list[Candidate]:
    return sorted(cluster, key=lambda each: (-max(0, each.process.oom_score_adj), -each.score, each.process.id.pid))

"""The policy ``freeable``: whoever's death gives back the most."""

from __future__ import annotations

from dataclasses import dataclass, replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from oomd.model.decision import Candidate
    from oomd.model.snapshot import MemoryStatus, Snapshot

NEAR = 0.95
"""Scores within 5 % of a cluster's leader are a near-tie: there, and only there, a positive oom_score_adj decides."""

PREFER_SHARE = 10
"""A preferred process goes first only when it gives back at least one part in so many of what the largest other does.
"""

_TIERS = {"prefer": 0, "normal": 1, "avoid": 2, "omit": 3}


@dataclass(frozen=True, slots=True)
class Freeable:
    """By private anonymous memory and swap. A negative oom_score_adj protects in proportion, as in the kernel's
    oom_badness().
    """

    name = "freeable"

    def rank(self, candidates: tuple[Candidate, ...], snapshot: Snapshot) -> tuple[Candidate, ...]:
        """Preferred ones first, avoided ones last, the roots of tree scopes last of all."""
        total = _total_bytes(snapshot.status)
        scored = [replace(candidate, score=_score(candidate, total)) for candidate in candidates]
        largest = max((each.freeable_bytes for each in scored if each.preference == "normal"), default=0)
        tiers: dict[tuple[bool, int, int], list[Candidate]] = {}
        for candidate in scored:
            is_root = candidate.process.id.pid in snapshot.tree_roots
            tiers.setdefault((is_root, _tier(candidate, largest), candidate.standing), []).append(candidate)
        return tuple(candidate for key in sorted(tiers) for candidate in _by_score(tiers[key]))

    def words(self) -> str:
        """The order as a sentence."""
        return "whose death gives back the most (private anonymous memory and swap)"


def _total_bytes(status: MemoryStatus) -> int:
    if status.budget is not None:
        return status.budget.limit_bytes
    return status.mem_total_bytes + status.swap_total_bytes


def _score(candidate: Candidate, total_bytes: int) -> int:
    return candidate.freeable_bytes + min(0, candidate.process.oom_score_adj) * total_bytes // 1000


def _tier(candidate: Candidate, largest_bytes: int) -> int:
    if candidate.preference == "prefer" and candidate.freeable_bytes * PREFER_SHARE < largest_bytes:
        return _TIERS["normal"]
    return _TIERS[candidate.preference]


def _by_score(candidates: list[Candidate]) -> list[Candidate]:
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

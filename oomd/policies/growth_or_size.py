"""The policy ``growth_or_size``: whoever holds the pool, else whoever grows fastest among the large, else the largest.

The order of Meta's oomd (kill_by_memory_size_or_growth) over the same siblings, with its two slips mended: growth is
told against what the candidate really used some seconds ago, so that nobody seen for the first time looks as though it
had grown fourfold, and the ratio keeps its decimals.
"""

from __future__ import annotations

from oomd.model.ruleset import Wants
from oomd.model.values import dataclass, replace
from oomd.policies.protection import protection_bytes
from oomd.policies.ranking import earlier_of, tiered

TYPE_CHECKING = False
if TYPE_CHECKING:
    from oomd.model.decision import Candidate
    from oomd.model.snapshot import Snapshot
    from oomd.model.units import Ratio, Share

RATIO_UNIT = 1000
"""Scores are whole numbers: growth is told in thousandths."""


@dataclass(frozen=True, slots=True)
class GrowthOrSize:
    """Three questions in this order: does it hold ``size`` of all that the candidates use together? Did it grow by
    ``growth`` and is it among the larger ones? How large is it, less what memory.min and memory.low protect?
    """

    size: Share = 0.5
    growth: Ratio = 1.25
    among_largest: Share = 0.2
    name = "growth_or_size"
    meaning = "whoever holds half of the pool, else the fastest grower among the large ones, else the largest"
    meanings = {
        "size": "the share of what all candidates use that one must hold to lose at once",
        "growth": "by how many times it must have grown in 30 s",
        "among_largest": "growers count only among this share of the candidates, the largest ones",
    }
    by_size = False
    window_us = 30_000_000
    wants = Wants(files=frozenset({"memory.current"}))

    def rank(self, candidates: tuple[Candidate, ...], snapshot: Snapshot) -> tuple[Candidate, ...]:
        """By the three questions; the score is what decided: bytes, or growth in thousandths."""
        used = {id(each): _used_bytes(each) for each in candidates}
        pool = sum(used.values())
        net = {id(each): used[id(each)] - protection_bytes(each.cgroup, snapshot.cgroups) for each in candidates}
        sizes = sorted(net.values(), reverse=True)
        place = max(1, -(-len(sizes) * round(self.among_largest * RATIO_UNIT) // RATIO_UNIT))
        large = sizes[place - 1] if sizes else 0
        keys = {}
        for each in candidates:
            size, ratio = net[id(each)], _growth_ratio(each, snapshot)
            holds = size if pool and used[id(each)] >= self.size * pool else 0
            grew = ratio if ratio >= self.growth and size >= large else 0.0
            keys[_identity(each)] = (holds, grew, size)
        scored = [replace(each, score=_score(keys[_identity(each)])) for each in candidates]
        return tiered(
            scored,
            snapshot,
            lambda tier: sorted(tier, key=lambda each: (*(-key for key in keys[_identity(each)]), each.process.id.pid)),
        )

    def words(self) -> str:
        """The order as a sentence."""
        return "that holds half of the pool, or else grows fastest among the large ones, or else is the largest"


def _identity(candidate: Candidate) -> tuple[str, str, int]:
    return candidate.kind, candidate.name, candidate.process.id.pid


def _score(key: tuple[int, float, int]) -> int:
    holds, grew, size = key
    return holds or int(grew * RATIO_UNIT) or size


def _used_bytes(candidate: Candidate) -> int:
    if candidate.kind == "cgroup" and candidate.cgroup is not None and candidate.cgroup.current_bytes is not None:
        return candidate.cgroup.current_bytes
    return candidate.freeable_bytes


def _growth_ratio(candidate: Candidate, snapshot: Snapshot) -> float:
    """How many times of what it was some seconds ago; 1 where that is not known."""
    now = _used_bytes(candidate)
    if candidate.kind == "cgroup":
        past = earlier_of(candidate.cgroup, snapshot)
        before = None if past is None else past.current_bytes
    else:
        grown = [process.grown[-1] for process in candidate.processes if process.grown]
        before = now - sum(grown) if grown else None
    return 1.0 if before is None or before <= 0 else now / before

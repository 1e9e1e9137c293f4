"""The policy ``culprit``: what a death gives back, weighed by how much of the present shortage the candidate caused.

A candidate's weight is

    FLOOR + (1 - FLOOR) * (its growth / the growth of whoever grew most)

and its score is what it gives back (less what a negative oom_score_adj protects) times that weight. Whoever grew most
weighs 1, whoever did not grow at all FLOOR: the culprit is chosen as long as its death gives back at least an eighth of
what the largest innocent's would. So a database with half of the memory outlives the leaker beside it, and a browser
tab of 20 MiB that happens to grow does not die in the place of a process of 6 GiB that filled the memory an hour ago.

Several that grow together (a build) are each small beside what stands still, and are the cause all the same: where
those that grew about as fast as the fastest, and are worth taking one by one, own a sixteenth of the memory together,
FLOOR is CREW_FLOOR.

Growth is looked at over 2 s, 8 s, 32 s and 128 s, and the first of them counts over which all candidates together grew
by one part in 64 of the memory: less than that is the ordinary breathing of processes, and tells nothing about who
caused the shortage. A fast leak is recognised by its last two seconds, a slow one by its last two minutes. Where growth
is not known (everybody is looked at for the first time), or was that small over all of them, everybody weighs 1 and the
order is that of ``freeable``.

No score is above the candidate's size, so that the growth bound of the process table holds for this policy too.
"""

from __future__ import annotations

from oomd.model.ruleset import NOTHING
from oomd.model.snapshot import HORIZONS_US
from oomd.model.values import dataclass, replace
from oomd.policies.freeable import near_ties_by_adj
from oomd.policies.ranking import protected_score, tiered, total_bytes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from oomd.model.decision import Candidate
    from oomd.model.snapshot import Snapshot

FLOOR = 1 / 8
"""The weight of who did not grow."""
CREW_FLOOR = 1 / 64
"""The same, where those who grew own enough to be the cause."""
CREW_SHARE = 16
"""Enough: one part in so many of the memory."""
MEMBER_SHARE = 128
"""Whose death gives back less than one part in so many of it is not worth taking alone: forty tabs that are opened at
once do not die one after the other in the place of the process that holds the memory.
"""
WORTH_SHARE = 64
"""Growth of all together below one part in so many of the memory names no culprit (128 MiB of 8 GiB)."""


@dataclass(frozen=True, slots=True)
class Culprit:
    """By what the death gives back, weighed by growth. Falls back to size where growth is unknown."""

    name = "culprit"
    meaning = "what the death gives back, weighed by how much of the present shortage the candidate caused"
    by_size = True
    window_us = 0
    wants = NOTHING

    def rank(self, candidates: tuple[Candidate, ...], snapshot: Snapshot) -> tuple[Candidate, ...]:
        """Preferred ones first, avoided ones last, the roots of tree scopes last of all."""
        total = total_bytes(snapshot.status)
        base = snapshot.status.base_bytes
        grown = growth_bytes(candidates, base // WORTH_SHARE)
        most = max(grown, default=0)
        crew = sum(
            each.freeable_bytes
            for each, growth in zip(candidates, grown, strict=True)
            if 2 * growth >= most and each.freeable_bytes * MEMBER_SHARE >= base
        )
        floor = CREW_FLOOR if crew * CREW_SHARE >= base else FLOOR
        scored = []
        for candidate, growth in zip(candidates, grown, strict=True):
            score = protected_score(candidate, total)
            if most and score > 0:
                score = int(score * (floor + (1 - floor) * growth / most))
            scored.append(replace(candidate, score=score))
        return tiered(scored, snapshot, near_ties_by_adj)

    def words(self) -> str:
        """The order as a sentence."""
        return "whose death gives back the most, weighed by how much it grew in the last seconds"


def growth_bytes(candidates: tuple[Candidate, ...], worth_bytes: int) -> list[int]:
    """How much each grew over the first horizon over which all together grew by as much as is worth it; all 0 where
    there is none.

    Never more than its death gives back: memory that is shared with others is not its growth alone.
    """
    for horizon in range(len(HORIZONS_US)):
        grown = [_growth(candidate, horizon) for candidate in candidates]
        if sum(grown) >= max(1, worth_bytes):
            return grown
    return [0] * len(candidates)


def _growth(candidate: Candidate, horizon: int) -> int:
    grown = sum(max(0, process.grown[horizon]) for process in candidate.processes if process.grown)
    return min(grown, max(0, candidate.freeable_bytes))

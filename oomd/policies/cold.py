"""The policy ``cold``: who holds the most memory that was not touched lately, so that the least is lost that is in use.

Three sources, each better than the one before where it is there:

- memory.stat of the cgroup: of anonymous memory the share that the kernel keeps on the inactive list, less what it took
  from there and that was wanted back (refaults). It is one share for everybody in the cgroup.
- smaps_rollup of the foremost processes, which is read in any case: what is not ``Referenced`` was not touched since
  the kernel itself looked last, which it does when memory is short. That is the least that is cold.
- the same while touches are watched (``clear_refs: true``): the kernel is made to forget what they touched, and looked
  at again seconds later. That is as exact as it gets, and not without effect on those who are watched, so it must be
  asked for.

Swap is cold whatever they say. Memory that the death does not give back (shared by fork) does not count.
"""

from __future__ import annotations

from oomd.model.ruleset import Wants
from oomd.model.values import dataclass
from oomd.policies.metrics import RATE_WINDOW_US, swap_bytes
from oomd.policies.ranking import earlier_of, rank_by

TYPE_CHECKING = False
if TYPE_CHECKING:
    from oomd.model.decision import Candidate
    from oomd.model.snapshot import Process, Snapshot


@dataclass(frozen=True, slots=True)
class Cold:
    """By swap, and anonymous memory that was not touched lately."""

    clear_refs: bool = False
    name = "cold"
    meaning = "by memory that was not touched lately"
    meanings = {
        "clear_refs": (
            "watch what the 4 foremost touch: holds each up for some 0.1 s per GiB every 30 s of danger,"
            " and makes their memory look unused to reclaim"
        )
    }
    by_size = False
    window_us = RATE_WINDOW_US

    @property
    def wants(self) -> Wants:
        """The lists of each cgroup."""
        return Wants(files=frozenset({"memory.stat"}), touches=self.clear_refs)

    def rank(self, candidates: tuple[Candidate, ...], snapshot: Snapshot) -> tuple[Candidate, ...]:
        """Most cold memory first."""
        return rank_by(candidates, snapshot, lambda candidate: cold_bytes(candidate, snapshot))

    def words(self) -> str:
        """The order as a sentence."""
        how = " (the foremost are watched with clear_refs)" if self.clear_refs else ""
        return f"with the most memory that was not touched lately{how}"


def cold_bytes(candidate: Candidate, snapshot: Snapshot) -> float:
    """Its swap and untouched memory, as far as its death gives them back."""
    share = _inactive_share(candidate, snapshot)
    cold = swap_bytes(candidate) + sum(_untouched_bytes(process, share) for process in candidate.processes)
    return min(cold, candidate.freeable_bytes)


def _untouched_bytes(process: Process, share: float) -> float:
    """Of its anonymous memory: as it was watched, else by the share of its cgroup, but no less than was seen."""
    seen = process.untouched_bytes
    if seen is not None and process.untouched_over_us:
        return seen
    return max(seen or 0, share * process.rss_anon_bytes)


def _inactive_share(candidate: Candidate, snapshot: Snapshot) -> float:
    """Of the anonymous memory in its cgroup; 0 where that is not known."""
    cgroup = candidate.cgroup
    if cgroup is None or cgroup.active_anon_bytes is None or cgroup.inactive_anon_bytes is None:
        return 0.0
    listed = cgroup.active_anon_bytes + cgroup.inactive_anon_bytes
    wanted_back = 0
    past = earlier_of(cgroup, snapshot)
    if past is not None and past.refault_anon is not None and cgroup.refault_anon is not None:
        wanted_back = max(0, cgroup.refault_anon - past.refault_anon) * snapshot.status.details.page_bytes
    return max(0, cgroup.inactive_anon_bytes - wanted_back) / listed if listed else 0.0

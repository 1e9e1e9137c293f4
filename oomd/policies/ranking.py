"""What every order of victims shares: preferences come first, ties are broken the same way everywhere."""

from __future__ import annotations

from oomd.model.values import replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from oomd.model.decision import Candidate
    from oomd.model.snapshot import Cgroup, MemoryStatus, Snapshot

PREFER_SHARE = 10
"""A preferred process goes first only when it gives back at least one part in so many of what the largest other does.
"""

_TIERS = {"prefer": 0, "normal": 1, "avoid": 2, "omit": 3}


def tiered(
    scored: list[Candidate], snapshot: Snapshot, order: Callable[[list[Candidate]], list[Candidate]]
) -> tuple[Candidate, ...]:
    """Preferred ones first, avoided ones last, the roots of tree scopes last of all; within each tier by their
    standing, and then as ``order`` has it.
    """
    largest = max((each.freeable_bytes for each in scored if each.preference == "normal"), default=0)
    tiers: dict[tuple[bool, int, int], list[Candidate]] = {}
    roots = snapshot.tree_roots
    for candidate in scored:
        is_root = bool(roots) and any(process.id.pid in roots for process in candidate.processes)
        tiers.setdefault((is_root, _tier(candidate, largest), candidate.standing), []).append(candidate)
    return tuple(candidate for key in sorted(tiers) for candidate in order(tiers[key]))


def by_score(candidates: list[Candidate]) -> list[Candidate]:
    """Largest score first; of equal ones whoever gives back more, then the lower pid."""
    return sorted(candidates, key=lambda each: (-each.score, -each.freeable_bytes, each.process.id.pid))


def rank_by(
    candidates: tuple[Candidate, ...], snapshot: Snapshot, measure: Callable[[Candidate], float | None]
) -> tuple[Candidate, ...]:
    """The candidates by one metric, the largest first; those of which it is not known after all others of their tier,
    largest first.
    """
    scored = []
    for candidate in candidates:
        value = measure(candidate)
        scored.append(replace(candidate, score=-1 if value is None else max(0, int(value))))
    return tiered(scored, snapshot, by_score)


def total_bytes(status: MemoryStatus) -> int:
    """All memory and swap, or the budget: what oom_score_adj is a thousandth of."""
    if status.budget is not None:
        return status.budget.limit_bytes
    return status.mem_total_bytes + status.swap_total_bytes


def protected_score(candidate: Candidate, total: int) -> int:
    """What it gives back, less what a negative oom_score_adj protects, as in the kernel's oom_badness()."""
    return candidate.freeable_bytes + min(0, candidate.process.oom_score_adj) * total // 1000


def earlier_of(cgroup: Cgroup | None, snapshot: Snapshot) -> Cgroup | None:
    """The same cgroup some seconds ago; None where it was not looked at then, or was made since."""
    if cgroup is None:
        return None
    return next(
        (past for past in snapshot.earlier if past.path == cgroup.path and past.inode == cgroup.inode),
        None,
    )


def _tier(candidate: Candidate, largest_bytes: int) -> int:
    if candidate.preference == "prefer" and candidate.freeable_bytes * PREFER_SHARE < largest_bytes:
        return _TIERS["normal"]
    return _TIERS[candidate.preference]

"""Whom a gentle step is for: a cgroup as a whole, or the process that would be killed. Pure.

What moves a whole cgroup moves everybody in it, so one member that may not be touched saves the cgroup, and the next
one is looked at. Being protected (from a kill) spares nobody the loss of cold pages, which the kernel takes from
everybody: there only oomd itself, pid 1 and strangers to the scope count.
"""

from __future__ import annotations

from oomd.engine.eligibility import NOTHING_OWNED, why_never
from oomd.engine.marks import AVOID, OMIT
from oomd.model.decision import FREEZE, NOTIFY, RECLAIM, RESTART_UNIT, Candidate, Rejection
from oomd.model.globs import matches_any, split_patterns
from oomd.model.placement import placement_of, unit_path
from oomd.model.ruleset import CGROUP, CGROUP_ONLY, NOTHING, PROCESS_IN, Wants
from oomd.model.values import dataclass

TYPE_CHECKING = False
if TYPE_CHECKING:
    from oomd.model.ruleset import Ruleset
    from oomd.model.snapshot import Cgroup, Process, Snapshot
    from oomd.model.steps import Gentle

MOST_LOOKED_AT = 64
"""Cgroups of which it is asked whether they may be moved."""


@dataclass(frozen=True, slots=True)
class Aim:
    """Whom the step is for, or why there is nobody."""

    target: Candidate | None
    spared: tuple[Rejection, ...] = ()
    why: str = ""


def wanted_of_step(step: Gentle | None) -> Wants:
    """What must be seen of cgroups to find whom the step is for."""
    of = "" if step is None or step.name in (NOTIFY, RESTART_UNIT) else step.of  # type: ignore[union-attr]
    return Wants(cgroups=split_patterns(of), files=frozenset({"memory.stat"})) if of else NOTHING


def needs_everybody(step: Gentle | None) -> bool:
    """Whether every process must be seen: all in a cgroup count."""
    return step is not None and step.name != NOTIFY


def aim(
    step: Gentle,
    ruleset: Ruleset,
    snapshot: Snapshot,
    ranking: tuple[Candidate, ...],
    candidates: tuple[Candidate, ...],
    rejected: tuple[Rejection, ...],
) -> Aim:
    """The first that may be touched. ``ranking``: of the ruleset; ``candidates`` and ``rejected``: of everybody."""
    if step.name == NOTIFY:
        return Aim(ranking[0] if ranking else None)
    if step.name == RECLAIM and not _wants_cgroup(step, ruleset):
        if not snapshot.status.has_swap:
            return Aim(None, why="there is no swap, so no process can be swapped out")
        return Aim(ranking[0]) if ranking else Aim(None, why="nobody is chosen")
    finder = _Finder(step, snapshot, candidates, rejected)
    paths = finder.paths(ranking)
    spared: list[Rejection] = []
    for path in paths[:MOST_LOOKED_AT]:
        found = finder.take(path)
        if isinstance(found, Candidate):
            return Aim(found, tuple(spared))
        if found is not None:
            spared.append(found)
    why = f"{spared[0].name} {spared[0].why}" if spared else finder.why_none()
    return Aim(None, tuple(spared), why)


def _wants_cgroup(step: Gentle, ruleset: Ruleset) -> bool:
    return bool(getattr(step, "of", "")) or ruleset.choice.level in (CGROUP, PROCESS_IN)


class _Finder:
    """Cgroups in order, and who is in them."""

    def __init__(
        self,
        step: Gentle,
        snapshot: Snapshot,
        candidates: tuple[Candidate, ...],
        rejected: tuple[Rejection, ...],
    ) -> None:
        self._step = step
        self._snapshot = snapshot
        self._candidates = candidates
        self._rejected = [each for each in rejected if not each.process.is_kernel_thread and not each.process.is_dead]
        self._known = {cgroup.path: cgroup for cgroup in snapshot.cgroups}

    def paths(self, ranking: tuple[Candidate, ...]) -> list[str]:
        """Which cgroup is looked at first, second …"""
        of = getattr(self._step, "of", "")
        if of:
            found = [each for each in self._snapshot.cgroups if matches_any(split_patterns(of), each.path)]
            return [each.path for each in sorted(found, key=lambda each: (-self._size(each), each.path))]
        if self._step.name == RESTART_UNIT:
            return self._units(ranking)
        return [path for path in dict.fromkeys(map(_path_of, ranking)) if path not in ("", "/")]

    def why_none(self) -> str:
        """Where no path is left."""
        if self._step.name == RESTART_UNIT:
            name = self._step.unit_name  # type: ignore[union-attr]
            return f"{name} is not running" if name else "whoever is chosen belongs to no service"
        of = getattr(self._step, "of", "")
        return f"there is no {of} with processes" if of else "nobody is chosen, or lies in no cgroup of its own"

    def take(self, path: str) -> Candidate | Rejection | None:
        """The cgroup as a whole; or who in it saves it; None where nobody is there."""

        def holds(process: Process) -> bool:
            return process.cgroup == path or process.cgroup.startswith(f"{path.rstrip('/')}/")

        inside = [each for each in self._candidates if holds(each.process)]
        others = [each for each in self._rejected if holds(each.process)]
        if not inside and not others:
            return None
        blocked = next((why for each in others if (why := self._blocker(each))), "")
        if not blocked and self._step.name == FREEZE:
            blocked = next((_avoided(each) for each in inside if each.preference in (AVOID, OMIT)), "")
        members = [each.process for each in inside]
        members += [each.process for each in others]
        members.sort(key=lambda process: (-process.size_bytes, process.id.pid))
        if blocked:
            return Rejection(members[0], blocked, kind=CGROUP, name=path)
        size = sum(process.size_bytes for process in members)
        standing = inside[0].preference if inside else "normal"
        return Candidate(
            members[0],
            size,
            "size",
            standing,
            size,
            kind=CGROUP,
            name=path,
            members=tuple(members),
            cgroup=self._known.get(path),
        )

    def _blocker(self, rejection: Rejection) -> str:
        process = rejection.process
        if rejection.why == NOTHING_OWNED or process.is_dying:
            return ""
        if self._step.name == RECLAIM and not why_never(process, self._snapshot):
            return ""
        return f"holds {process.comm} ({process.id.pid}), which {rejection.why}"

    def _size(self, cgroup: Cgroup) -> int:
        """By which the largest is taken: what is cold there, or all that it uses."""
        if self._step.name != RECLAIM:
            return cgroup.current_bytes or 0
        anon = (cgroup.inactive_anon_bytes or 0) if self._snapshot.status.has_swap else 0
        return anon + (cgroup.inactive_file_bytes or 0)

    def _units(self, ranking: tuple[Candidate, ...]) -> list[str]:
        """Cgroups of services of the system's manager: of this name, or whom the ranking belongs to."""
        name = self._step.unit_name  # type: ignore[union-attr]
        if not name:
            chosen = [each.process.cgroup for each in ranking]
            return list(dict.fromkeys(unit_path(cgroup) for cgroup in chosen if _service_of(cgroup)))
        cgroups = [each.process.cgroup for each in self._candidates]
        cgroups += [each.process.cgroup for each in self._rejected]
        return list(dict.fromkeys(unit_path(cgroup) for cgroup in cgroups if _service_of(cgroup) == name))


def unit_of(path: str) -> str:
    """The service of the system's manager that this cgroup is; empty for anything else."""
    return _service_of(path) if unit_path(path) == path else ""


def _service_of(cgroup: str) -> str:
    units = placement_of(cgroup).units
    service = units[-1] if units else ""
    return service if service.endswith(".service") and not service.startswith("user@") else ""


def _path_of(candidate: Candidate) -> str:
    """The cgroup that it is, or lies in; none for a part of one."""
    if candidate.kind == CGROUP:
        return candidate.name
    return "" if candidate.kind == CGROUP_ONLY else candidate.process.cgroup


def _avoided(candidate: Candidate) -> str:
    process = candidate.process
    return f"holds {process.comm} ({process.id.pid}), which is avoided ({candidate.because})"

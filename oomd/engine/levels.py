"""What dies as one: a process, its group, its session, or a cgroup; and who stands where in the order of each.

A set of processes is taken as a whole or not at all: one member that may not be killed (protected, oomd itself, out of
scope) saves the whole set. Among cgroups the choice is made between siblings: the worst of them, then the worst of its
children, and so on where the rule says ``recursive``; the next best follows in the order, should the best be refused.
"""

from __future__ import annotations

from oomd.engine.eligibility import NOTHING_OWNED
from oomd.engine.marks import AVOID, NORMAL, OMIT, PREFER, honoured_mark, is_mark
from oomd.model.decision import Candidate, Rejection
from oomd.model.globs import lies_in_any, matches_any
from oomd.model.ruleset import CGROUP, CGROUP_ONLY, GROUP, PROCESS, PROCESS_IN, SESSION, Choice
from oomd.model.snapshot import Cgroup
from oomd.model.values import dataclass, replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from oomd.model.ruleset import Policy, Ruleset
    from oomd.model.snapshot import Process, Snapshot

_UNMARKED = (NORMAL, "")
ROOTS = ("/*",)
"""Among which cgroups is chosen where ``from`` says nothing."""


@dataclass(frozen=True, slots=True)
class Ranking:
    """Whom a ruleset would take, best first, and who is spared."""

    ranked: tuple[Candidate, ...]
    rejected: tuple[Rejection, ...]
    note: str = ""
    """What had to be given up to find anybody."""


def rank(
    ruleset: Ruleset,
    snapshot: Snapshot,
    candidates: tuple[Candidate, ...],
    rejected: tuple[Rejection, ...],
    *,
    omit_last: bool = False,
) -> Ranking:
    """The order of this ruleset's level and policy. Where nothing may be taken as one, single processes are: once an
    alarm is confirmed there is a victim if one is allowed at all. ``omit_last``: cgroups marked ``omit`` are the last
    resort, and not out of the question.
    """
    choice, policy = ruleset.choice, ruleset.policy
    if policy is None:
        return Ranking(candidates, rejected)
    if choice.among:
        inside = tuple(each for each in candidates if lies_in_any(choice.among, each.process.cgroup))
        outside = tuple(
            Rejection(each.process, "is not among those that the rule may choose from")
            for each in candidates
            if not lies_in_any(choice.among, each.process.cgroup)
        )
        candidates, rejected = inside, rejected + outside
    placed = _placed(candidates, snapshot)
    if choice.level == PROCESS:
        return Ranking(policy.rank(placed, snapshot), rejected)
    sets = _Sets(choice, policy, snapshot, placed, rejected, omit_last=omit_last)
    ranked = sets.of_sessions() if choice.level in (GROUP, SESSION) else sets.of_cgroups()
    singles = sets.not_omitted()
    if ranked or not singles:
        return Ranking(ranked, (*rejected, *sets.spared))
    return Ranking(
        policy.rank(singles, snapshot),
        (*rejected, *sets.spared),
        note=f"nothing may be taken at level {choice.level}, so one process is",
    )


def parts_of(target: Candidate) -> tuple[Candidate, ...]:
    """The candidate as single processes, each with what its own death gives back, largest first."""
    if not target.members:
        return (target,)
    total = sum(process.size_bytes for process in target.members)
    return tuple(
        Candidate(
            process=process,
            freeable_bytes=target.freeable_bytes * process.size_bytes // total if total else 0,
            measured=target.measured,
            preference=target.preference,
            score=target.score,
            part_of=f"{target.kind} {target.name}",
        )
        for process in target.members
    )


def late_members(
    target: Candidate, candidates: tuple[Candidate, ...], rejected: tuple[Rejection, ...]
) -> tuple[Candidate, ...]:
    """Those that belong to a set that was taken and were not there when it was; candidates already under way are not
    among them.
    """
    idle = tuple(
        Candidate(each.process, 0, "size", target.preference, 0) for each in rejected if each.why == NOTHING_OWNED
    )
    return tuple(
        replace(each, score=target.score, part_of=f"{target.kind} {target.name}")
        for each in (*candidates, *idle)
        if _belongs(target, each.process)
    )


def _belongs(target: Candidate, process: Process) -> bool:
    if target.kind == GROUP:
        return process.pgrp == int(target.name)
    if target.kind == SESSION:
        return process.session == int(target.name)
    if target.kind == CGROUP_ONLY:
        return process.cgroup == target.name
    return target.kind == CGROUP and target.cgroup is not None and target.cgroup.holds(process.cgroup)


def _placed(candidates: tuple[Candidate, ...], snapshot: Snapshot) -> tuple[Candidate, ...]:
    """The candidates with the cgroup that each lies in: the nearest one that was looked at."""
    if not snapshot.cgroups:
        return candidates
    known = {cgroup.path: cgroup for cgroup in snapshot.cgroups}
    placed = []
    for candidate in candidates:
        path = candidate.process.cgroup
        while path and path not in known:
            path = "" if path == "/" else path.rpartition("/")[0] or "/"
        placed.append(replace(candidate, cgroup=known.get(path)))
    return tuple(placed)


class _Sets:
    """Gathers processes into what dies as one."""

    def __init__(
        self,
        choice: Choice,
        policy: Policy,
        snapshot: Snapshot,
        candidates: tuple[Candidate, ...],
        rejected: tuple[Rejection, ...],
        *,
        omit_last: bool,
    ) -> None:
        self._choice = choice
        self._omit_last = omit_last
        self._policy = policy
        self._snapshot = snapshot
        self._candidates = candidates
        self._idle = [each.process for each in rejected if each.why == NOTHING_OWNED]
        """They own nothing, so their death alone would be in vain; with the others they go."""
        self._blockers = [
            each
            for each in rejected
            if each.why != NOTHING_OWNED
            and not each.process.is_dead
            and not each.process.is_dying
            and not each.process.is_kernel_thread
        ]
        self.spared: list[Rejection] = []
        self._omitted: list[Cgroup] = []

    def not_omitted(self) -> tuple[Candidate, ...]:
        """The candidates outside of the cgroups that were spared as a whole by their mark: it holds for whoever is in
        them, also where single processes must be taken.
        """
        spared = self._omitted
        return tuple(each for each in self._candidates if not any(one.holds(each.process.cgroup) for one in spared))

    def of_sessions(self) -> tuple[Candidate, ...]:
        """Every process group, or session, as one."""
        by_group = self._choice.level == GROUP

        def number(process: Process) -> int:
            return process.pgrp if by_group else process.session

        numbers = sorted({number(each.process) for each in self._candidates})
        blocked: dict[int, Rejection] = {}
        for each in self._blockers:
            blocked.setdefault(number(each.process), each)
        sets = []
        for one in numbers:
            members = [each for each in self._candidates if number(each.process) == one]
            idle = [process for process in self._idle if number(process) == one]
            made = self._as_one(self._choice.level, str(one), members, idle, blocked.get(one), None, _UNMARKED)
            sets += [made] if made is not None else []
        return self._policy.rank(tuple(sets), self._snapshot)

    def of_cgroups(self) -> tuple[Candidate, ...]:
        """The cgroups, or with ``process_in`` the processes in them, in the order of siblings, depth first. Processes
        in the root of the hierarchy stand beside the cgroups at the top.
        """
        if self._choice.leaves:
            return self._of_leaves()
        patterns = self._choice.among or ROOTS
        top = [cgroup for cgroup in self._snapshot.cgroups if matches_any(patterns, cgroup.path)]
        return self._descend(self._outermost(top), None if self._choice.among else Cgroup("/"))

    def _of_leaves(self) -> tuple[Candidate, ...]:
        """Those with none below, or taken whole by memory.oom.group, as one rank. What is chosen among is never taken
        whole by its own memory.oom.group, as with systemd-oomd.
        """
        patterns = self._choice.among
        inside = [cgroup for cgroup in self._snapshot.cgroups if matches_any(patterns, cgroup.path)]
        tops = {_base_of(pattern) for pattern in patterns}
        wholes = self._outermost([each for each in inside if each.oom_group and each.path not in tops])
        parents = {each.parent for each in self._snapshot.cgroups}
        leaves = [each for each in inside if each.path not in parents]
        found = (*wholes, *(each for each in leaves if not any(one.holds(each.path) for one in wholes)))
        nodes = [node for node in map(self._node, found) if node is not None]
        known = {each.path: each for each in inside}
        taken = [(node, self._take(known[node.name])) for node in self._policy.rank(tuple(nodes), self._snapshot)]
        return tuple(
            replace(whole, score=node.score, preference=node.preference) for node, whole in taken if whole is not None
        )

    def _outermost(self, cgroups: list[Cgroup]) -> list[Cgroup]:
        """Patterns may name a cgroup and one within it: the outer stands for both."""
        return [one for one in cgroups if not any(other is not one and other.holds(one.path) for other in cgroups)]

    def _descend(self, siblings: list[Cgroup], above: Cgroup | None) -> tuple[Candidate, ...]:
        """``above``: the cgroup that was gone down into; whoever is in it directly competes with those below as one
        more of them.
        """
        nodes = [node for node in map(self._node, siblings) if node is not None]
        only = None if above is None else self._only(above)
        found: list[Candidate] = []
        for node in self._policy.rank((*nodes, *([] if only is None else [only])), self._snapshot):
            if node.kind == CGROUP_ONLY:
                found += self._take_only(node)
                continue
            cgroup = next(each for each in siblings if each.path == node.name)
            children = [] if cgroup.oom_group or not self._choice.recursive else self._children(cgroup)
            if children:
                found += self._descend(children, cgroup)
            elif self._choice.level == PROCESS_IN:
                found += self._processes_in(cgroup)
            else:
                taken_whole = self._take(cgroup)
                if taken_whole is not None:
                    found.append(replace(taken_whole, score=node.score, preference=node.preference))
        return tuple(found)

    def _only(self, cgroup: Cgroup) -> Candidate | None:
        """Those directly in a cgroup that has others below, as something to be ranked among those. Figures of the
        cgroup count what lies below, so none is theirs.
        """
        members = self._directly_in(cgroup.path)
        bare = Cgroup(cgroup.path, cgroup.inode, cgroup.time_us, cgroup.owner_uid)
        return self._gathered(CGROUP_ONLY, cgroup.path, members, [], bare, _UNMARKED) if members else None

    def _take_only(self, node: Candidate) -> tuple[Candidate, ...]:
        """The same as victims: one, or with ``process_in`` each of them."""
        path, members = node.name, self._directly_in(node.name)
        if self._choice.level == PROCESS_IN:
            return self._policy.rank(tuple(members), self._snapshot)
        blocker = next((each for each in self._blockers if each.process.cgroup == path), None)
        idle = [process for process in self._idle if process.cgroup == path]
        taken = self._as_one(CGROUP_ONLY, path, members, idle, blocker, Cgroup(path), _UNMARKED)
        return () if taken is None else (replace(taken, score=node.score, preference=node.preference),)

    def _directly_in(self, path: str) -> list[Candidate]:
        return [each for each in self._candidates if each.process.cgroup == path]

    def _children(self, cgroup: Cgroup) -> list[Cgroup]:
        return [each for each in self._snapshot.cgroups if each.parent == cgroup.path]

    def _node(self, cgroup: Cgroup) -> Candidate | None:
        """The cgroup as something to be ranked among its siblings, be it taken whole or gone down into."""
        if not cgroup.populated:
            return None
        members = self._members(cgroup)
        mark = self._mark(cgroup)
        if mark[0] == OMIT and not self._omit_last:
            self._omitted.append(cgroup)
            if members:
                self.spared.append(
                    Rejection(members[0].process, "bears the mark oomd_omit", kind=CGROUP, name=cgroup.path)
                )
            return None
        if not members:
            return None
        return self._gathered(CGROUP, cgroup.path, members, [], cgroup, mark)

    def _take(self, cgroup: Cgroup) -> Candidate | None:
        """The cgroup as one victim, or None (and why) where a member may not be killed."""
        blocker = next((each for each in self._blockers if cgroup.holds(each.process.cgroup)), None)
        idle = [process for process in self._idle if cgroup.holds(process.cgroup)]
        return self._as_one(CGROUP, cgroup.path, self._members(cgroup), idle, blocker, cgroup, self._mark(cgroup))

    def _processes_in(self, cgroup: Cgroup) -> tuple[Candidate, ...]:
        return self._policy.rank(tuple(self._members(cgroup)), self._snapshot)

    def _members(self, cgroup: Cgroup) -> list[Candidate]:
        members = [each for each in self._candidates if cgroup.holds(each.process.cgroup)]
        return sorted(members, key=lambda each: (-each.process.size_bytes, each.process.id.pid))

    def _mark(self, cgroup: Cgroup) -> tuple[str, str]:
        return honoured_mark(cgroup.xattrs, cgroup.owner_uid, self._ancestor_uid(cgroup))

    def _ancestor_uid(self, cgroup: Cgroup) -> int:
        """Whoever owns the cgroup beneath which the choice was begun; root where that was not looked at."""
        patterns = self._choice.among or ROOTS
        if self._choice.leaves:
            above = next((_base_of(each) for each in patterns if matches_any((each,), cgroup.path)), "/")
            return next((each.owner_uid for each in self._snapshot.cgroups if each.path == above), 0)
        top = cgroup.path
        while not matches_any(patterns, top) and top != "/":
            top = top.rpartition("/")[0] or "/"
        above = top.rpartition("/")[0] or "/"
        return next((each.owner_uid for each in self._snapshot.cgroups if each.path == above), 0)

    def _as_one(
        self,
        kind: str,
        name: str,
        members: list[Candidate],
        idle: list[Process],
        blocker: Rejection | None,
        cgroup: Cgroup | None,
        mark: tuple[str, str],
    ) -> Candidate | None:
        if not members:
            return None
        why = ""
        if blocker is not None:
            process = blocker.process
            why = f"holds {process.comm} ({process.id.pid}), which {blocker.why}"
        elif len(members) + len(idle) > self._choice.most:
            why = (
                f"has {len(members) + len(idle)} processes, more than the {self._choice.most} that one action may take"
            )
        if why:
            self.spared.append(Rejection(members[0].process, why, kind=kind, name=name))
            return None
        return self._gathered(kind, name, members, idle, cgroup, mark)

    def _gathered(
        self,
        kind: str,
        name: str,
        members: list[Candidate],
        idle: list[Process],
        cgroup: Cgroup | None,
        mark: tuple[str, str],
    ) -> Candidate:
        members = sorted(members, key=lambda each: (-each.process.size_bytes, each.process.id.pid))
        preference, because = mark
        if preference == NORMAL:
            preference, because = _preference_of(members, marks_count=cgroup is None)
        # What is gone down into stands where the first of it would go; what is taken whole, where the last would.
        goes_down = self._choice.recursive or self._choice.level == PROCESS_IN
        standing = (min if goes_down else max)(each.standing for each in members)
        freeable = _freeable_bytes(members, cgroup)
        processes = (*(each.process for each in members), *idle)
        return Candidate(
            process=members[0].process,
            freeable_bytes=freeable,
            measured=members[0].measured,
            preference=preference,
            score=freeable,
            because=because,
            standing=standing,
            kind=kind,
            name=name,
            members=processes,
            cgroup=cgroup if cgroup is not None else members[0].cgroup,
        )


def _base_of(pattern: str) -> str:
    """The cgroup itself of ``/work.slice/**``."""
    return pattern.removesuffix("/**") or "/"


def _preference_of(members: list[Candidate], *, marks_count: bool) -> tuple[str, str]:
    """The strongest preference of any member, and why. Marks of cgroups within a cgroup are a matter among those."""
    told = {each.preference: each.because for each in members if marks_count or not is_mark(each.because)}
    return next(((kind, told[kind]) for kind in (OMIT, AVOID, PREFER) if kind in told), _UNMARKED)


def _freeable_bytes(members: list[Candidate], cgroup: Cgroup | None) -> int:
    """What the end of all of them gives back: of a cgroup what its memory.stat and swap say, which counts what they
    share once; else each one's own, and of what they share the largest part.
    """
    if cgroup is not None and cgroup.anon_bytes is not None:
        shmem = sum(each.process.own_shmem_bytes for each in members)
        return cgroup.anon_bytes + (cgroup.swap_bytes or 0) + shmem
    own = sum(each.freeable_bytes for each in members)
    return own + max(each.process.size_bytes - each.freeable_bytes for each in members)

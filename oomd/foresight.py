"""A kill without thinking: what the next look at memory may lead to is decided, and the victim proved, while nothing is
urgent. What is left for the moment itself is to confirm it, by five readings, and to signal.

The ordinary way follows in the same tick, and tells with all its reasons what was done. Where anything is not as it
was foreseen, nothing is done here, and the ordinary way decides.
"""

from __future__ import annotations

import os

from oomd.engine.reflex import due, foresee
from oomd.kill.warrant import Refused
from oomd.model.decision import KILL
from oomd.model.values import dataclass, replace
from oomd.overtaking import FRESH_SHARE, Overtaking, slack_bytes
from oomd.parts import clock_us
from oomd.policies.freeable import NEAR

TYPE_CHECKING = False
if TYPE_CHECKING:
    from oomd.engine.reflex import Reflex
    from oomd.kill.executor import Aim
    from oomd.model.decision import Candidate, Decision, Warrant
    from oomd.model.ruleset import EngineState, Rules
    from oomd.model.snapshot import MemoryStatus, Snapshot
    from oomd.monitor.rows import Row
    from oomd.monitor.sampler import Sampler
    from oomd.overtaking import Overtaker, Reading
    from oomd.parts import Parts
    from oomd.search import Search

HOPELESS = 2
"""Where others may own so many times as much as the victim, it was overtaken."""


@dataclass(slots=True)
class Foreseen:
    """What is to be done now."""

    aim: Aim
    read_us: int
    """When memory was read, and when it was decided (CLOCK_MONOTONIC, microseconds)."""
    decided_us: int
    decision: Decision
    snapshot: Snapshot
    """As it was foreseen."""
    row: Row
    """The victim's, as it was confirmed."""
    overtaker: Overtaker | None = None
    """Where it is not who was foreseen."""


@dataclass(frozen=True, slots=True)
class Struck:
    """What was done."""

    decision: Decision
    warrant: Warrant
    snapshot: Snapshot
    """What it was decided on, the victim as it was confirmed."""
    decided_us: int


class Foresight:
    """Holds the decisions made in advance, and a warrant for their victim."""

    def __init__(self, parts: Parts, search: Search) -> None:
        self._parts = parts
        self._search = search
        self._reflexes: tuple[Reflex, ...] = ()
        self._snapshot: Snapshot | None = None
        self._overtaking = Overtaking(parts.table, search)
        self._state: EngineState | None = None
        self._aim: Aim | None = None
        """At the victim, with its warrant."""
        self._overtaken: list[Aim] = []
        """At whoever was overtaken, to be let go when there is time."""
        self._looked_us = 0
        self._reading: Reading | None = None
        """Of the leaders' sizes, for the confirmation."""

    def prepare(self, rules: Rules, status: MemoryStatus, state: EngineState) -> None:
        """Decide in advance, on the leaders as they were last looked at, unless that was done already."""
        self._let_go()
        looked_us = self._parts.table.looked_us
        if looked_us == self._looked_us and self._stands(state):
            self._state = state
            return
        self._reflexes, self._looked_us = (), looked_us
        if self._parts.executor.dry_run or state.credits:
            return
        self._snapshot = self._parts.table.snapshot(status, status.time_us)
        self._state = state
        reflexes = foresee(rules, self._snapshot, state)
        victims = {reflex.decision.target.process.id for reflex in reflexes if reflex.decision.target is not None}
        if len(victims) != 1 or not self._search.is_proved(reflexes[0].decision, rules):
            return  # nobody, or one for each ruleset: rare enough
        row = self._parts.table.rows.get(victims.pop().pid)
        if row is None or self._search.awaits(reflexes[0].decision) or self._search.sharers(row.value(status.time_us)):
            return  # what is measured may change the choice; who shares its memory map must go with it
        if self._hold_warrant(reflexes[0].decision.target):
            self._search.keep_marks(row)
            self._overtaking.prepare(rules, self._snapshot, [reflex.decision for reflex in reflexes])
            self._reflexes = reflexes

    @property
    def is_armed(self) -> bool:
        """Whether the next look at memory may be somebody's last."""
        return bool(self._reflexes)

    def take_aim(self, sampler: Sampler, state: EngineState) -> Foreseen | None:
        """At the victim, if its level is crossed and everything is as it was foreseen; whoever calls has it signalled.
        What changed ``state`` since (a pause, a kill by other hands) was not. Only the levels are looked at for that,
        and the rest of what was read by whoever goes on.
        """
        self._search.note_sought(0)
        if not self._reflexes or self._snapshot is None or state is not self._state:
            return None
        levels = sampler.read_brief(clock_us())
        read_us = clock_us()
        self._overtaking.swapped = levels.swap_free_bytes < levels.swap_total_bytes
        decision = due(self._reflexes, levels, state, self._snapshot)
        if decision is None or decision.target is None or self._aim is None:
            return None
        row, overtaker = self._confirmed(decision), None
        if row is None:
            overtaker = self._find_overtaker(decision, state)
        if overtaker is not None:
            decision, row = overtaker.decision, overtaker.row
        if decision.target is None or row is None or self._aim is None:
            self._reflexes = ()
            return None
        decided_us = clock_us()
        aim, self._aim, self._reflexes = self._aim, None, ()
        aim.action = decision.action
        if decision.action == KILL:
            self._search.condemn(decision.target.process.id)  # before the signal: a reader of its maps holds its memory
        return Foreseen(aim, read_us, decided_us, decision, self._snapshot, row, overtaker)

    def struck(self, foreseen: Foreseen, status: MemoryStatus, state: EngineState) -> Struck:
        """All that is to be told of it; there was no time for that before the signal."""
        self._let_go()
        decision, snapshot = foreseen.decision, foreseen.snapshot
        if foreseen.overtaker is not None:
            overtaker = self._overtaking.in_full(foreseen.overtaker, state)
            decision, snapshot = overtaker.decision, overtaker.snapshot
        process, target = foreseen.row.value(status.time_us), decision.target
        assert target is not None
        others = tuple(each for each in snapshot.processes if each.id != process.id)
        seen = replace(snapshot, status=status, processes=(process, *others))
        decision = replace(decision, target=replace(target, process=process))
        return Struck(decision, foreseen.aim.warrant, seen, foreseen.decided_us)

    def _find_overtaker(self, decision: Decision, state: EngineState) -> Overtaker | None:
        """Somebody has overtaken the victim, or it is another one now: who is to be signalled in its place, under
        warrant; None where the ordinary way must tell.
        """
        assert self._snapshot is not None
        before = self._parts.table.scans
        found = self._overtaking.find(decision, self._snapshot, state, self._reading)
        self._search.note_sought(self._parts.table.scans - before)
        if found is None:
            return None
        if self._aim is not None and self._aim.warrant.id != found.row.id:
            self._overtaken.append(self._aim)
            self._aim = None
        return found if self._hold_warrant(found.decision.target) else None

    def rehearse(self, rules: Rules, status: MemoryStatus, state: EngineState) -> None:
        """Go through the motions at the beginning: whoever would be chosen is confirmed, and nothing is done."""
        self.prepare(rules, status, state)
        for reflex in self._reflexes:
            snapshot = self._parts.table.snapshot(status, status.time_us)
            due((reflex,), status, state, snapshot)
            if reflex.decision.target is not None:
                self._confirmed(reflex.decision)
                self._overtaking.rehearse(reflex.decision, self._snapshot or snapshot, state)
        self.drop()

    def drop(self) -> None:
        """Foresee nothing: rules have changed, or memory is not short."""
        self._reflexes = ()
        self._release()

    def _stands(self, state: EngineState) -> bool:
        """Whether what was decided would be decided again, as far as the engine's memory goes."""
        known = self._state
        if known is None or not self._reflexes or state.credits:
            return False
        return (known.rulesets, known.refusals) == (state.rulesets, state.refusals)

    def _confirmed(self, decision: Decision) -> Row | None:
        """The victim's row, read again, if it is still who it was and nobody can have overtaken it."""
        target = decision.target
        assert target is not None
        table, chosen = self._parts.table, target.process
        self._reading = None
        newcomers = table.find_newcomers(urgent=True)
        if newcomers is None or any(row.size_bytes * FRESH_SHARE > target.score for row in newcomers):
            return None
        row = table.rows.get(chosen.id.pid)
        if row is None or row.start_ticks != chosen.id.start_ticks or not row.is_kept:
            return None
        # Of the victim the size comes first, and the kernel's counters after it: where it was overtaken nothing else
        # matters of it.
        if not table.reread(row, size_only=not self._overtaking.swapped):
            return None
        rest = table.rest_bound_bytes()
        if rest > HOPELESS * target.score and table.bound.since_look_bytes() > slack_bytes(table, target):
            self._reading = self._overtaking.read_sizes(decision)
            return None
        if not table.verify(row):
            return None
        slack = slack_bytes(table, target)
        same = (row.comm, row.uid) == (chosen.comm, chosen.uid) and not row.kill_pending and row.state not in "ZX"
        shrunk = chosen.rss_anon_bytes + chosen.swap_bytes - row.size_bytes > slack
        shrunk = shrunk or chosen.rss_shmem_bytes - row.shmem_bytes > slack
        if not same or shrunk or self._search.kept_marks_changed():
            return None
        if table.bound.since_look_bytes() <= slack and rest * NEAR <= target.score:
            return row
        return row if self._others_stand(decision, slack) else None

    def _others_stand(self, decision: Decision, slack: int) -> bool:
        """Much was allocated since the look: whether none of it by those who lead besides the victim, whose sizes are
        read again, and the others are still too small.
        """
        table, target = self._parts.table, decision.target
        assert target is not None
        assert self._snapshot is not None
        self._reading = reading = self._overtaking.read_sizes(decision)
        if reading.grown_bytes > slack or table.rest_bound_bytes() * NEAR > target.score:
            return False
        return reading.is_enough(table, target)

    def _hold_warrant(self, target: Candidate | None) -> bool:
        """One for this victim, kept as long as it stays the same one."""
        assert target is not None
        held, process = self._aim, target.process
        if held is not None and (held.warrant.id, held.process.cgroup) == (process.id, process.cgroup):
            held.process = process
            return True
        if held is not None:
            self._release()
        try:
            warrant = self._parts.executor.grant(target.process, self._search.stat_fd(target.process.id))
        except Refused:
            return False
        self._aim = self._parts.executor.arm(warrant, target.process)
        return True

    def _release(self) -> None:
        if self._aim is not None:
            self._overtaken.append(self._aim)
            self._aim = None
        self._let_go()

    def _let_go(self) -> None:
        for aim in self._overtaken:
            if aim.motion is not None:
                self._parts.executor.disarm(aim.motion)
            os.close(aim.warrant.pidfd)
        self._overtaken.clear()

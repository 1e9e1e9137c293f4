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
from oomd.parts import clock_us
from oomd.policies.freeable import NEAR

TYPE_CHECKING = False
if TYPE_CHECKING:
    from oomd.engine.reflex import Reflex
    from oomd.model.decision import Candidate, Decision, Warrant
    from oomd.model.ruleset import EngineState, Rules
    from oomd.model.snapshot import MemoryStatus, Snapshot
    from oomd.monitor.rows import Row
    from oomd.parts import Parts
    from oomd.reap.motion import Motion
    from oomd.search import Search

FRESH_SHARE = 64
"""Nobody else may have grown by more than one part in so many of the victim's size since the choice was made."""


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
        self._state: EngineState | None = None
        self._warrant: Warrant | None = None
        self._motion: Motion | None = None
        """Its signal, made ready."""
        self._looked_us = 0

    def prepare(self, rules: Rules, status: MemoryStatus, state: EngineState) -> None:
        """Decide in advance, on the leaders as they were last looked at, unless that was done already."""
        self._parts.executor.come_near()
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
            self._reflexes = reflexes

    def strike(self, status: MemoryStatus, state: EngineState) -> Struck | None:
        """Signal the victim, if its level is crossed and everything is as it was foreseen. What changed ``state`` since
        (a pause, a kill by other hands) was not.
        """
        if not self._reflexes or self._snapshot is None or state is not self._state:
            return None
        decision = due(self._reflexes, status, state, self._snapshot)
        if decision is None or decision.target is None or self._warrant is None:
            return None
        row = self._confirmed(decision.target)
        if row is None:
            self._reflexes = ()
            return None
        decided_us = clock_us()
        process_id = decision.target.process.id
        warrant, self._warrant, self._reflexes = self._warrant, None, ()
        motion, self._motion = self._motion, None
        if decision.action == KILL:
            self._search.condemn(process_id)  # before the signal: a reader of its maps would hold its memory
        self._parts.executor.strike(warrant, decision.target.process, decision.action, motion)
        process = row.value(status.time_us)
        others = tuple(each for each in self._snapshot.processes if each.id != process_id)
        seen = replace(self._snapshot, status=status, processes=(process, *others))
        target = replace(decision.target, process=process)
        return Struck(replace(decision, target=target), warrant, seen, decided_us)

    def rehearse(self, rules: Rules, status: MemoryStatus, state: EngineState) -> None:
        """Go through the motions before READY: whoever would be chosen is confirmed, and nothing is done."""
        self.prepare(rules, status, state)
        for reflex in self._reflexes:
            due((reflex,), status, state, self._parts.table.snapshot(status, status.time_us))
            if reflex.decision.target is not None:
                self._confirmed(reflex.decision.target)
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

    def _confirmed(self, target: Candidate) -> Row | None:
        """The victim's row, read again, if it is still who it was and nobody can have overtaken it."""
        table, chosen = self._parts.table, target.process
        newcomers = table.find_newcomers()
        if newcomers is None or any(row.size_bytes * FRESH_SHARE > target.score for row in newcomers):
            return None
        row = table.rows.get(chosen.id.pid)
        if row is None or row.start_ticks != chosen.id.start_ticks or not row.is_kept or not table.reread(row):
            return None
        slack = max(table.bound.slack_bytes, target.score // FRESH_SHARE)
        same = (row.comm, row.uid) == (chosen.comm, chosen.uid) and not row.kill_pending and row.state not in "ZX"
        shrunk = chosen.rss_anon_bytes + chosen.swap_bytes - row.size_bytes > slack
        shrunk = shrunk or chosen.rss_shmem_bytes - row.shmem_bytes > slack
        if not same or shrunk or self._search.kept_marks_changed():
            return None
        rest = table.rest_bound_bytes()
        if table.bound.since_look_bytes() <= slack and rest * NEAR <= target.score:
            return row
        return row if self._others_stand(row, target, slack) else None

    def _others_stand(self, victim: Row, target: Candidate, slack: int) -> bool:
        """Much was allocated since the look: whether none of it by those who lead besides the victim, whose sizes are
        read again, and the others are still too small.
        """
        table, grown = self._parts.table, 0
        for row in [row for row in table.leaders if row is not victim]:
            before = row.size_bytes
            if not table.reread(row, size_only=True):
                return False
            grown += max(0, row.size_bytes - before)
            if grown > slack:
                return False
        return table.rest_bound_bytes() * NEAR <= target.score

    def _hold_warrant(self, target: Candidate | None) -> bool:
        """One for this victim, kept as long as it stays the same one."""
        assert target is not None
        if self._warrant is not None and self._warrant.id == target.process.id:
            return True
        self._release()
        try:
            self._warrant = self._parts.executor.grant(target.process, self._search.stat_fd(target.process.id))
        except Refused:
            return False
        self._motion = self._parts.executor.arm(self._warrant)
        return True

    def _release(self) -> None:
        if self._motion is not None:
            self._parts.executor.disarm(self._motion)
            self._motion = None
        if self._warrant is not None:
            os.close(self._warrant.pidfd)
            self._warrant = None

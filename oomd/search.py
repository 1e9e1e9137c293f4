"""Whom to choose: as few processes read as the choice needs, and what only preferences ask for.

The half of the loop that looks at processes; it signals nobody.
"""

from __future__ import annotations

from oomd.engine.eligibility import leaning_of, sift
from oomd.engine.levels import late_members
from oomd.engine.selection import is_proved, select, wanted_cgroups, wants_everybody
from oomd.model.decision import KILL, NO_ACTION, TERM, Candidate, Decision, Detection
from oomd.model.units import SECOND_US
from oomd.model.values import replace
from oomd.monitor.sharers import find_sharers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from oomd.model.ruleset import EngineState, Rules
    from oomd.model.snapshot import MemoryStatus, Process, ProcessId, Snapshot
    from oomd.monitor.facts import FactsReader
    from oomd.monitor.process_table import ProcessTable
    from oomd.monitor.rows import Row
    from oomd.monitor.sharing import SharingMeter
    from oomd.monitor.watch import CgroupWatch

PATIENCE_US = {TERM: 1 * SECOND_US, KILL: 300_000}
"""How long a decision waits for the first measurement of a process whose memory may be mostly its relatives', or for
the first reading of what may protect it."""


class Search:
    """Looks at processes and cgroups, and asks the engine."""

    def __init__(
        self,
        table: ProcessTable,
        sharing: SharingMeter,
        facts: FactsReader | None,
        cgroups: CgroupWatch | None,
        clock_us: Callable[[], int],
    ) -> None:
        self._table = table
        self._sharing = sharing
        self._facts = facts
        self._cgroups = cgroups
        self._clock_us = clock_us
        self._waiting_since_us: int | None = None
        self.seen: Snapshot | None = None
        """What the last choice was made of."""

    def collect(self, now_us: int, *, ask: bool) -> None:
        """Take what the background threads have read, and the marks of the leaders' cgroups; with ``ask`` have the
        leaders read that were not.
        """
        self._sharing.collect(self._table.rows)
        if self._facts is not None:
            self._facts.collect(self._table.rows)
            if ask:
                self._facts.ask(self._table.leaders)
                self._facts.note_marks(self._table.leaders, now_us)

    def look(self, status: MemoryStatus) -> None:
        """Bring the sizes of processes up to date."""
        now = self._clock_us()
        if self._table.wants_scan(now):
            self._table.scan(status, self._clock_us)
        else:
            self._table.look(status, self._clock_us)
        self.collect(now, ask=False)

    def sharers(self, victim: Process) -> tuple[Process, ...]:
        """Other processes with the victim's very memory map: its death alone would give nothing back."""
        row = self._table.rows.get(victim.id.pid)
        if row is None or row.start_ticks != victim.id.start_ticks:
            return ()
        now = self._clock_us()
        return tuple(each.value(now) for each in find_sharers(row, self._table.leaders))

    def select(
        self, rules: Rules, state: EngineState, detections: tuple[Detection, ...], status: MemoryStatus
    ) -> Decision:
        """Whom these detections ask for. A mark that was set a moment ago counts: those of whoever would die are
        compared with what is there now, and the choice is made again, on fresh marks, where one has changed.
        """
        decision = self._select(rules, state, detections, status)
        if self._facts is None or decision.target is None or decision.action not in (TERM, KILL):
            return decision
        pids = (process.id.pid for process in decision.target.processes)
        if self._facts.marks_changed(self._table.rows[pid] for pid in pids if pid in self._table.rows):
            return self._select(rules, state, detections, status)
        return decision

    def _select(
        self, rules: Rules, state: EngineState, detections: tuple[Detection, ...], status: MemoryStatus
    ) -> Decision:
        """The leaders' choice where the growth bound proves that nobody else could be chosen, else everybody's."""
        table = self._table

        def choose(snapshot: Snapshot) -> Decision:
            return self._choose(rules, snapshot, detections, state)

        table.look(status, self._clock_us)
        self.collect(status.time_us, ask=True)
        if wants_everybody(rules, detections):
            return choose(self._everybody(status))
        decision = choose(table.snapshot(status, self._clock_us()))
        if decision.action == NO_ACTION or self.is_proved(decision, rules):
            return decision
        table.scan(status, self._clock_us)
        self.collect(status.time_us, ask=True)
        decision = choose(table.snapshot(status, self._clock_us()))
        return decision if self.is_proved(decision, rules) else choose(self._everybody(status))

    def is_proved(self, decision: Decision, rules: Rules) -> bool:
        """Whether the growth bound proves that a full scan would give no better answer."""
        rest = self._table.rest_bound_bytes()
        return is_proved(decision, rules, rest, self._table.unexamined_bound_bytes(), self._table.last_pids)

    def late(self, rules: Rules, decision: Decision, state: EngineState) -> tuple[Candidate, ...]:
        """Who joined the set that was taken since it was."""
        self._table.look(decision.status, self._clock_us)
        self._table.read_everybody()
        everybody = self._table.snapshot(decision.status, self._clock_us(), everybody=True)
        candidates, rejected = sift(everybody, rules.preferences, state)
        under_way = {credit.process.id for credit in state.credits}
        assert decision.target is not None
        late = late_members(decision.target, candidates, rejected)
        return tuple(each for each in late if each.process.id not in under_way)

    def condemn(self, process_id: ProcessId) -> None:
        """From now on no background thread looks at this process."""
        self._sharing.condemn(process_id)
        if self._facts is not None:
            self._facts.condemn(process_id)

    def stat_fd(self, victim: ProcessId) -> int:
        """The kept descriptor of its stat file, or -1."""
        row = self._table.rows.get(victim.pid)
        return row.stat_fd if row is not None and row.start_ticks == victim.start_ticks else -1

    def judge_by(self, rules: Rules) -> None:
        """Have those lead who may be taken by these preferences."""

        def judge(row: Row) -> str:
            now = self._clock_us()
            if self._facts is not None:
                self._facts.note_marks((row,), now)
            return leaning_of(row.value(now), rules.preferences, self._table.own_uid)

        self._table.judge = judge

    def awaits(self) -> bool:
        """Whether a foremost leader is being measured, or read, for the first time."""
        leaders = self._table.leaders
        return self._sharing.awaits(leaders) or (self._facts is not None and self._facts.awaits(leaders))

    def keep_marks(self, row: Row) -> None:
        """Be ready to tell at once whether this one's marks have changed."""
        if self._facts is not None:
            self._facts.keep_marks(row)

    def kept_marks_changed(self) -> bool:
        """Whether they have."""
        return self._facts is not None and self._facts.kept_marks_changed()

    def must_wait(self, decision: Decision) -> bool:
        """Wait a little for the first measurement of leaders that may share their memory, or be protected by what was
        not read yet; shorter than a wrong kill lasts.
        """
        now = decision.status.time_us
        self._sharing.ask(self._table.leaders, now)
        if not self.awaits():
            self._waiting_since_us = None
            return False
        if self._waiting_since_us is None:
            self._waiting_since_us = now
        return now - self._waiting_since_us < PATIENCE_US[decision.action]

    def _everybody(self, status: MemoryStatus) -> Snapshot:
        self._table.read_everybody()
        if self._facts is not None:
            self._facts.note_marks(self._table.rows.values(), status.time_us)  # now that everybody's cgroup was read
        return self._table.snapshot(status, self._clock_us(), everybody=True)

    def _choose(
        self, rules: Rules, snapshot: Snapshot, detections: tuple[Detection, ...], state: EngineState
    ) -> Decision:
        wants = wanted_cgroups(rules, detections)
        if self._cgroups is not None and wants.cgroups:
            snapshot = replace(snapshot, cgroups=self._cgroups.choice(wants, self._clock_us()))
        self.seen = snapshot
        return select(rules, snapshot, detections, state)

"""Whom to choose: as few processes read as the choice needs, and what only preferences ask for.

The half of the loop that looks at processes; it signals nobody.
"""

from __future__ import annotations

from oomd.engine.eligibility import leaning_of, sift
from oomd.engine.levels import late_members
from oomd.engine.marks import NORMAL, PREFER
from oomd.engine.nobody import is_nobody, nobody_of
from oomd.engine.preferences import UNREAD
from oomd.engine.selection import (
    WORTH_WAITING_BYTES,
    is_proved,
    most_of,
    select,
    wanted_cgroups,
    wants_everybody,
    wants_stat_anew,
)
from oomd.model.decision import KILL, NO_ACTION, TERM, Candidate, Decision, Detection
from oomd.model.ruleset import CGROUP
from oomd.model.units import SECOND_US
from oomd.model.values import replace
from oomd.monitor.sharers import find_sharers
from oomd.policies.freeable import NEAR

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from oomd.engine.nobody import Nobody
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
LEADING = 16
"""Leaders whose command lines are read ahead; and so many of those who come last only because theirs were not."""
FINALISTS = 4
"""Whose touches are watched where a rule asks for that."""


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
        self._watching = False
        self.seen: Snapshot | None = None
        """What the last choice was made of."""
        self.scans = 0
        """How often everybody was read, or sought through, for the choices of this look at memory."""
        self._chosen_us, self._sought = -1, 0
        self._nobody: Nobody | None = None

    def collect(self, now_us: int, *, ask: bool) -> None:
        """Take what the background threads have read, and the marks of the leaders' cgroups; with ``ask`` have the
        leaders read that were not.
        """
        self._sharing.collect(self._table.rows)
        if self._facts is not None:
            self._facts.collect(self._table.rows)
            if ask:
                self._facts.ask(self._table.leaders[:LEADING])
                self._facts.note_marks(self._table.leaders, now_us)

    @property
    def is_busy(self) -> bool:
        """Whether a background thread reads something for the first time."""
        return self._sharing.is_busy or (self._facts is not None and self._facts.is_busy)

    def has_news(self, now_us: int) -> bool:
        """Whether somebody new is large, or a scan is wanted: then there is more to be done than a glance."""
        return self._table.wants_scan(now_us) or self._table.find_newcomers() != []

    def want(self, *, touches: bool) -> bool:
        """Whether the touches of the foremost are watched from now on. True when they were not before."""
        begins = touches and not self._watching
        self._watching = touches
        return begins

    def measure(self, rules: Rules, state: EngineState, status: MemoryStatus, *, calm: bool) -> None:
        """Have the leaders measured, ahead of need; ``calm``: memory does not fall."""
        self._table.note_sizes()
        watched = self._finalists(rules, state, status) if self._watching else frozenset()
        self._sharing.ask(self._table.leaders, status.time_us, watched, self._table.rows.values(), calm=calm)

    def _finalists(self, rules: Rules, state: EngineState, status: MemoryStatus) -> frozenset[ProcessId]:
        """The largest leaders that may well be taken: whoever owns more can be the colder one."""
        candidates, _ = sift(self._table.snapshot(status, status.time_us), rules.preferences, state)
        able = [each for each in candidates if each.preference in (NORMAL, PREFER)]
        able.sort(key=lambda each: -each.freeable_bytes)
        return frozenset(each.process.id for each in able[:FINALISTS])

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
        self,
        rules: Rules,
        state: EngineState,
        detections: tuple[Detection, ...],
        status: MemoryStatus,
        *,
        known: bool = False,
    ) -> Decision:
        """Whom these detections ask for. A mark that was set a moment ago counts: those of whoever would die are
        compared with what is there now, and the choice is made again, on fresh marks, where one has changed.
        ``known``: where nobody was worth a signal among all processes a moment ago, and nothing else has come up since,
        the largest are enough to say that it is still so.
        """
        if status.time_us != self._chosen_us:
            self.scans, self._sought, self._chosen_us = self._sought, 0, status.time_us
        if not known:
            self._nobody = None
        before = self._table.scans
        decision = self._select(rules, state, detections, status)
        if self._marks_changed(decision):
            decision = self._select(rules, state, detections, status)
        self.scans += self._table.scans - before
        if not is_nobody(decision):
            self._nobody = None
        elif self._nobody is None:
            self._nobody = nobody_of(decision, state, self._clock_us() - status.time_us)
        return decision

    def note_sought(self, scans: int) -> None:
        """Before anything is chosen at this look at memory everybody was read, or sought through, so often."""
        self.scans = self._sought = scans

    def _marks_changed(self, decision: Decision) -> bool:
        """Whether those of anybody who would be signalled are others now."""
        if self._facts is None or decision.target is None or decision.action not in (TERM, KILL):
            return False
        pids = (process.id.pid for process in decision.target.processes)
        return self._facts.marks_changed(self._table.rows[pid] for pid in pids if pid in self._table.rows)

    def _select(
        self, rules: Rules, state: EngineState, detections: tuple[Detection, ...], status: MemoryStatus
    ) -> Decision:
        """The leaders' choice where the growth bound proves that nobody else could be chosen, else everybody's."""
        table = self._table

        def choose(snapshot: Snapshot) -> Decision:
            return self._choose(rules, snapshot, detections, state)

        if wants_everybody(rules, detections):
            (table.scan if wants_stat_anew(rules, detections) else table.look)(status, self._clock_us)
            self.collect(status.time_us, ask=True)
            decision = choose(self._everybody(status))
            return choose(self._everybody(status)) if self._moved(decision) else decision
        table.look(status, self._clock_us, sizes_only=True, but_from=WORTH_WAITING_BYTES)
        if not table.leaders or table.rest_seen_bytes() * NEAR > table.leaders[0].size_bytes:
            table.seek(status, self._clock_us)  # whoever is chosen among these, nothing would be proved
        self.collect(status.time_us, ask=True)
        decision = choose(table.snapshot(status, self._clock_us()))
        if self._nobody is not None and self._nobody.explains(decision, state):
            return decision
        self._nobody = None
        if decision.action != NO_ACTION and self._has_changed(self._least_that_counts(decision, rules)):
            decision = choose(table.snapshot(status, self._clock_us()))
        if decision.action == NO_ACTION or self.is_proved(decision, rules):
            return decision
        table.scan(status, self._clock_us)
        self.collect(status.time_us, ask=True)
        decision = choose(table.snapshot(status, self._clock_us()))
        return decision if self.is_proved(decision, rules) else choose(self._everybody(status))

    def _has_changed(self, least_bytes: int) -> bool:
        """Whether anything has changed of those leaders who own so much and of whom only that was looked at."""
        changed = False
        for row in [row for row in self._table.sized if row.size_bytes >= least_bytes]:
            before = row.what_it_is
            changed = not self._table.reread(row) or row.what_it_is != before or changed
        return changed

    def _least_that_counts(self, decision: Decision, rules: Rules) -> int:
        """Whoever owns less than this is not chosen in the place of the target, whatever he is called by now, and not
        waited for if he is dying.
        """
        target = decision.target
        if target is None:
            return 0
        least = min(WORTH_WAITING_BYTES, target.score)
        names = rules.preferences.prefer
        if names.patterns or names.matches or target.preference not in (NORMAL, PREFER) or target.standing:
            least = 0  # somebody small may go first
        return least

    def is_proved(self, decision: Decision, rules: Rules, *, measured: bool = False) -> bool:
        """Whether the growth bound proves that a full scan would give no better answer; ``measured``: by what the
        kernel's counters said when they were read last, since when nobody was looked at.
        """
        rest = self._table.rest_seen_bytes() if measured else self._table.rest_bound_bytes()
        return is_proved(decision, rules, rest, self._table.unexamined_bound_bytes(), self._table.last_pids)

    def late(self, rules: Rules, decision: Decision, state: EngineState) -> tuple[Candidate, ...]:
        """Who joined the set that was taken since it was, as far as the rule lets one action take so many; who is left
        is a matter of the next alarm.
        """
        self._table.look(decision.status, self._clock_us)
        self._table.read_everybody()
        everybody = self._table.snapshot(decision.status, self._clock_us(), everybody=True)
        candidates, rejected = sift(everybody, rules.preferences, state)
        under_way = {credit.process.id for credit in state.credits}
        target = decision.target
        assert target is not None
        late = late_members(target, candidates, rejected)
        members = {process.id for process in target.processes}
        part_of = f"{target.kind} {target.name}"
        joined = sum(each.part_of == part_of and each.process.id not in members for each in state.credits)
        room = max(0, most_of(rules, decision) - len(members) - joined)
        return tuple(each for each in late if each.process.id not in under_way)[:room]

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
        self._nobody = None

        def judge(row: Row) -> str:
            now = self._clock_us()
            if self._facts is not None:
                self._facts.note_marks((row,), now)
            return leaning_of(row.value(now), rules.preferences, self._table.own_uid)

        self._table.judge = judge
        names = rules.preferences.prefer
        self._table.prefers = bool(names.patterns or names.matches)

    def awaits(self, decision: Decision) -> bool:
        """Whether something is being measured, or read, for the first time that this decision hangs on."""
        awaited = self._awaits_facts(decision)
        return awaited or self._sharing.awaits(self._table.leaders)

    def meet(self, rows: Iterable[Row]) -> None:
        """Have the marks of these."""
        if self._facts is not None:
            self._facts.note_marks(rows, self._clock_us())

    def is_settled(self, decision: Decision) -> bool:
        """Whether nothing else is to be known before this one, chosen a moment ago, is signalled: no mark of its cgroup
        has changed, nobody shares its memory map, and nothing that it hangs on is being measured, or read, or should be
        for the first time.
        """
        target = decision.target
        row = None if target is None else self._table.rows.get(target.process.id.pid)
        if row is None or self._marks_changed(decision) or find_sharers(row, self._table.leaders):
            return False
        return not self._sharing.wants_first(self._table.leaders) and not self.awaits(decision)

    def keep_marks(self, row: Row) -> None:
        """Be ready to tell at once whether this one's marks have changed."""
        if self._facts is not None:
            self._facts.keep_marks(row)

    def kept_marks_changed(self) -> bool:
        """Whether they have."""
        return self._facts is not None and self._facts.kept_marks_changed()

    def must_wait(self, decision: Decision) -> bool:
        """Wait a little for the first measurement of leaders that may share their memory, or for what may protect
        somebody and was not read yet; shorter than a wrong kill lasts.
        """
        now = decision.status.time_us
        self._sharing.ask(self._table.leaders, now, rows=self._table.rows.values())
        if not self.awaits(decision):
            self._waiting_since_us = None
            return False
        if self._waiting_since_us is None:
            self._waiting_since_us = now
        return now - self._waiting_since_us < PATIENCE_US[decision.action]

    def stop_waiting(self) -> None:
        """The one that waited was asked for, and has its answer: an alarm that comes later has its own patience."""
        self._waiting_since_us = None

    def _awaits_facts(self, decision: Decision) -> bool:
        """Whether that is being read of the leaders, of anybody who would die, or of those who come last only because
        it is not known: they may be in their place, and may as well be the next.
        """
        if self._facts is None or not self._facts.wanted:
            return False
        last = [each for each in decision.ranking if each.because == UNREAD.because][:LEADING]
        chosen = (*(() if decision.target is None else (decision.target,)), *last)
        rows = [self._table.rows.get(process.id.pid) for each in chosen for process in each.processes]
        concerned = [*self._table.leaders[:LEADING], *(row for row in rows if row is not None)]
        self._facts.ask(concerned)
        return self._facts.awaits(concerned)

    def _everybody(self, status: MemoryStatus) -> Snapshot:
        self._table.read_everybody()
        if self._facts is not None:
            self._facts.note_marks(self._table.rows.values(), status.time_us)  # now that everybody's cgroup was read
        return self._table.snapshot(status, self._clock_us(), everybody=True)

    def _moved(self, decision: Decision) -> bool:
        """Whether somebody was moved into the cgroup that would die, or out of it, since its path was read: service
        managers fork first and move then.
        """
        target = decision.target
        if target is None or target.kind != CGROUP or self._cgroups is None or self._cgroups.reader is None:
            return False
        members = self._cgroups.reader.members(target.name)
        known = {process.id.pid for process in target.processes}
        return members is not None and self._table.note_cgroups((members ^ known) - self._table.own_pids)

    def _choose(
        self, rules: Rules, snapshot: Snapshot, detections: tuple[Detection, ...], state: EngineState
    ) -> Decision:
        wants = wanted_cgroups(rules, detections)
        if self._cgroups is not None and wants.cgroups:
            snapshot = replace(snapshot, cgroups=self._cgroups.choice(wants, self._clock_us()))
        self.seen = snapshot
        return select(rules, snapshot, detections, state)

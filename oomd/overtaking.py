"""The foreseen victim was overtaken: whoever leapt past it is found, and proved, by a few readings more.

What the ordinary way would do, in the same order and with the same proof, less what only the report needs: of the
leaders only sizes are read, and no further than until it is known whose the growth was; only those are judged anew who
have changed. Who the others are is as old as it may be of a decision made in advance (oomd.foresight), but of whoever
is chosen in the end all is read again.
"""

from __future__ import annotations

from oomd.engine.eligibility import freeable_bytes, sift
from oomd.engine.marks import NORMAL, PREFER
from oomd.engine.preferences import pod_usage
from oomd.engine.reflex import decided_anew
from oomd.model.ruleset import Rules
from oomd.model.values import dataclass, replace
from oomd.monitor.podium import largest_first
from oomd.parts import clock_us
from oomd.policies.freeable import NEAR, Freeable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from oomd.model.decision import Candidate, Decision
    from oomd.model.ruleset import EngineState
    from oomd.model.snapshot import Process, Snapshot
    from oomd.monitor.process_table import ProcessTable
    from oomd.monitor.rows import Row
    from oomd.search import Search

EVERYBODY = 1 << 62
"""Nobody owns more than so many bytes."""
REHEARSED = 8
"""The interpreter learns from so many calls what a line of code is about; PEP 659."""
FRESH_SHARE = 64
"""Nobody else may have grown by more than one part in so many of the victim's size since the choice was made."""


@dataclass(frozen=True, slots=True)
class Reading:
    """The leaders' sizes, read again, the largest first, as far as it took."""

    changed: tuple[Row, ...]
    """Who owns more, or less, than before."""
    grown_bytes: int
    """What those gained together; the victim's gain apart."""
    unread_bytes: int
    """What the largest of those owned who were not read, at the last look."""
    complete: bool
    """Whether all were read."""
    by_size: bool
    """Whether whoever is much smaller than another that may be taken as well is not taken, however it has grown."""

    def is_enough(self, table: ProcessTable, target: Candidate) -> bool:
        """Whether nobody who was not read can matter, now that the kernel's counters were read again: nobody has grown
        by more than is overlooked, or nobody can be nearly as large as this one.
        """
        grown = table.bound.since_look_bytes()
        if self.complete or grown <= slack_bytes(table, target):
            return True
        return self.by_size and self.unread_bytes + grown <= NEAR * target.score


@dataclass(frozen=True, slots=True)
class Overtaker:
    """Who dies in the place of the one that was foreseen."""

    decision: Decision
    row: Row
    snapshot: Snapshot
    """What it was decided on."""
    changed: tuple[Row, ...] = ()
    """Who is not as in the snapshot, where nobody was ranked anew yet: the decision has the ranking of before."""


class Overtaking:
    """Holds what tells quickly who may stand first."""

    def __init__(self, table: ProcessTable, search: Search) -> None:
        self._table = table
        self._search = search
        self.swapped = False
        """Whether anything lies in swap now, which the short way to a size does not show."""
        self._rules = Rules(())
        self._known: dict[int, int] = {}
        """Who was there: when each was born, by pid."""
        self._among_pods = False
        """Whether any of them belonged to a pod."""
        self._able: dict[str, dict[int, Candidate]] = {}
        """By ruleset: those of whom nothing but their size says how soon they go, by pid; nobody where that is not all
        that counts.
        """

    def prepare(self, rules: Rules, snapshot: Snapshot, decisions: Iterable[Decision]) -> None:
        """These may be carried out next, made on this snapshot."""
        self._rules, self._able = rules, {}
        self._known = {each.id.pid: each.id.start_ticks for each in snapshot.processes}
        self._among_pods = bool(pod_usage(snapshot))
        last = self._table.last_pids
        for decision in decisions:
            ruleset = next(each for each in rules.rulesets if each.name == decision.ruleset)
            by_size = isinstance(ruleset.policy, Freeable) and all(
                each.preference != PREFER for each in decision.ranking
            )
            self._able[decision.ruleset] = {
                each.process.id.pid: each
                for each in decision.ranking
                if by_size and _goes_by_size(each) and each.process.id.pid not in last
            }

    def rehearse(self, decision: Decision, snapshot: Snapshot, state: EngineState) -> None:
        """Go through all motions of :meth:`find`, as though somebody unknown had grown most: the first time takes twice
        as long as any other.
        """
        for _ in range(REHEARSED):
            reading = self.read_sizes(decision)
            self._table.seek(snapshot.status, clock_us)
            for row in self._table.leaders[:1]:
                self._judged(row, snapshot, state)
            self.find(decision, snapshot, state, reading)

    def read_sizes(self, decision: Decision) -> Reading:
        """Right after the counters were read (:meth:`ProcessTable.rest_bound_bytes`): the sizes of the leaders, until
        it is known whose the growth was, or whoever comes next is too small.
        """
        table, target, bound = self._table, decision.target, self._table.bound
        assert target is not None
        begin_us, slack = clock_us(), slack_bytes(table, target)
        able = self._able_of(decision)
        changed: list[Row] = []
        grown = best = unread = 0
        bound.begin_look()
        table.leaders.sort(key=largest_first)  # newcomers come last
        uninteresting = self._uninteresting_bytes(target, best, slack)
        for row in tuple(table.leaders):
            before = row.size_bytes
            if before <= uninteresting:
                unread = before
                break
            same = not self.swapped and row.is_as_read()
            if same and (row.rise is None or not row.rise.since_scan_bytes):  # as with most; it explains nothing then
                if before <= best or row.pid not in able:
                    continue
            elif not table.reread(row, size_only=not self.swapped):
                before = 0  # it is gone
            elif row.size_bytes != before:
                changed.append(row)
                grown += 0 if row.pid == target.process.id.pid else max(0, row.size_bytes - before)
            if before and row.pid in able:
                best = max(best, row.private_estimate_bytes())
            uninteresting = self._uninteresting_bytes(target, best, slack)
        else:
            bound.end_look()
            table.looked_us = begin_us
        if changed:
            table.leaders.sort(key=largest_first)
        complete = table.looked_us == begin_us
        return Reading(tuple(changed), grown, unread, complete=complete, by_size=bool(able))

    def _uninteresting_bytes(self, target: Candidate, best: int, slack: int) -> float:
        """Whoever owned no more than this at the last look need not be read, after those who owned more: nobody can
        have grown unnoticed, or the best of those who were read, and may be taken, stays the best. -1: everybody is.
        """
        table = self._table
        if table.rest_seen_bytes() * NEAR > max(best, target.score):
            return -1
        open_bytes = table.bound.since_look_bytes()
        return EVERYBODY if open_bytes <= slack else NEAR * best - open_bytes

    def find(
        self, decision: Decision, snapshot: Snapshot, state: EngineState, reading: Reading | None
    ) -> Overtaker | None:
        """Decide again, right after ``decision``, made in advance on ``snapshot``, could not be confirmed. None where
        that takes more than this; then the ordinary way decides. ``reading``: what was read for that confirmation.
        """
        table, status = self._table, snapshot.status
        if self.swapped != (status.swap_free_bytes < status.swap_total_bytes):
            return None
        if reading is None:
            if table.find_newcomers(urgent=True) is None:
                return None
            reading = self.read_sizes(decision)
        measured = False
        if reading.complete and (not table.leaders or table.rest_seen_bytes() * NEAR > table.leaders[0].size_bytes):
            measured = table.seek(status, clock_us)
        new = [row for row in table.leaders if not self._is_known(row)]
        found = self._clear(decision, snapshot, (*reading.changed, *new), state)
        if found is None:
            self._verify(decision)
            found = self._chosen(decision, snapshot, (*reading.changed, *new), state)
        target = None if found is None else found.decision.target
        if found is None or target is None or found.decision.action != decision.action:
            return None
        row, slack = found.row, slack_bytes(table, target)
        if not self._search.is_settled(found.decision) or (row not in new and not table.reread(row)):
            return None
        measured = measured and row in new  # nobody was read since, then
        proved = self._search.is_proved(found.decision, self._rules, measured=measured)
        return found if proved and reading.is_enough(table, target) and _stands(target, row, slack) else None

    def _verify(self, decision: Decision) -> None:
        """Who is the one that was foreseen, by now? Only its size may have been read."""
        victim = None if decision.target is None else self._table.rows.get(decision.target.process.id.pid)
        if victim is not None and not self._table.verify(victim):
            self._table.forget(victim.pid)

    def in_full(self, found: Overtaker, state: EngineState) -> Overtaker:
        """With everybody in his place: for the report, after the signal."""
        if not found.changed:
            return found
        full = self._chosen(found.decision, found.snapshot, found.changed, state) or found
        target = found.decision.target
        return replace(full, decision=replace(full.decision, target=target), row=found.row)

    def _able_of(self, decision: Decision) -> dict[int, Candidate]:
        if any(row.own_shmem_share for row in self._table.leaders):
            return {}  # that is no part of their size
        return self._able.get(decision.ruleset, {})

    def _clear(
        self, decision: Decision, snapshot: Snapshot, changed: tuple[Row, ...], state: EngineState
    ) -> Overtaker | None:
        """The largest, where nothing but size counts and nobody comes near it. ``changed``: who is not as in the
        snapshot, or was not there.
        """
        leaders, able = self._table.leaders, self._able_of(decision)
        row = leaders[0] if able and leaders else None
        if row is None or not all(each.pid in able and self._is_known(each) for each in changed if each is not row):
            return None
        candidate = able.get(row.pid) if self._is_known(row) else self._judged(row, snapshot, state)
        if candidate is None or not _is_same(candidate.process, row):
            return None
        process = row.value(clock_us())
        freeable, measured = freeable_bytes(process)
        if len(leaders) > 1 and leaders[1].size_bytes >= NEAR * freeable:
            return None
        target = replace(candidate, process=process, freeable_bytes=freeable, measured=measured, score=freeable)
        return Overtaker(replace(decision, target=target), row, snapshot, changed or (row,))

    def _is_known(self, row: Row) -> bool:
        """Whether it was there when everybody was judged: its pid may have been given to another process since."""
        return self._known.get(row.pid) == row.start_ticks

    def _judged(self, row: Row, snapshot: Snapshot, state: EngineState) -> Candidate | None:
        """One who was not there when everybody was judged, where nothing but its size says how soon it goes. Where
        there are pods it moves others, or they move it, so all must be judged then.
        """
        if self._among_pods or row.pid in self._table.last_pids:
            return None
        self._search.meet((row,))
        alone = replace(snapshot, processes=(row.value(clock_us()),))
        candidates, _ = sift(alone, self._rules.preferences, state)
        return candidates[0] if candidates and _goes_by_size(candidates[0]) and not pod_usage(alone) else None

    def _chosen(
        self, decision: Decision, snapshot: Snapshot, changed_rows: tuple[Row, ...], state: EngineState
    ) -> Overtaker | None:
        """Whoever comes first by the whole order; None where nobody may be taken."""
        table, now_us = self._table, clock_us()
        self._search.meet(changed_rows)
        changed = {row.pid: row for row in changed_rows if row.pid in table.rows}
        victim = None if decision.target is None else table.rows.get(decision.target.process.id.pid)
        if victim is not None:
            changed[victim.pid] = victim
        pids = table.rows.keys() - changed.keys()
        others = tuple([each for each in snapshot.processes if each.id.pid in pids])
        processes = tuple([row.value(now_us) for row in changed.values()])
        again = decided_anew(self._rules, decision, replace(snapshot, processes=others), processes, state)
        if again.target is None:
            return None
        row = table.rows[again.target.process.id.pid]
        return Overtaker(again, row, replace(snapshot, processes=(*processes, *others)))


def slack_bytes(table: ProcessTable, target: Candidate) -> int:
    """By how much anybody may have grown since the choice was made."""
    return max(table.bound.slack_bytes, target.score // FRESH_SHARE)


def _goes_by_size(candidate: Candidate) -> bool:
    return candidate.preference == NORMAL and not candidate.standing and candidate.process.oom_score_adj >= 0


def _is_same(process: Process, row: Row) -> bool:
    """Whether the row still is what choices hang on."""
    return (process.comm, process.uid, process.state in "ZX", process.kill_pending) == row.what_it_is


def _stands(target: Candidate, row: Row, slack: int) -> bool:
    """Whether it is who was chosen, and has not given back more than is overlooked."""
    process = target.process
    shrunk = process.rss_anon_bytes + process.swap_bytes - row.size_bytes > slack
    return _is_same(process, row) and not shrunk and process.rss_shmem_bytes - row.shmem_bytes <= slack

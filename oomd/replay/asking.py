"""Ask a recording: each tick's answer by these rules beside the one that was given."""

from __future__ import annotations

import errno

from oomd.act import NOBODY_US
from oomd.engine import credit as credits
from oomd.engine.aftermath import refused, with_credit
from oomd.engine.detection import asked_for, reloaded_state
from oomd.engine.ladder import through
from oomd.engine.selection import may_choose, select
from oomd.kill.executor import SIGTERM
from oomd.kill.warrant import NOT_PERMITTED
from oomd.model.decision import KILL, NO_ACTION, NOTIFY, TERM, Decision
from oomd.model.snapshot import Snapshot
from oomd.model.values import dataclass, replace
from oomd.reap.dying import DYING
from oomd.replay.incident import Answer, nearest_snapshots
from oomd.replay.player import Player, escalation

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from oomd.model.config import Config
    from oomd.model.decision import Detection
    from oomd.model.snapshot import ProcessId
    from oomd.replay.incident import Fact, Recording, Tick


@dataclass(frozen=True, slots=True)
class Asked:
    """One tick, asked again."""

    tick: Tick
    decision: Decision
    recorded: Answer
    snapshot_us: int | None
    """When the snapshot was taken that the answer looked at; None where none was needed."""

    @property
    def differs(self) -> bool:
        """Whether somebody else is signalled, or with another signal, or nobody where somebody was; or another step of
        a ladder is begun.
        """
        step = None if self.decision.step is None else (self.decision.action, _name_of(self.decision))
        recorded = None if self.recorded.step is None else (self.recorded.action, self.recorded.name)
        return step != recorded or _signalled(self.decision.action, _id_of(self.decision)) != _signalled(
            self.recorded.action, self.recorded.target
        )


def ask(recording: Recording, config: Config | None = None) -> Iterator[Asked]:
    """Every tick's answer by ``config``, or by the rules that held when it was recorded."""
    asking = _Asking(recording, config)
    for tick, snapshot, taken_us in nearest_snapshots(recording.ticks):
        yield asking.ask(tick, snapshot, taken_us)


class _Asking:
    """The loop's gates around the engine, as the daemon has them."""

    def __init__(self, recording: Recording, config: Config | None) -> None:
        self._own_rules = config is None
        first = config or recording.config
        self._player = Player.begin(first.rules)
        self._player.dry_run = recording.config.dry_run
        self._next_number: int | None = None
        self._nobody_until_us = 0
        self._reaping: set[ProcessId] = set()
        self._buried: set[ProcessId] = set()
        """Victims that died: a snapshot of before still shows them."""

    def ask(self, tick: Tick, snapshot: Snapshot | None, taken_us: int | None) -> Asked:
        """One tick in the loop's order: facts, observe, advance, select."""
        player = self._player
        self._begin(tick)
        detections = player.detect(tick.status, tick.cgroups)
        escalated = player.advance(detections, tick.status, frozenset(self._reaping))
        for fact in tick.refused:
            player.state = refused(player.state, fact.id, fact.why)
        recorded = _recorded(tick)
        self._note_world(tick)
        if escalated:
            if {credit.process.id for credit, _ in escalated} == {fact.id for fact in tick.escalated}:
                self._join(tick)  # whoever was forked meanwhile
            quiet = Decision(NO_ACTION, "", tick.status, detections=detections)
            return Asked(tick, escalation(quiet, escalated), recorded, None)
        may_act = self._may_act(tick, detections)
        if tick.asked and detections and not may_act:
            detections, may_act = asked_for(detections, tick.asked), True
        if (tick.held and not tick.asked) or not may_act:
            return Asked(tick, self._waiting(tick, detections), recorded, None)
        shown = self._living(snapshot or Snapshot(tick.status, ()))
        decision = player.select(detections, lambda _: shown)
        self._act(tick, decision)
        if decision.action == NOTIFY and decision.step is None:
            self._nobody_until_us = tick.status.time_us + NOBODY_US
        return Asked(tick, decision, recorded, taken_us)

    def _begin(self, tick: Tick) -> None:
        """What happened since the tick before."""
        player = self._player
        if tick.config is not None and self._own_rules:
            player.rules = tick.config.rules
            player.state = reloaded_state(player.state, player.rules)
        if tick.state is not None and tick.number != self._next_number:
            self._resume(tick)
        else:
            for fact in tick.facts:
                self._take(fact)
        if tick.pause is not None:
            player.state = replace(player.state, pause=tick.pause)
        self._next_number = tick.number + 1

    def _living(self, snapshot: Snapshot) -> Snapshot:
        if not self._buried:
            return snapshot
        living = tuple(process for process in snapshot.processes if process.id not in self._buried)
        return replace(snapshot, processes=living)

    def _act(self, tick: Tick, decision: Decision) -> None:
        """As it was carried out where the answer is the recorded one, else as it would have been."""
        player, answer, target = self._player, tick.answer, decision.target
        if decision.step is not None:
            return
        if answer is None or target is None or not _is_answer(decision, answer):
            player.act(decision)
        elif decision.action == NO_ACTION:
            self._join(tick)
            if not tick.opened:
                player.state = refused(player.state, target.process.id, "is gone")
        elif decision.action in (TERM, KILL):
            player.join(decision, tick.opened)

    def _join(self, tick: Tick) -> None:
        for credit in tick.opened:
            self._player.state = with_credit(self._player.state, credit)

    def _resume(self, tick: Tick) -> None:
        """The recording's beginning, or ticks are missing: go on with what the engine remembered here, after the facts
        of this tick.
        """
        state = tick.state
        assert state is not None
        fits = self._own_rules and len(state.rulesets) == len(self._player.rules.rulesets)
        self._player.state = state if fits else reloaded_state(state, self._player.rules)
        known = {credit.process.id for credit in state.credits}
        self._player.really_killed |= known
        self._reaping &= known

    def _take(self, fact: Fact) -> None:
        player = self._player
        if fact.kind == "through":
            player.state = through(player.state, player.rules, fact.why, fact.time_us, fact.done_us or None)
            return
        known = next((each for each in player.state.credits if each.process.id == fact.id), None)
        if fact.kind == "reaped":
            self._reaping.discard(fact.id)
        if fact.kind == "died":
            self._buried.add(fact.id)
        if known is None:
            return
        if fact.kind == "died" and known.phase != credits.DEAD:
            player.state = with_credit(player.state, credits.died(known, fact.time_us))
        elif fact.kind == "reaped" and fact.signal_errno == 0:
            if fact.signal == SIGTERM and fact.reap_errno in DYING:
                known = credits.doomed(known, fact.signal_us)
            if fact.reap_errno == 0:
                known = credits.stripped(known, fact.time_us)
            player.state = with_credit(player.state, known)
        elif fact.kind == "reaped" and fact.signal_errno != errno.ESRCH:
            player.state = refused(player.state, fact.id, NOT_PERMITTED)

    def _note_world(self, tick: Tick) -> None:
        """Who was really signalled, and is being reaped."""
        if self._player.dry_run:
            return
        self._reaping |= {fact.id for fact in tick.escalated}
        answer, opened = tick.answer, {credit.process.id for credit in tick.opened}
        self._player.really_killed |= opened
        if tick.escalated or (answer is not None and answer.action in (TERM, KILL)):
            self._reaping |= opened

    def _may_act(self, tick: Tick, detections: tuple[Detection, ...]) -> bool:
        now_us = tick.status.time_us
        return now_us >= self._nobody_until_us and may_choose(detections, self._player.state, now_us)

    def _waiting(self, tick: Tick, detections: tuple[Detection, ...]) -> Decision:
        """Nobody was looked for: the reason, as far as it needs no processes."""
        if tick.held:
            reason = "waiting for the first measurement of what the leaders really own, or for hooks"
            return Decision(NO_ACTION, reason, tick.status, detections=detections)
        nobody = Snapshot(tick.status, ())
        decision = select(self._player.rules, nobody, detections, self._player.state)
        if decision.action == NOTIFY or decision.step is not None:
            decision = replace(decision, action=NO_ACTION, step=None)
        return self._player.explained(decision)


def _recorded(tick: Tick) -> Answer:
    if tick.escalated:
        return Answer(KILL, tick.escalated[0].why, tick.escalated[0].id)
    return tick.answer or Answer(NO_ACTION)


def _id_of(decision: Decision) -> ProcessId | None:
    return None if decision.target is None else decision.target.process.id


def _is_answer(decision: Decision, answer: Answer) -> bool:
    """Whether this is what was decided then."""
    return (decision.action, _id_of(decision), _name_of(decision)) == (answer.action, answer.target, answer.name)


def _name_of(decision: Decision) -> str:
    return "" if decision.target is None else decision.target.name


def _signalled(action: str, target: ProcessId | None) -> tuple[str, ProcessId | None] | None:
    return (action, target) if action in (TERM, KILL) else None

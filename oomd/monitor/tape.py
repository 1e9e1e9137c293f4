"""The tape of ``oomd run --record``: the last ticks as the loop saw them, in memory, until they are handed out.

Values are kept as they are (they are frozen); they are made plain only when they are handed out, after a signal was
sent. The killer writes no file: the outside process does.
"""

from __future__ import annotations

from collections import deque
from dataclasses import replace

from oomd.config.compiled import to_plain

TYPE_CHECKING = False
if TYPE_CHECKING:
    from oomd.model.decision import Credit, Decision, ReapResult
    from oomd.model.report import Plain
    from oomd.model.ruleset import EngineState
    from oomd.model.snapshot import Cgroup, MemoryStatus, ProcessId, Snapshot

MOST_TICKS = 512
"""Half a minute of danger (100 ms a tick and less), or half an hour of quiet."""
TICKS_PER_PART = 128
"""Ticks in one datagram; one with a snapshot goes alone."""
MOST_PROCESSES = 256
MOST_CGROUPS = 128


class Tick:
    """One round of the loop: what it began with, what it saw, what it did."""

    __slots__ = (
        "after",
        "cgroups",
        "decision",
        "escalated",
        "facts",
        "held",
        "number",
        "refused",
        "snapshot",
        "state",
        "status",
    )

    def __init__(
        self, number: int, facts: list[Plain], status: MemoryStatus, state: EngineState, cgroups: tuple[Cgroup, ...]
    ) -> None:
        self.number = number
        self.facts = facts
        """What the kernel told since the tick before: deaths, reaped victims, victims that were gone."""
        self.status = status
        self.state = state
        """The engine's memory after those facts, before this status."""
        self.cgroups = cgroups
        """What detectors saw of cgroups."""
        self.after: EngineState | None = None
        """The engine's memory after somebody was signalled."""
        self.held = False
        """An alarm waited for a measurement."""
        self.refused: list[Plain] = []
        """Victims that could not be had, before the one that was."""
        self.escalated: list[Plain] = []
        self.decision: Plain | None = None
        self.snapshot: Snapshot | None = None


class Tape:
    """The last :data:`MOST_TICKS` ticks; older ones that nobody asked for are forgotten."""

    def __init__(self) -> None:
        self._ticks: deque[Tick] = deque(maxlen=MOST_TICKS)
        self._facts: list[Plain] = []
        self._count = 0

    def begin(self, status: MemoryStatus, state: EngineState, cgroups: tuple[Cgroup, ...] = ()) -> None:
        """A tick has seen this status, and these cgroups."""
        self._ticks.append(Tick(self._count, self._facts, status, state, cgroups))
        self._count += 1
        self._facts = []

    def note_death(self, process_id: ProcessId, now_us: int) -> None:
        """A victim is dead."""
        self._facts.append({"fact": "died", **_plain_id(process_id), "time_us": now_us})

    def note_reaped(self, result: ReapResult) -> None:
        """The reaper is done with a victim."""
        end_us = result.signal_us + result.reap_us
        told = {
            "signal": result.signal,
            "signal_us": result.signal_us,
            "signal_errno": result.signal_errno,
            "reap_errno": result.reap_errno,
        }
        self._facts.append({"fact": "reaped", **_plain_id(result.id), "time_us": end_us, **told})

    def note_held(self) -> None:
        """This tick's alarm waits for a measurement."""
        self._ticks[-1].held = True

    def note_refused(self, process_id: ProcessId, why: str) -> None:
        """This tick's choice could not be had."""
        self._ticks[-1].refused.append({**_plain_id(process_id), "why": why})

    def note_escalated(self, process_id: ProcessId, why: str) -> None:
        """A victim that was asked to go was killed in this tick."""
        self._ticks[-1].escalated.append({**_plain_id(process_id), "why": why})

    def note_state(self, state: EngineState) -> None:
        """What the engine remembers once this tick has signalled."""
        self._ticks[-1].after = state

    def note_decision(self, decision: Decision, snapshot: Snapshot, after: EngineState) -> None:
        """What this tick decided, all that it looked at, and what the engine remembers then."""
        target = None if decision.target is None else decision.target.process
        tick = self._ticks[-1]
        tick.after = after
        tick.decision = {
            "action": decision.action,
            "ruleset": decision.ruleset,
            "reason": decision.reason,
            "name": "" if decision.target is None else decision.target.name,
            "target": None if target is None else {**_plain_id(target.id), "comm": target.comm},
        }
        tick.snapshot = trimmed(snapshot, None if target is None else target.id)

    def drain(self) -> list[list[Plain]]:
        """All ticks so far in parts, each small enough for a datagram; the first tick of a part tells its state."""
        parts: list[list[Plain]] = []
        alone = True
        while self._ticks:
            tick = self._ticks.popleft()
            begins = alone or tick.snapshot is not None or len(parts[-1]) >= TICKS_PER_PART
            alone = tick.snapshot is not None
            if begins:
                parts.append([])
            parts[-1].append(_plain_tick(tick, with_state=begins))
        return parts


def trimmed(snapshot: Snapshot, target: ProcessId | None) -> Snapshot:
    """The snapshot without the smallest of too many processes, and without a copy of the status."""
    processes, cgroups = snapshot.processes, snapshot.cgroups
    if len(processes) > MOST_PROCESSES:
        largest = sorted(processes, key=lambda each: (each.id != target, -each.size_bytes))[:MOST_PROCESSES]
        kept = {process.id for process in largest}
        processes = tuple(process for process in processes if process.id in kept)
        snapshot = replace(snapshot, processes=processes, complete=False)
    if len(cgroups) > MOST_CGROUPS:
        cgroups = tuple(sorted(cgroups, key=lambda each: -(each.current_bytes or 0))[:MOST_CGROUPS])
        snapshot = replace(snapshot, cgroups=cgroups, complete=False)
    return snapshot


def _plain_id(process_id: ProcessId) -> Plain:
    return {"pid": process_id.pid, "start_ticks": process_id.start_ticks}


def lightened(state: EngineState) -> EngineState:
    """The state without the past of cgroups where that is too much to tell: rates of theirs begin anew."""
    if sum(len(sample.cgroups) for sample in state.history) <= MOST_CGROUPS:
        return state
    return replace(state, history=tuple(replace(sample, cgroups=()) for sample in state.history))


def _opened(tick: Tick) -> tuple[Credit, ...]:
    """The kills that this tick began."""
    if tick.after is None:
        return ()
    # By the decision too: a credit of the same process may have ended in this very tick.
    before = {(credit.process.id, credit.decision_id) for credit in tick.state.credits}
    return tuple(each for each in tick.after.credits if (each.process.id, each.decision_id) not in before)


def _plain_tick(tick: Tick, *, with_state: bool) -> Plain:
    plain: Plain = {"tick": tick.number, "status": to_plain(tick.status)}
    if with_state:
        plain["state"] = to_plain(lightened(tick.state))
    if tick.cgroups:
        plain["cgroups"] = to_plain(tick.cgroups[:MOST_CGROUPS])
    opened = _opened(tick)
    if opened:
        plain["opened"] = to_plain(opened[:MOST_PROCESSES])
    if tick.snapshot is not None:
        # Its status is the tick's.
        kind, content = to_plain(tick.snapshot)
        plain["snapshot"] = (kind, {key: value for key, value in content.items() if key != "status"})
    for key in ("facts", "held", "refused", "escalated", "decision"):
        if getattr(tick, key):
            plain[key] = getattr(tick, key)
    return plain

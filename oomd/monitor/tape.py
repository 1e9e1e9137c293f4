"""The tape of ``oomd run --record``: the last ticks as the loop saw them, in memory, until they are handed out.

Values are kept as they are (they are frozen); they are made plain only when they are handed out, after a signal was
sent, and then no more at a time than takes a moment: the next kill may be due. The killer writes no file: the outside
process does.
"""

from __future__ import annotations

from itertools import pairwise

from oomd.config.compiled import to_plain
from oomd.config.packed import pack
from oomd.engine.eligibility import NOTHING_OWNED
from oomd.model.values import replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections import deque

    from oomd.model.decision import Credit, Decision, ReapResult
    from oomd.model.report import Plain
    from oomd.model.ruleset import EngineState, Pause
    from oomd.model.snapshot import Cgroup, MemoryStatus, Process, ProcessId, Snapshot
else:
    from _collections import deque  # the C module alone

MOST_TICKS = 512
"""Half a minute of danger (100 ms a tick and less), or half an hour of quiet."""
TICKS_PER_PART = 128
"""Ticks in one part; one with a snapshot goes alone."""
VALUES_PER_PART = 512
"""Ticks and cgroups in one part, about."""
VALUES_AT_ONCE = 1024
"""So many are handed out at a time: some 20 ms."""
MOST_PACKED = 192 * 1024
"""A part is one datagram (oomd/outside/link.py), with room for what is around it."""
MOST_PROCESSES = 512
MOST_CGROUPS = 512
FEW = 8
"""Where even that does not fit, one part in so many of it does."""
LEADERS = 64
"""So many of the ranking stand before those who spared others."""


class Tick:
    """One round of the loop: what it began with, what it saw, what it did."""

    __slots__ = (
        "after",
        "asked",
        "cgroups",
        "decided",
        "decision",
        "escalated",
        "facts",
        "held",
        "number",
        "pause",
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
        self.pause: Plain | None = None
        """The pause that began or ended since the tick before."""
        self.asked = ""
        """Somebody asked for a victim, as though the first ruleset had fired: who, in words."""
        self.after: EngineState | None = None
        """The engine's memory after somebody was signalled."""
        self.held = False
        """An alarm waited for a measurement."""
        self.refused: list[Plain] = []
        """Victims that could not be had, before the one that was."""
        self.escalated: list[Plain] = []
        self.decision: Plain | None = None
        self.decided: Decision | None = None
        self.snapshot: Snapshot | None = None


class Tape:
    """The last :data:`MOST_TICKS` ticks; older ones that nobody asked for are forgotten."""

    def __init__(self) -> None:
        self._ticks: deque[Tick] = deque(maxlen=MOST_TICKS)
        self._facts: list[Plain] = []
        self._pause: Plain | None = None
        self._count = 0

    def begin(self, status: MemoryStatus, state: EngineState, cgroups: tuple[Cgroup, ...] = ()) -> None:
        """A tick has seen this status, and these cgroups."""
        self._ticks.append(Tick(self._count, self._facts, status, state, cgroups))
        self._ticks[-1].pause = self._pause
        self._count += 1
        self._facts, self._pause = [], None

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

    def note_pause(self, pause: Pause | None) -> None:
        """A pause began, or ended before its time (None)."""
        self._pause = {} if pause is None else {"until_us": pause.until_us, "why": pause.why, "by": pause.by}

    def note_asked(self, text: str) -> None:
        """In this tick somebody asked for a victim."""
        self._ticks[-1].asked = text

    def note_through(self, ruleset: str, due_us: int, done_us: int | None) -> None:
        """A gentle step of this ruleset has done what it can: the next one is due then."""
        done = {} if done_us is None else {"done_us": done_us}
        self._facts.append({"fact": "through", "pid": 0, "start_ticks": 0, "time_us": due_us, "why": ruleset, **done})

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
            "step": decision.step,
            "target": None if target is None else {**_plain_id(target.id), "comm": target.comm},
        }
        tick.decided, tick.snapshot = decision, trimmed(snapshot, decision)

    def drain(self) -> tuple[list[bytes], bool]:
        """The oldest ticks in packed parts, each small enough for a datagram, and whether there are more; the first
        tick of a part tells its state.
        """
        parts: list[bytes] = []
        left = VALUES_AT_ONCE
        while self._ticks and left > 0:
            ticks = self._next_part()
            left -= sum(map(_values, ticks))
            parts += _packed(ticks)
        return parts, bool(self._ticks)

    def _next_part(self) -> list[Tick]:
        ticks = [self._ticks.popleft()]
        values = _values(ticks[0])
        while self._ticks and ticks[-1].snapshot is None and len(ticks) < TICKS_PER_PART:
            values += _values(self._ticks[0])
            if self._ticks[0].snapshot is not None or values > VALUES_PER_PART:
                break
            ticks.append(self._ticks.popleft())
        return ticks


def plain_ticks(ticks: list[Tick]) -> list[Plain]:
    """The ticks of one part. Cgroups that were not looked at again are told once."""
    told = [_plain_tick(ticks[0], with_state=True)]
    for before, tick in pairwise(ticks):
        told.append(_plain_tick(tick, with_state=False, same_cgroups=tick.cgroups is before.cgroups))
    return told


def _packed(ticks: list[Tick]) -> list[bytes]:
    """One part, or several where one is too large; a single tick then tells less."""
    part = pack(plain_ticks(ticks))
    if len(part) <= MOST_PACKED:
        return [part]
    if len(ticks) > 1:
        half = len(ticks) // 2
        return [*_packed(ticks[:half]), *_packed(ticks[half:])]
    (tick,) = ticks
    if tick.snapshot is not None and tick.decided is not None and len(tick.snapshot.processes) > 1:
        tick.snapshot = trimmed(tick.snapshot, tick.decided, len(tick.snapshot.processes) // FEW, MOST_CGROUPS // FEW)
        tick.cgroups = tick.cgroups[: MOST_CGROUPS // FEW]
        return _packed(ticks)
    return []


def _values(tick: Tick) -> int:
    """How many values it tells, about."""
    snapshot = tick.snapshot
    return 1 + len(tick.cgroups) + (0 if snapshot is None else len(snapshot.processes) + len(snapshot.cgroups))


def trimmed(
    snapshot: Snapshot, decision: Decision, most_processes: int = MOST_PROCESSES, most_cgroups: int = MOST_CGROUPS
) -> Snapshot:
    """The snapshot without those of too many processes and cgroups that had no part in the decision, and without a copy
    of the status. Whoever decided stays, in this order: the victim, the first in the ranking, those whose presence
    spared others, the rest of the ranking; then the largest.
    """
    processes, cgroups = snapshot.processes, snapshot.cgroups
    if len(processes) > most_processes:
        place = {identity: number for number, identity in reversed([*enumerate(_foremost(decision, processes))])}
        last = len(place)
        by_part = sorted(processes, key=lambda each: (place.get(each.id, last), -each.size_bytes))
        kept = {process.id for process in by_part[:most_processes]}
        processes = tuple(process for process in processes if process.id in kept)
        snapshot = replace(snapshot, processes=processes, complete=False)
    if len(cgroups) > most_cgroups:
        parts = {path: number for number, path in reversed([*enumerate(_foremost_cgroups(decision))])}
        end = len(parts)
        in_order = sorted(cgroups, key=lambda each: (parts.get(each.path, end), -(each.current_bytes or 0)))
        paths = {cgroup.path for cgroup in in_order[:most_cgroups]}
        cgroups = tuple(cgroup for cgroup in cgroups if cgroup.path in paths)
        snapshot = replace(snapshot, cgroups=cgroups, complete=False)
    return snapshot


def _foremost(decision: Decision, processes: tuple[Process, ...]) -> list[ProcessId]:
    """The processes that had a part in the decision, the weightiest first; some more than once. Right after the victim
    whoever made its cgroups the heaviest of theirs: others can only lose by what is cut.
    """
    target = () if decision.target is None else (decision.target,)
    kin = [] if decision.target is None or decision.target.cgroup is None else _kin(decision.target.cgroup, processes)
    victims = [each.id for one in target for each in one.processes[:MOST_PROCESSES]]
    leaders = [each.id for one in decision.ranking[:LEADERS] for each in one.processes[:MOST_PROCESSES]]
    sparing = [
        each.process.id
        for each in decision.rejected
        if each.why != NOTHING_OWNED and not each.process.is_kernel_thread and not each.process.is_dead
    ]
    return [
        *victims,
        *kin,
        *leaders,
        *sparing,
        *(each.id for one in decision.ranking[LEADERS:] for each in one.processes),
    ]


def _kin(cgroup: Cgroup, processes: tuple[Process, ...]) -> list[ProcessId]:
    """Those in the cgroup at the top that holds this one, largest first."""
    top = "/".join(cgroup.path.split("/")[:2])
    inside = [each for each in processes if each.cgroup == top or each.cgroup.startswith(f"{top}/")]
    return [each.id for each in sorted(inside, key=lambda each: -each.size_bytes)[: MOST_PROCESSES // 2]]


def _foremost_cgroups(decision: Decision) -> list[str]:
    """The same of cgroups: each with its ancestors, which the choice went through."""
    target = () if decision.target is None else (decision.target,)
    named = [each.cgroup.path for each in (*target, *decision.ranking) if each.cgroup is not None]
    named += [each.name for each in decision.rejected if each.name.startswith("/")]
    found: dict[str, None] = {}
    for path in named:
        above = path
        while above and above not in found:
            found[above] = None
            above = "" if above == "/" else above.rpartition("/")[0] or "/"
    return list(found)


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


def _foremost_seen(tick: Tick) -> tuple[Cgroup, ...]:
    """What detectors looked at: of too many those first for which a detector holds, then the largest."""
    if len(tick.cgroups) <= MOST_CGROUPS:
        return tick.cgroups
    states = [*tick.state.rulesets, *(() if tick.after is None else tick.after.rulesets)]
    held = {path for each in states for _, path, _ in each.cgroups_since_us}
    in_order = sorted(tick.cgroups, key=lambda each: (each.path not in held, -(each.current_bytes or 0)))
    kept = {each.path for each in in_order[:MOST_CGROUPS]}
    return tuple(each for each in tick.cgroups if each.path in kept)


def _plain_tick(tick: Tick, *, with_state: bool, same_cgroups: bool = False) -> Plain:
    plain: Plain = {"tick": tick.number, "status": to_plain(tick.status)}
    if with_state:
        plain["state"] = to_plain(lightened(tick.state))
    if tick.cgroups and same_cgroups:
        plain["same_cgroups"] = True
    elif tick.cgroups:
        plain["cgroups"] = to_plain(_foremost_seen(tick))
        if len(tick.cgroups) > MOST_CGROUPS:
            plain["cgroups_cut"] = len(tick.cgroups) - MOST_CGROUPS
    opened = _opened(tick)
    if opened:
        plain["opened"] = to_plain(opened[:MOST_PROCESSES])
    if tick.snapshot is not None:
        # Its status is the tick's.
        kind, content = to_plain(tick.snapshot)
        plain["snapshot"] = (kind, {key: value for key, value in content.items() if key != "status"})
    for key in ("facts", "held", "asked", "refused", "escalated", "decision"):
        if getattr(tick, key):
            plain[key] = getattr(tick, key)
    if tick.pause is not None:
        plain["pause"] = tick.pause
    return plain

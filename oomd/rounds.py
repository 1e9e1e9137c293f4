"""One round of choice on request: who would be next (nobody is touched), or a kill by hand. Both as though the first
ruleset had fired, with everything that protects processes.
"""

from __future__ import annotations

from oomd.engine.detection import asked_for
from oomd.engine.pacing import FASTEST_FILL_BYTES_PER_SECOND
from oomd.model.decision import KILL, TERM
from oomd.model.report import plain_decision
from oomd.model.units import MILLISECOND_US, SECOND_US, format_duration
from oomd.model.values import dataclass, replace
from oomd.monitor.ration import OVERHEAD
from oomd.parts import clock_us

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from oomd.loop import Loop
    from oomd.model.decision import Decision
    from oomd.model.report import Plain

MOST_WAITING = 8
"""Requests that wait for their round; one more is refused."""
SOON_US = 20 * MILLISECOND_US
"""How soon the loop looks again while a round waits for a measurement."""
LEAST_REST_US = 1 * SECOND_US
"""Between two looks for the sake of a question."""
NO_RULESET = "no ruleset is in force"


@dataclass(frozen=True, slots=True)
class _Look:
    """The last answer to "who would be next"."""

    time_us: int
    plain: Plain


class Rounds:
    """Does what was asked at the end of a tick, when the machine was looked at just now."""

    def __init__(self, loop: Loop, tell: Callable[..., object]) -> None:
        self._loop = loop
        self._tell = tell
        self._asked: list[Plain] = []
        self._look: _Look | None = None
        self._cost_us = 0
        """What the last look took."""
        self._rest_until_us = 0

    @property
    def is_waiting(self) -> bool:
        """Whether somebody waits for a choice."""
        return bool(self._asked)

    def ask(self, message: Plain) -> None:
        """``command``: ``next``; or ``kill_now`` with ``by`` and ``dry_run``."""
        if len(self._asked) < MOST_WAITING:
            self._asked.append(message)
        else:
            self._answer(message, ok=False, text="too many wait for a choice")

    def on_tick(self, now_us: int) -> None:
        """The next one that waits, if it needs no measurement any more."""
        if not self._asked:
            return
        message = self._asked[0]
        if not self._loop.detections:
            done = self._answer(message, ok=False, text=NO_RULESET)
        elif message.get("command") == "next":
            done = self._look_ahead(message, now_us)
        else:
            done = self._kill(message)
        if done:
            del self._asked[0]
            if not any(detection.fired for detection in self._loop.detections):
                self._loop.search.stop_waiting()
        if self._asked:
            self._loop.pace = replace(self._loop.pace, interval_us=min(self._loop.pace.interval_us, SOON_US))

    def _look_ahead(self, message: Plain, now_us: int) -> bool:
        why = self._why_not(now_us)
        if not why:
            begin_us = clock_us()
            decision = self._choose("memory is assumed to be low", as_if_free=True)
            self._cost_us = clock_us() - begin_us
            if self._must_wait(decision):
                return False
            self._rest_until_us = now_us + max(LEAST_REST_US, OVERHEAD * self._cost_us)
            self._look = _Look(now_us, plain_decision(decision))
        look = self._look
        seen = {"age_us": None, "next": None} if look is None else {"age_us": now_us - look.time_us, "next": look.plain}
        return self._answer(message, ok=True, fresh=not why, why=why, **seen)

    def _why_not(self, now_us: int) -> str:
        """Why no process is looked at now for the sake of a question; empty where that is harmless."""
        loop = self._loop
        if loop.state.credits:
            return "a kill is under way"
        pieces = [piece for detection in loop.detections for piece in detection.evidence]
        levels = any(piece.detector == "memory_available" and piece.value is not None for piece in pieces)
        if (levels and loop.pace.warm) or any(detection.since_us is not None for detection in loop.detections):
            return "memory is short"
        takes_us = self._cost_us or loop.parts.table.ration.cost_us
        lasts_us = loop.pace.headroom_bytes * SECOND_US // FASTEST_FILL_BYTES_PER_SECOND
        if levels and lasts_us < takes_us:  # beyond the limit there is as much again: the loop itself waits as long
            return f"a look at processes takes {format_duration(takes_us)}, and memory could be short by then"
        return "somebody asked a moment ago" if now_us < self._rest_until_us else ""

    def _kill(self, message: Plain) -> bool:
        if self._loop.acted:  # whom to take now depends on what comes of that
            return False
        text = f"asked by {message.get('by')}"
        decision: Decision | None = self._choose(text)
        assert decision is not None
        if self._must_wait(decision):
            self._loop.act.hooking.touch()
            return False
        act, dry_run = self._loop.act, message.get("dry_run") is not False
        act.last_id = ""
        if not dry_run and (decision.action in (TERM, KILL) or decision.target is not None):
            if self._loop.parts.tape is not None:
                self._loop.parts.tape.note_asked(text)
            decision = act.at_once(act.carry_out(decision))
            if decision is None:
                return False
        signals = decision.action in (TERM, KILL) and not dry_run and not self._loop.parts.executor.dry_run
        return self._answer(
            message,
            ok=True,
            decision_id=act.last_id,
            signalled=signals and bool(act.last_id),
            dry_run=dry_run or self._loop.parts.executor.dry_run,
            decision=plain_decision(decision),
        )

    def _choose(self, text: str, *, as_if_free: bool = False) -> Decision:
        """Whom the first ruleset would take. ``as_if_free``: neither a pause nor a rest after futile kills counts."""
        loop = self._loop
        assert loop.status is not None
        detections = asked_for(loop.detections, text)
        state = replace(loop.state, pause=None, resting_until_us=0) if as_if_free else loop.state
        return loop.search.select(loop.rules, state, detections, loop.status)

    def _must_wait(self, decision: Decision) -> bool:
        return decision.action in (TERM, KILL) and self._loop.search.must_wait(decision)

    def _answer(self, message: Plain, *, ok: bool, **content: object) -> bool:
        self._tell("answer", number=message.get("number"), ok=ok, **content)
        return True

"""A pause on request: begins, ends, and is told. What it means for a choice is the engine's affair (engine/pause)."""

from __future__ import annotations

import time

from oomd.engine.pause import pause_of, pause_words
from oomd.model.ruleset import Pause
from oomd.model.units import SECOND_US, format_span
from oomd.model.values import replace
from oomd.parts import UNLIMITED_US, clock_us
from oomd.status import plain_pause

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from oomd.loop import Loop
    from oomd.model.report import Plain

LEAST_US = 1 * SECOND_US
MOST_US = 24 * 3600 * SECOND_US
"""Nobody means to go unprotected for longer; whoever does stops the service."""
MOST_WHY = 200
"""Characters of a reason."""
REPEAT_US = 30 * SECOND_US
"""How often it is told that an alarm meets a pause."""


class Pausing:
    """Begins and ends pauses. One instance per daemon."""

    def __init__(self, loop: Loop, tell: Callable[..., object], changed: Callable[[], object]) -> None:
        """``changed``: called when a pause began or ended."""
        self._loop = loop
        self._tell = tell
        self._changed = changed
        self._told_us = 0

    def begin(self, message: Plain) -> Plain:
        """``duration_us``, ``why``, ``by``; takes the place of a pause that holds. Returns what to answer."""
        duration_us, why = message.get("duration_us"), _text(message.get("why"))
        if not isinstance(duration_us, int) or not LEAST_US <= duration_us <= MOST_US:
            return {"ok": False, "text": f"a pause lasts from {LEAST_US // SECOND_US} s to 24 hours"}
        now_us = clock_us()
        pause = Pause(now_us, now_us + duration_us, why, _text(message.get("by")))
        self._set(pause)
        self._told_us = 0
        text = f"{format_span(duration_us)} by {pause.by}{f': {why}' if why else ''}; nobody new is chosen"
        self._tell("pause", text=text, duration_us=duration_us, why=why, by=pause.by, until=_wall(pause))
        self._changed()
        return {"ok": True, "pause": plain_pause(pause)}

    def end(self, message: Plain) -> Plain:
        """``by``. Returns what to answer."""
        pause = pause_of(self._loop.state, clock_us())
        if pause is None:
            return {"ok": False, "text": "it is not paused"}
        self._over(pause, f"by {_text(message.get('by'))}")
        return {"ok": True}

    def on_tick(self, now_us: int) -> None:
        """Tell of its end, and of alarms that meet it."""
        pause = self._loop.state.pause
        if pause is None:
            return
        if now_us >= pause.until_us:
            self._over(pause, "its time is over")
            return
        fired = [detection.ruleset for detection in self._loop.detections if detection.fired]
        if fired and now_us >= self._told_us:
            self._told_us = now_us + REPEAT_US
            self._tell("note", text=f"{', '.join(fired)}: fires, and nobody is chosen: {pause_words(pause, now_us)}")

    def longest_us(self, now_us: int) -> int:
        """How long the loop may wait, so that the end is told in time."""
        pause = self._loop.state.pause
        return UNLIMITED_US if pause is None else max(0, pause.until_us - now_us)

    def words(self) -> str:
        """For the service manager's status; empty where there is no pause."""
        pause = self._loop.state.pause
        if pause is None:
            return ""
        why = f": {pause.why}" if pause.why else ""
        return f"PAUSED for {format_span(pause.until_us - pause.since_us)} by {pause.by}{why}"

    def _over(self, pause: Pause, why: str) -> None:
        self._set(None)
        paused_us = min(clock_us(), pause.until_us) - pause.since_us
        self._tell("resume", text=f"{why}, after {format_span(paused_us)}", why=why, paused_us=paused_us)
        self._changed()

    def _set(self, pause: Pause | None) -> None:
        self._loop.state = replace(self._loop.state, pause=pause)
        if self._loop.parts.tape is not None:
            self._loop.parts.tape.note_pause(pause)


def _wall(pause: Pause) -> float:
    """Its end by the clock on the wall, as far as nobody sets that."""
    return time.time() + (pause.until_us - pause.since_us) / SECOND_US


def _text(value: object) -> str:
    return value[:MOST_WHY] if isinstance(value, str) else ""

"""A pause: somebody with the right to it asked that nobody new be chosen for a while. Pure.

What is under way goes on: a victim that was asked to go is killed when its grace is over or memory gets critical, and
credits are counted. The pause ends by itself at its time.
"""

from __future__ import annotations

from oomd.model.units import format_span

TYPE_CHECKING = False
if TYPE_CHECKING:
    from oomd.model.ruleset import EngineState, Pause


def pause_of(state: EngineState, now_us: int) -> Pause | None:
    """The pause that holds now, if any does."""
    return state.pause if state.pause is not None and now_us < state.pause.until_us else None


def pause_words(pause: Pause, now_us: int) -> str:
    """Why nobody is chosen, for people."""
    why = f": {pause.why}" if pause.why else ""
    return f"paused by {pause.by} for {format_span(pause.until_us - now_us)} more{why}"

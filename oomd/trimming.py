"""Has programs asked to trim what they can spare, while nobody has to go yet: tells the outside process how short
memory is (``tell: {low_memory_monitor: …}``), which tells everybody who listens.
"""

from __future__ import annotations

from oomd.engine.shortage import Shortage, is_over, judged

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from oomd.loop import Loop
    from oomd.model.config import Config

EVENT = "shortage"


class Trimming:
    """One instance per daemon."""

    def __init__(self, config: Config, tell: Callable[..., object]) -> None:
        """A budget is not the machine's affair, and in a dry run nobody is asked for anything: then this does nothing,
        and says so.
        """
        self._options = config.tell.low_memory_monitor
        if self._options is not None and (config.dry_run or config.budget_bytes is not None):
            why = "this is a dry run" if config.dry_run else "a budget says nothing of the machine's memory"
            tell("note", text=f"tell.low_memory_monitor: no program is asked to trim: {why}")
            self._options = None
        self._tell = tell
        self.shortage = Shortage()

    def on_tick(self, loop: Loop) -> None:
        """Another look at the machine."""
        for status in (loop.glanced, loop.status):
            if self._options is None or status is None:
                continue
            self.shortage, told = judged(self._options, status, loop.state.credits, self.shortage)
            if told:
                self._tell(EVENT, level=self.shortage.level, status={"available_bytes": status.available_bytes})

    def floor_bytes(self, loop: Loop) -> int | None:
        """With how much available memory no program is asked for anything; None where one was, a moment ago."""
        if self._options is None:
            return 0
        if loop.status is None or not is_over(self.shortage):
            return None
        limits = (self._options.low, self._options.medium, self._options.critical)
        return max(limit.resolve_bytes(loop.status.mem_total_bytes) for limit in limits)

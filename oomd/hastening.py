"""Between the loop and :mod:`oomd.kill.exits`: what was hastened reaches the engine's credit and the reports."""

from __future__ import annotations

from oomd.kernel.scope import ScopeGuard
from oomd.kill.warrant import Gate
from oomd.model.report import plain_hastened
from oomd.model.units import SECOND_US
from oomd.parts import clock_us
from oomd.reap.pool import ReaperPool

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from oomd.kill.exits import ExitHastener, Hastened, Watches
    from oomd.loop import Loop
    from oomd.model.scope import Scope
    from oomd.reap.base import Reaper

MOST_TOLD = 10
"""Reports per second; what is beyond is counted in the next one."""


def build_hastener(
    pipe_fd: int, mode: str, *, scope: Scope, proc_fd: int, own_pids: frozenset[int], reaper: Reaper, watches: Watches
) -> ExitHastener:
    """With one worker, a gate and a memory of the scope of its own. Raises GateError, ScopeError."""
    from oomd.kill.exits import ExitHastener  # in nobody's memory who has no trace

    gate = Gate(ScopeGuard(scope, proc_fd), proc_fd, own_pids)
    return ExitHastener(pipe_fd, mode, gate, ReaperPool(reaper, workers=1), watches)


class Hastening:
    """Does nothing where there is no hastener."""

    def __init__(self, hastener: ExitHastener | None, loop: Loop, tell: Callable[..., object]) -> None:
        self._hastener = hastener
        self._loop = loop
        self._tell = tell
        self._told = 0
        self._untold = 0
        self._second_ends_us = 0

    @property
    def keys(self) -> tuple[Hashable, ...]:
        """The loop's keys of what it hears."""
        return () if self._hastener is None else self._hastener.keys

    def start(self) -> None:
        """Begin to watch."""
        if self._hastener is not None:
            self._hastener.start()

    def spare(self, own_pids: frozenset[int]) -> None:
        """Oomd's own processes, when they have changed."""
        if self._hastener is not None:
            self._hastener.gate.own_pids = own_pids

    def on_event(self, key: Hashable) -> None:
        """Something to read, or to take."""
        if self._hastener is None:
            return
        pipe, _ = self._hastener.keys
        if key == pipe:
            # Of a kill by somebody else that is merely waited for there is a credit, too, without a ruleset.
            ours = frozenset(credit.process.id.pid for credit in self._loop.state.credits if credit.ruleset)
            wrong = self._hastener.read(ours)
            if wrong:
                self._tell("degraded", text=f"SIGKILLs can no longer be traced ({wrong}): no exit is hastened")
        else:
            for hastened in self._hastener.take(warm=self._loop.pace.warm):
                executor = self._loop.parts.executor
                self._loop.state = executor.note_hastened(hastened.result, self._loop.state)
                self._report(hastened, clock_us())

    def on_tick(self) -> None:
        """Need may have begun or ended."""
        if self._hastener is not None:
            self._hastener.tend(warm=self._loop.pace.warm)

    def counters(self) -> dict[str, int]:
        """For the last report."""
        return {} if self._hastener is None else self._hastener.counters()

    def stop(self) -> None:
        """End the threads."""
        if self._hastener is not None:
            self._hastener.stop()

    def _report(self, hastened: Hastened, now_us: int) -> None:
        if now_us >= self._second_ends_us:
            self._told, self._second_ends_us = 0, now_us + SECOND_US
        if self._told >= MOST_TOLD:
            self._untold += 1
            return
        self._told += 1
        process, result = hastened.process, hastened.result
        plain = plain_hastened(process, result, hastened.hindrances, hastened.lifted)
        self._tell("hastened", untold=self._untold, **plain)
        self._untold = 0

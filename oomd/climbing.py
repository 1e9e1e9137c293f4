"""Builds what carries gentle steps out; the modules that do it are loaded only where rules have such steps."""

from __future__ import annotations

from oomd.kernel.scope import ScopeGuard
from oomd.kill.warrant import Gate
from oomd.ladders import Ladders
from oomd.model.values import dataclass
from oomd.parts import clock_us

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from oomd.companion import Companion
    from oomd.kill.steps import Steps
    from oomd.model.scope import Scope
    from oomd.monitor.waiter import Waiter
    from oomd.options import Options

KEY = "steps"
"""The loop's key: steps have results."""


@dataclass(frozen=True, slots=True)
class Climbing:
    """What is needed for it."""

    options: Options
    scope: Scope
    proc_fd: int
    own_pids: Callable[[], frozenset[int]]
    cgroup_root: str | None
    """Where cgroups of version 2 are mounted."""
    outside: Companion
    waiter: Waiter

    def ladders(self) -> Ladders:
        """Ladders whose steps are carried out."""
        return Ladders(self.outside.tell, self._build_steps, self._restart)

    def _build_steps(self) -> Steps:
        """Every thread has a gate, and a memory of the scope, of its own."""
        from oomd.kill.steps import Steps, open_debts

        debts = open_debts(self.options.runtime_dir, self.options.debts_token)
        steps = Steps(self._build_gate, self.proc_fd, self.cgroup_root, debts)
        self.waiter.watch(steps.fd, KEY)
        return steps

    def _build_gate(self) -> Gate:
        return Gate(ScopeGuard(self.scope, self.proc_fd), self.proc_fd, self.own_pids())

    def _restart(self, unit: str, patience_us: int, done: Callable[[bool, str], object]) -> None:
        now_us = clock_us()
        self.outside.ask(
            "restart_unit",
            lambda answer: done(answer.ok, answer.text),
            now_us=now_us,
            deadline_us=now_us + patience_us,
            unit=unit,
        )

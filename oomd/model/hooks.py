"""Programs and sockets that are told before and after a kill: ``hooks:`` of the configuration, or of a ruleset."""

from __future__ import annotations

from oomd.model.values import dataclass


@dataclass(frozen=True, slots=True)
class Hook:
    """A program, and for how long it may run."""

    exec: tuple[str, ...]
    """Its path and its arguments."""
    deadline_us: int


@dataclass(frozen=True, slots=True)
class Hooks:
    """What is run and called for the decisions of a ruleset."""

    before: Hook | None = None
    """Before the first signal, which waits for it; never at the critical level."""
    after: Hook | None = None
    """Once it is known what came of it; nobody waits."""
    prekill_us: int = 0
    """How long systemd's prekill hooks (sockets) are waited for; 0: they are not called."""

    @property
    def wait_us(self) -> int:
        """The longest that a signal may wait."""
        return max(0 if self.before is None else self.before.deadline_us, self.prekill_us)


NO_HOOKS = Hooks()

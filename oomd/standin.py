"""The process that kills while the killer hangs (:mod:`oomd.lmkd.watchdog`): started, told of every record, heard, and
started again when it has ended and memory is calm.
"""

from __future__ import annotations

import sys

from oomd.lmkd.watchdog import Leash, command_of
from oomd.outside.spawn import spawn_outside

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Hashable
    from typing import Protocol

    from oomd.lmkd.registry import Record, Registry

    class Watches(Protocol):
        """Where descriptors are waited for."""

        def watch(self, fd: int, key: Hashable, events: int = ...) -> None:
            """Wake up when ``fd`` is ready."""

        def unwatch(self, fd: int) -> None:
            """Forget it."""


AGAIN_US = 5_000_000
"""How long an ended one is left before it is started again: what ends it at once must not become a loop of forks."""
_LINK = "@LINK@"


class StandIn:
    """The killer's end. Nothing here waits."""

    def __init__(
        self, registry: Registry, watches: Watches, key: str, say: Callable[[str, str], None], proc_dir: str
    ) -> None:
        """``key``: the first half of what the loop is woken with; ``say`` takes a letter of logcat and a text."""
        self.pid = 0
        """0 before the first was started."""
        self._registry = registry
        self._watches = watches
        self._key = key
        self._say = say
        self._proc_dir = proc_dir
        self._leash: Leash | None = None
        self._gone_us: int | None = None

    def start(self, now_us: int) -> None:
        """Start it, and tell it of everybody."""
        try:
            started = spawn_outside([sys.executable, *command_of(_LINK, self._proc_dir)], _LINK)
        except OSError as error:
            self._gone_us = now_us
            self._say("E", f"no watchdog: {error.strerror}")
            return
        self.pid, self._gone_us = started.pid, None
        self._leash = Leash(started.link_fd)
        self._registry.watchdog = self._leash
        self._watches.watch(started.link_fd, (self._key, started.link_fd))
        for record in self._registry.records:
            self._leash.note(record)

    def owns(self, fd: int) -> bool:
        """Whether this descriptor is ours."""
        return self._leash is not None and fd == self._leash.fileno()

    def beat(self, now_us: int, *, calm: bool, holds_back: bool = False) -> None:
        """We live. ``calm``: memory is not short, so that a fork is harmless; ``holds_back``: nobody is to
        be killed.
        """
        if self._leash is not None:
            self._leash.holds_back = holds_back
            self._leash.beat(now_us, self._registry.records)
        elif self._gone_us is not None and calm and now_us - self._gone_us >= AGAIN_US:
            self.start(now_us)

    def hear(self, now_us: int) -> list[tuple[Record | None, int, int]]:
        """Whom it killed while we hung, as the record that there still is, pid and adj; its end is noted."""
        assert self._leash is not None
        killed = [(self._registry.record_of(pid), pid, adj) for pid, adj in self._leash.take_killed()]
        if self._leash.lost:
            self._say("E", "the watchdog has ended")
            self.close()
            self._gone_us = now_us
        return killed

    def close(self) -> None:
        """Let it end."""
        if self._leash is not None:
            self._watches.unwatch(self._leash.fileno())
            self._leash.close()
            self._leash, self._registry.watchdog = None, None

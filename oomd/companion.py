"""The outside process as the killer sees it: a link that never waits, and somebody to start
again when memory is calm.
"""

from __future__ import annotations

import time

from oomd.outside.link import Link
from oomd.outside.spawn import spawn_outside

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Hashable
    from typing import Protocol

    from oomd.model.report import Plain

    class Watches(Protocol):
        """Where descriptors are waited for."""

        def watch(self, fd: int, key: Hashable, events: int = ...) -> None:
            """Wake up when ``fd`` is ready."""

        def unwatch(self, fd: int) -> None:
            """Forget it."""


KEY = "link"
"""The loop's key of the link."""
RESTART_US = 5_000_000
"""How long a dead outside process is left before it is started again."""


class Companion:
    """Tells it what happens, hears its commands, starts it anew."""

    def __init__(self, link_fd: int, pid: int, argv: list[str], link_token: str) -> None:
        """``argv`` starts another one; ``link_token`` in it stands for its end of the link."""
        self.pid = pid
        self._link = Link(link_fd)
        self._argv = argv
        self._link_token = link_token
        self._gone_us: int | None = None

    @property
    def dropped(self) -> int:
        """Reports that did not fit."""
        return self._link.dropped

    def watch(self, watches: Watches) -> None:
        """Hear it from now on."""
        watches.watch(self._link.fileno(), KEY)

    def send(self, message: Plain) -> bool:
        """Whether it fitted; never waits."""
        return self._link.send(message)

    def tell(self, event: str, **content: object) -> bool:
        """Send an event with its time."""
        return self._link.send({"event": event, "time": time.time(), **content})

    def hear(self, now_us: int, watches: Watches) -> Plain | None:
        """Its next command, if it said one; its end is noted."""
        message = self._link.receive()
        if self._link.closed:
            watches.unwatch(self._link.fileno())
            self._link.close()
            self._gone_us = now_us
            return None
        return message

    def restart(self, now_us: int, watches: Watches, *, calm: bool) -> bool:
        """Start another one, if the last one ended a while ago and memory is calm, so that a fork is harmless. Whether
        that was done.
        """
        if self._gone_us is None or now_us - self._gone_us <= RESTART_US or not calm:
            return False
        try:
            outside = spawn_outside(self._argv, self._link_token)
        except OSError:
            self._gone_us = now_us
            return False
        self._gone_us = None
        self.pid = outside.pid
        self._link.reopen(outside.link_fd)
        self.watch(watches)
        return True

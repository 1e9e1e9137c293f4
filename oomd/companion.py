"""The outside process as the killer sees it: a link that never waits, and somebody to start
again when memory is calm.
"""

from __future__ import annotations

import time

from oomd.model.values import dataclass, field
from oomd.outside.link import Link
from oomd.outside.spawn import spawn_outside

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Hashable
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
MOST_ASKED = 64
"""Requests without an answer; more are not sent."""
BURST_US = 300_000
"""So much of our time its commands may take at once: a large configuration takes a third."""
SHARE = 20
"""And a twentieth of the time in the long run: one that was taken over must not keep a real-time process busy."""
LEAST_US = 500
"""What each counts for at least: the loop wakes up, and looks at the machine."""
NOBODY = "the outside process is gone or does not keep up"
LATE = "no answer in time"


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of a request."""

    ok: bool
    text: str = ""
    """Why not, or what is worth telling."""
    content: Plain = field(default_factory=dict)
    """Whatever else the answer holds."""


@dataclass(frozen=True, slots=True)
class _Request:
    deadline_us: int
    done: Callable[[Answer], object]


_OF_THE_LINK = frozenset(("command", "number", "ok", "text"))


class Companion:
    """Tells it what happens, hears its commands, starts it anew."""

    def __init__(self, link_fd: int, pid: int, argv: list[str], link_token: str) -> None:
        """``argv`` starts another one; ``link_token`` in it stands for its end of the link."""
        self.pid = pid
        self._link = Link(link_fd)
        self._argv = argv
        self._link_token = link_token
        self._gone_us: int | None = None
        self._asked: dict[int, _Request] = {}
        self._last_request = 0
        self._spent_us = 0
        """What its commands have cost of late."""
        self._spent_at_us = 0
        self._deaf_until_us: int | None = None
        """Nothing is heard before; None: it is listened to."""

    @property
    def is_gone(self) -> bool:
        """Whether it has ended, and is to be started again."""
        return self._gone_us is not None

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

    def ask(
        self, request: str, done: Callable[[Answer], object], *, now_us: int, deadline_us: int, **content: object
    ) -> None:
        """Have something done outside. ``done`` is called exactly once: with the answer as soon as it is there; when
        ``deadline_us`` has passed (:meth:`expire`); or now, where nobody can be asked. Never waits.
        """
        self._last_request += 1
        number = self._last_request
        patience_us = max(0, deadline_us - now_us)
        if len(self._asked) >= MOST_ASKED or not self.tell(
            "request", request=request, number=number, patience_us=patience_us, **content
        ):
            done(Answer(ok=False, text=NOBODY))
            return
        self._asked[number] = _Request(deadline_us, done)

    def note_answer(self, message: Plain) -> None:
        """An answer came; one that is too late is no answer."""
        number = message.get("number")
        request = self._asked.pop(number, None) if isinstance(number, int) else None
        if request is not None:
            content = {key: value for key, value in message.items() if key not in _OF_THE_LINK}
            request.done(Answer(message.get("ok") is True, str(message.get("text", "")), content))

    def expire(self, now_us: int) -> None:
        """Give up what was to be answered by now."""
        for number in [number for number, each in self._asked.items() if each.deadline_us <= now_us]:
            self._asked.pop(number).done(Answer(ok=False, text=LATE))

    def due_us(self) -> int | None:
        """When the next request is given up, or it is listened to again; None where nothing is due."""
        dues = [each.deadline_us for each in self._asked.values()]
        return min(dues if self._deaf_until_us is None else [*dues, self._deaf_until_us], default=None)

    def hear(self, clock_us: Callable[[], int], watches: Watches, take: Callable[[Plain], object]) -> None:
        """Have its next command taken, if it said one; its end is noted. Where its commands cost too much of our time
        the next ones wait (:meth:`listen_again`).
        """
        begin_us = clock_us()
        message = self._link.receive()
        if self._link.closed:
            watches.unwatch(self._link.fileno())
            self._link.close()
            self._gone_us, self._spent_us = begin_us, 0
            for number in [*self._asked]:
                self._asked.pop(number).done(Answer(ok=False, text=NOBODY))
            return
        if message is not None:
            take(message)
        self._spend(begin_us, clock_us())
        if self._deaf_until_us is not None:
            watches.unwatch(self._link.fileno())

    def listen_again(self, now_us: int, watches: Watches) -> None:
        """Once the time is over for which it was not listened to."""
        if self._deaf_until_us is not None and now_us >= self._deaf_until_us:
            self._deaf_until_us = None
            self.watch(watches)

    def _spend(self, begin_us: int, end_us: int) -> None:
        refund_us = (begin_us - self._spent_at_us) // SHARE
        self._spent_us = max(0, self._spent_us - refund_us) + max(LEAST_US, end_us - begin_us)
        self._spent_at_us = begin_us
        if self._spent_us > BURST_US:
            self._deaf_until_us = end_us + SHARE * (self._spent_us - BURST_US)

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

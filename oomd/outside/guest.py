"""One client of the control socket: what it may cost in bytes, requests and time."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING

from oomd.outside.lines import Lines

if TYPE_CHECKING:
    import socket

    from oomd.outside.peers import Peer

IDLE_S = 60.0
"""Between two requests."""
LINE_S = 5.0
"""From a request's first byte to its last, however slowly they drip."""
WRITE_S = 5.0
"""For an answer to be taken as a whole."""
CHUNK = 4096
REQUESTS_PER_S = 10.0
REQUESTS_AT_ONCE = 20


class Phase(enum.Enum):
    """What is waited for."""

    READING = enum.auto()
    """A request."""
    RESTING = enum.auto()
    """Its user asked too much in too little time."""
    ASKING = enum.auto()
    """The answer to its request, from the killer."""
    WRITING = enum.auto()
    """Room for the answer."""
    BETWEEN = enum.auto()
    """Its next turn: the last answer is written."""


class Bucket:
    """So many at once, so many per second on the whole."""

    def __init__(self, per_s: float, at_once: float, now_s: float) -> None:
        self._per_s = per_s
        self._at_once = at_once
        self._left = at_once
        self._filled_s = now_s

    def take(self, now_s: float) -> float:
        """0.0 when one more is granted, else how long that would have to wait."""
        self._fill(now_s)
        if self._left >= 1.0:
            self._left -= 1.0
            return 0.0
        return (1.0 - self._left) / self._per_s

    def is_full(self, now_s: float) -> bool:
        """Whether nothing is remembered that a new one would not know."""
        self._fill(now_s)
        return self._left >= self._at_once

    def _fill(self, now_s: float) -> None:
        self._left = min(self._at_once, self._left + max(0.0, now_s - self._filled_s) * self._per_s)
        self._filled_s = max(self._filled_s, now_s)


class Guest:
    """A connection. Never blocks; raises OSError as sockets do."""

    def __init__(self, stream: socket.socket, peer: Peer, now_s: float) -> None:
        self.stream = stream
        self.peer = peer
        self.lines = Lines()
        self.phase = Phase.READING
        self.deadline_s = now_s + IDLE_S
        self.turn = 0
        """Counts its requests: an answer to an earlier one is none."""
        self.served_s = 0.0
        """When its last request was taken; 0 before the first."""
        self.request_id: object = None
        self.last = False
        """Whether it is hung up on after this answer."""
        self._answer = memoryview(b"")

    def read(self, now_s: float) -> bool:
        """Take what came; False at the end."""
        begun = self.lines.begun
        data = self.stream.recv(CHUNK)
        self.lines.feed(data)
        if not begun and self.lines.begun:
            self.deadline_s = now_s + LINE_S
        return bool(data)

    def wait_for_request(self, now_s: float) -> None:
        """Nothing whole is there yet."""
        if self.phase is not Phase.READING:
            self.deadline_s = now_s + (LINE_S if self.lines.begun else IDLE_S)
        self.phase = Phase.READING

    def answer(self, data: bytes, now_s: float) -> None:
        """Begin to write; :meth:`write` goes on."""
        self._answer = memoryview(data)
        self.phase = Phase.WRITING
        self.deadline_s = now_s + WRITE_S

    def write(self) -> bool:
        """Whether all is written."""
        while self._answer:
            try:
                sent = self.stream.send(self._answer)
            except BlockingIOError:
                return False
            self._answer = self._answer[sent:]
        return True

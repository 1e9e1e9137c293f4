"""One connection: so many bytes to ask in, so long to ask and to take the answer; whoever needs more is given up."""

from __future__ import annotations

import select
import socket
from typing import TYPE_CHECKING

from oomd.outside.metrics.respond import refuse

if TYPE_CHECKING:
    from collections.abc import Callable

    Answer = Callable[[bytes], tuple[bytes, int]]
    """The head of a request to the bytes of its answer and their status."""

MOST_HEAD_BYTES = 8192
REQUEST_S = 5.0
"""For the whole head of a request, however slowly it drips."""
ANSWER_S = 10.0
"""For taking the whole answer; Prometheus gives up a scrape after as much."""
FAREWELL_S = 1.0
"""For the other end to close, once it has everything: closing at once, with bytes of it unread, could cost it the
answer.
"""
ASKING, TAKING, LEAVING = 0, 1, 2
_CHUNK = 4096


class Client:
    """A connection that was accepted just now. Never blocks."""

    def __init__(self, connection: socket.socket, answer: Answer, now_s: float) -> None:
        connection.setblocking(False)
        self._connection = connection
        self._answer = answer
        self._head = bytearray()
        self._rest = memoryview(b"")
        self.phase = ASKING
        self.began_s = now_s
        self.due_s = now_s + REQUEST_S
        """When it is given up."""
        self.status = 0
        """Of its answer; 0 before there is one."""

    def fileno(self) -> int:
        """The descriptor to wait on."""
        return self._connection.fileno()

    @property
    def events(self) -> int:
        """What it waits for."""
        return select.POLLOUT if self.phase == TAKING else select.POLLIN

    def go_on(self, now_s: float) -> bool:
        """Do what can be done at once. False when the connection is over."""
        try:
            if self.phase == ASKING:
                return self._hear(now_s)
            if self.phase == TAKING:
                return self._say(now_s)
            return self._connection.recv(_CHUNK) != b""
        except BlockingIOError:
            return True
        except OSError:
            return False

    def close(self) -> None:
        """Hang up."""
        self._connection.close()

    def _hear(self, now_s: float) -> bool:
        data = self._connection.recv(_CHUNK)
        if not data:
            return False
        self._head += data
        head, end, _ = bytes(self._head).replace(b"\r\n", b"\n").partition(b"\n\n")
        if len(head) > MOST_HEAD_BYTES:
            said, self.status = refuse(431)
        elif end:
            said, self.status = self._answer(head + end)
        else:
            return True
        self._head.clear()
        self._rest = memoryview(said)
        self.phase, self.due_s = TAKING, now_s + ANSWER_S
        return self._say(now_s)

    def _say(self, now_s: float) -> bool:
        while self._rest:
            self._rest = self._rest[self._connection.send(self._rest) :]
        self._connection.shutdown(socket.SHUT_WR)
        self.phase, self.due_s = LEAVING, now_s + FAREWELL_S
        return True

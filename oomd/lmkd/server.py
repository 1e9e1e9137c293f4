"""The control socket: clients, their packets and their subscriptions. Nothing here ever waits for a client."""

from __future__ import annotations

import _socket  # the C module alone: `socket` costs the killer 0.65 MiB
import select
import struct

from oomd.lmkd.registry import ERROR, Sender
from oomd.model.units import SECOND_US
from oomd.model.values import dataclass, field

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Hashable
    from typing import Protocol

    class Watches(Protocol):
        """Where descriptors are waited for."""

        def watch(self, fd: int, key: Hashable, events: int = ...) -> None:
            """Wake up when ``fd`` is ready."""

        def unwatch(self, fd: int) -> None:
            """Forget it."""

    class Answers(Protocol):
        """What is done with a packet."""

        def meet(self, sender: Sender) -> None:
            """Somebody speaks over a connection for the first time."""

        def answer(self, data: bytes, sender: Sender, client: Client) -> bytes:
            """Carry it out; the reply, empty for none, or for one that comes later."""

        def disown(self, owner: int) -> None:
            """This client is gone."""


KEY = "lmkd"
"""The loop's keys are (KEY, descriptor)."""
MOST_CLIENTS = 3
"""The framework, init, and a test."""
MOST_PACKETS = 64
"""Of one client per round of the loop: a flood must not keep it from looking at memory."""
MOST_LEFT = 1024
"""Of one client that has hung up: what it sent before is still dealt with, as far as a socket's buffer reaches."""
MOST_BYTES = 4096
"""What is read of a packet: more than any is long, so that its real length can be told."""
INFO, WARNING = "I", "W"
_CREDENTIALS = struct.Struct("=iII")
_ANCILLARY_BYTES = _socket.CMSG_SPACE(_CREDENTIALS.size)
"""Room for credentials and nothing else: descriptors that a client encloses are dropped by the kernel."""


@dataclass(slots=True)
class Client:
    """One connection."""

    socket: _socket.socket
    server: Server
    sender: int | None = None
    """The pid in its last packet; None before the first."""
    subscriptions: set[int] = field(default_factory=set)
    waits: bool = False
    """For an answer that comes later; what it sends meanwhile is read after that."""

    def reply_later(self) -> Callable[[bytes], None]:
        """What the answer is given to, once; until then nothing more is read of this client, so that answers come in
        the order of questions.
        """
        return self.server.put_off(self)


class Server:
    """Owns the listening socket and the connections."""

    def __init__(
        self,
        listener_fd: int,
        watches: Watches,
        answers: Answers,
        say: Callable[[str, str], None],
        *,
        replaces: bool,
        most_clients: int = MOST_CLIENTS,
    ) -> None:
        """``listener_fd``: bound, SOCK_SEQPACKET; it becomes ours. ``replaces``: one client too many closes all others,
        as in the original; else it is the newcomer that is closed.
        """
        self._listener = _socket.socket(fileno=listener_fd)
        self._listener.setblocking(False)
        self._listener.setsockopt(_socket.SOL_SOCKET, _socket.SO_PASSCRED, 1)
        self._watches = watches
        self._answers = answers
        self._say = say
        self._replaces = replaces
        self._most = most_clients
        self._clients: dict[int, Client] = {}
        self.undelivered = 0
        """Replies and notices that a client did not take in time."""

    def start(self) -> None:
        """Take connections from now on."""
        self._listener.listen(MOST_CLIENTS)
        self._watches.watch(self._listener.fileno(), (KEY, self._listener.fileno()))

    @property
    def clients(self) -> int:
        """Connections that are open."""
        return len(self._clients)

    def on_event(self, fd: int, *, lost: bool) -> None:
        """A descriptor of ours is ready."""
        if fd == self._listener.fileno():
            self._accept()
        elif fd in self._clients:
            if lost:
                self._receive(fd, MOST_LEFT)
                self._drop(fd)
            elif not self._clients[fd].waits:
                self._receive(fd, MOST_PACKETS)

    def put_off(self, client: Client) -> Callable[[bytes], None]:
        """Read nothing more of this client until its answer is there; what that is given to."""
        client.waits = True
        fd = client.socket.fileno()
        self._watches.unwatch(fd)

        def reply(data: bytes) -> None:
            client.waits = False
            if self._clients.get(fd) is client:
                self._watches.watch(fd, (KEY, fd))
                self._write(client, data)

        return reply

    def send(self, what: int, data: bytes) -> None:
        """A notice for whoever subscribed to this."""
        for client in list(self._clients.values()):
            if what in client.subscriptions:
                self._write(client, data)

    def close(self) -> None:
        """Close everything."""
        for fd in list(self._clients):
            self._drop(fd)
        self._watches.unwatch(self._listener.fileno())
        self._listener.close()

    def _accept(self) -> None:
        self._drop_hung_up()  # a client that comes back in the same round is one, not two
        try:
            fd, _ = self._listener._accept()  # type: ignore[attr-defined]  # noqa: SLF001 - `socket` wraps just this
        except OSError:  # nobody any more, or no descriptor left: it stays in the queue
            return
        connection = _socket.socket(fileno=fd)
        connection.setblocking(False)
        if len(self._clients) >= self._most:
            if not self._replaces:
                connection.close()
                self._say(WARNING, f"a client was refused: there are {self._most} already")
                return
            for other in list(self._clients):
                self._drop(other)
        self._clients[fd] = Client(connection, self)
        self._watches.watch(fd, (KEY, fd))
        self._say(INFO, "lmkd data connection established")

    def _receive(self, fd: int, most: int) -> None:
        for _ in range(most):
            client = self._clients.get(fd)
            if client is None or client.waits:
                return
            try:
                data, ancillary, _, _ = client.socket.recvmsg(MOST_BYTES, _ANCILLARY_BYTES)
            except BlockingIOError:
                return
            except OSError:
                self._drop(fd)
                return
            sender = _sender_of(ancillary)
            if sender is None:  # the end of the stream
                self._say(INFO, "lmkd data connection dropped")
                self._drop(fd)
                return
            if sender.pid <= 0:
                self._say(ERROR, "a client of another PID namespace was dropped: it cannot be told from others")
                self._drop(fd)
                return
            if client.sender != sender.pid:
                client.sender = sender.pid
                self._answers.meet(sender)
            if not data:
                self._say(ERROR, "Got EOF on control data socket")
            else:
                reply = self._answers.answer(data, sender, client)
                if reply:
                    self._write(client, reply)

    def _write(self, client: Client, data: bytes) -> None:
        try:
            client.socket.send(data, _socket.MSG_NOSIGNAL | _socket.MSG_DONTWAIT)
        except OSError:  # it does not read, or is gone, which the next event tells
            self.undelivered += 1

    def _drop(self, fd: int) -> None:
        client = self._clients.pop(fd, None)
        if client is None:
            return
        self._watches.unwatch(fd)
        client.socket.close()
        self._say(INFO, "closing lmkd data connection")
        others = {each.sender for each in self._clients.values()}
        if client.sender is not None and client.sender not in others:
            self._answers.disown(client.sender)

    def _drop_hung_up(self) -> None:
        poll = select.poll()
        for fd in self._clients:
            poll.register(fd, 0)
        for fd, _ in poll.poll(0) if self._clients else ():
            self._receive(fd, MOST_LEFT)
            self._drop(fd)


def _sender_of(ancillary: list[tuple[int, int, bytes]]) -> Sender | None:
    for level, kind, data in ancillary:
        if (level, kind) == (_socket.SOL_SOCKET, _socket.SCM_CREDENTIALS) and len(data) >= _CREDENTIALS.size:
            pid, uid, _ = _CREDENTIALS.unpack_from(data)
            return Sender(pid, uid)
    return None


class Throttle:
    """Passes on at most so many lines per second; what is beyond is counted, and told with the next one that passes."""

    def __init__(self, say: Callable[[str, str], None], clock_us: Callable[[], int], most: int = 20) -> None:
        self._say = say
        self._clock_us = clock_us
        self._most = most
        self._second_ends_us = 0
        self._told = 0
        self._untold = 0

    def say(self, letter: str, text: str) -> None:
        """Tell it, or count it."""
        now = self._clock_us()
        if now >= self._second_ends_us:
            self._second_ends_us, self._told = now + SECOND_US, 0
            if self._untold:
                self._say(WARNING, f"{self._untold} more lines of which nothing was told")
                self._untold = 0
        if self._told >= self._most:
            self._untold += 1
            return
        self._told += 1
        self._say(letter, text)

"""The control socket: JSON lines, for whoever the kernel says may ask. One thread with one selector.

A client costs at most one request, one answer and some seconds, however slowly it speaks, whether it reads or not, and
however many there are; the killer is asked no more often than the desk lets it.
"""

from __future__ import annotations

import collections
import contextlib
import os
import selectors
import threading
import time
from typing import TYPE_CHECKING

from oomd.outside import lines
from oomd.outside.desk import READING
from oomd.outside.guest import CHUNK, REQUESTS_AT_ONCE, REQUESTS_PER_S, Bucket, Guest, Phase
from oomd.outside.peers import peer_of

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from oomd.model.report import Plain
    from oomd.outside.desk import Desk
    from oomd.outside.doorway import Doorway
    from oomd.outside.peers import Peer, Rights

MOST_CLIENTS = 32
MOST_OF_ONE = 8
"""Clients of one user who is not root."""
RESERVED = 8
"""Places that are root's."""
ACCEPTS_PER_S = 50.0
ACCEPTS_AT_ONCE = 64
CHANGERS_WEIGHT = 5
"""So many times as much is granted to who may change something: all of root's tools together are one user."""
MOST_USERS = 64
"""Whose requests are counted; whoever did not ask lately is forgotten."""
CHECK_S, WATCHED_CHECK_S = 5.0, 300.0
"""How often it is looked whether the socket is still in its place; and where the kernel tells when something there is
removed, which is all but that the directory itself is renamed.
"""
STOP_S = 1.0
TELL_S = 10.0
"""How often it is told that somebody was refused a change."""


class Control:
    """Serves the socket."""

    def __init__(self, doorway: Doorway, rights: Rights, say: Callable[[str], object], *, told: bool = False) -> None:
        """``say`` tells people something. ``told``: :meth:`check` is called when SIGIO arrives."""
        self._doorway = doorway
        self._told = told
        self._watched = False
        """Whether the kernel tells of changes beside the socket."""
        self._suspect = False
        self.rights = rights
        self._say = say
        self._desk: Desk | None = None
        self._selector = selectors.DefaultSelector()
        self._jobs: collections.deque[Callable[[], object]] = collections.deque()
        self._wake_fd, self._waker_fd = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._selector.register(self._wake_fd, selectors.EVENT_READ, "wake")
        self._listener: socket.socket | None = None
        self._guests: dict[int, Guest] = {}
        self._users: dict[int, Bucket] = {}
        self._accepts = Bucket(ACCEPTS_PER_S, ACCEPTS_AT_ONCE, time.monotonic())
        self._closed_until_s = 0.0
        """Nobody is let in before: too many came."""
        self._check_s = 0.0
        self._told_s = float("-inf")
        self._failed = ""
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="control", daemon=True)

    def start(self, desk: Desk) -> None:
        """Begin, in a thread of its own."""
        self._desk = desk
        self._thread.start()

    def call_soon(self, job: Callable[[], object]) -> None:
        """Have it done in our thread; from any."""
        self._jobs.append(job)
        self.wake()

    def wake(self) -> None:
        """There is something to do; from any thread."""
        with contextlib.suppress(OSError):  # full: it wakes up anyway
            os.write(self._waker_fd, b"!")

    def check(self) -> None:
        """The socket may not be in its place any more; from a signal's handler."""
        self._suspect = True
        self.wake()

    def stop(self) -> None:
        """End; the socket is removed."""
        self._stopping = True
        self.wake()
        if self._thread.is_alive():
            self._thread.join(STOP_S)
        self._doorway.remove()

    def _run(self) -> None:
        while not self._stopping:
            try:
                self.step()
            except Exception as error:  # noqa: BLE001 - told, and costs a moment, not the socket
                self._say(f"control: a bug: {error!r}")
                time.sleep(STOP_S)
        self._close()

    def step(self, timeout_s: float | None = None) -> None:
        """Wait for one thing and do it."""
        assert self._desk is not None
        now_s = time.monotonic()
        self._keep_open(now_s)
        self._end_waits(now_s)
        wait_s = max(0.0, self._next_s() - time.monotonic())
        for key, _ in self._selector.select(wait_s if timeout_s is None else min(wait_s, timeout_s)):
            if key.data == "wake":
                with contextlib.suppress(BlockingIOError):
                    os.read(self._wake_fd, CHUNK)
            elif key.data == "listener":
                self._accept()
            elif key.data in self._guests:
                self._serve(self._guests[key.data])
        for _ in range(len(self._jobs)):  # and no more: each may bring another
            self._jobs.popleft()()
        self._desk.save()

    def _next_s(self) -> float:
        """When something is due."""
        waits = [guest.deadline_s for guest in self._guests.values()]
        return min(self._check_s, self._closed_until_s or float("inf"), *waits)

    def _keep_open(self, now_s: float) -> None:
        """Listen, at the place where clients look."""
        if self._suspect:
            self._suspect, self._check_s = False, now_s
        if self._listener is not None and now_s >= self._check_s and not self._doorway.is_there():
            self._shut()
        if self._listener is None and now_s >= self._check_s:
            self._watched = False
            try:
                self._listener = self._doorway.open()
                self._watched = self._told and self._doorway.watch()
                self._failed = ""
            except OSError as error:
                if self._failed != str(error):
                    self._failed = str(error)
                    self._say(f"no control socket: {self._doorway.path}: {error.strerror or error}")
            else:
                self._selector.register(self._listener, selectors.EVENT_READ, "listener")
                self._closed_until_s = 0.0
        if now_s >= self._check_s:
            self._check_s = now_s + (WATCHED_CHECK_S if self._watched else CHECK_S)
        if self._closed_until_s and now_s >= self._closed_until_s:
            self._closed_until_s = 0.0
            if self._listener is not None:
                self._selector.register(self._listener, selectors.EVENT_READ, "listener")

    def _shut(self) -> None:
        assert self._listener is not None
        with contextlib.suppress(KeyError):
            self._selector.unregister(self._listener)
        self._listener.close()
        self._listener = None

    def _accept(self) -> None:
        assert self._listener is not None
        now_s = time.monotonic()
        wait_s = self._accepts.take(now_s)
        if wait_s:
            self._selector.unregister(self._listener)
            self._closed_until_s = now_s + wait_s
            return
        try:
            stream, _ = self._listener.accept()
        except OSError:
            return
        try:
            stream.setblocking(False)
            self._let_in(Guest(stream, peer_of(stream), now_s))
        except OSError:
            stream.close()

    def _let_in(self, guest: Guest) -> None:
        """Raises OSError."""
        refusal = self._why_not(guest.peer)
        if refusal is not None:
            guest.stream.send(lines.encode(refusal))
            guest.stream.close()
            return
        fd = guest.stream.fileno()
        self._guests[fd] = guest
        self._selector.register(fd, selectors.EVENT_READ, fd)

    def _why_not(self, peer: Peer) -> Plain | None:
        if not self.rights.may_read(peer):
            text = f"{peer.words} may not ask; {self.rights.readers} may"
            return lines.bad(None, lines.NOT_PERMITTED, text)
        most = MOST_CLIENTS if self.rights.may_change(peer) else MOST_CLIENTS - RESERVED
        of_one = sum(guest.peer.uid == peer.uid for guest in self._guests.values())
        if len(self._guests) >= most or (of_one >= MOST_OF_ONE and not self.rights.may_change(peer)):
            return lines.bad(None, lines.TOO_MANY, "too many clients")
        return None

    def _serve(self, guest: Guest) -> None:
        """It is ready for what it waits for."""
        now_s = time.monotonic()
        try:
            if guest.phase is Phase.WRITING:
                if guest.write():
                    self._after_answer(guest)
            elif not guest.read(now_s):
                self._drop(guest)
            else:
                self._take_request(guest)
        except OSError:
            self._drop(guest)

    def _take_request(self, guest: Guest) -> None:
        """The next request, if it is there as a whole and its turn. Raises OSError."""
        now_s = time.monotonic()
        try:
            line = guest.lines.take()
        except lines.BadRequest as error:
            guest.last = True  # where the next request would begin nobody knows
            self._answer(guest, lines.bad(None, lines.BAD_REQUEST, str(error)))
            return
        if line is None:
            guest.wait_for_request(now_s)
            self._listen_to(guest, selectors.EVENT_READ)
            return
        self._listen_to(guest, 0)  # what it says meanwhile waits in the kernel, and so does it
        wait_s = self._bucket_of(guest.peer, now_s).take(now_s)
        if wait_s:
            guest.lines.put_back(line)
            guest.phase, guest.deadline_s = Phase.RESTING, now_s + wait_s
            return
        self._handle(guest, line, now_s)

    def _handle(self, guest: Guest, line: bytes, now_s: float) -> None:
        assert self._desk is not None
        guest.turn += 1
        guest.served_s = now_s
        try:
            request = lines.parse_request(line)
        except lines.BadRequest as error:
            self._answer(guest, lines.bad(error.identity, lines.BAD_REQUEST, str(error)))
            return
        guest.request_id = request.id
        if request.name not in READING and not self.rights.may_change(guest.peer):
            self._refuse(guest, request.name, now_s)
            return
        guest.phase, guest.deadline_s = Phase.ASKING, now_s + self._desk.patience_s(request)
        turn = guest.turn
        self._desk.handle(request, guest.peer, lambda content: self._done(guest, turn, content))

    def _refuse(self, guest: Guest, name: str, now_s: float) -> None:
        words = f"{guest.peer.words} may not {name.replace('_', '-')}; {self.rights.changers} may"
        if now_s >= self._told_s + TELL_S:
            self._told_s = now_s
            self._say(f"control: {words}")
        self._answer(guest, lines.bad(guest.request_id, lines.NOT_PERMITTED, words))

    def _done(self, guest: Guest, turn: int, content: Plain) -> None:
        """The answer to a request that may be over, of a client that may be gone."""
        if guest.phase is Phase.ASKING and guest.turn == turn and self._guests.get(guest.stream.fileno()) is guest:
            try:
                self._answer(guest, {**content, "version": lines.VERSION, "id": guest.request_id})
            except OSError:
                self._drop(guest)

    def _answer(self, guest: Guest, answer: Plain) -> None:
        """Raises OSError."""
        guest.answer(lines.encode(answer), time.monotonic())
        if guest.write():
            self._after_answer(guest)
        else:
            self._listen_to(guest, selectors.EVENT_WRITE)

    def _after_answer(self, guest: Guest) -> None:
        """Raises OSError."""
        if guest.last:
            self._drop(guest)
            return
        guest.phase = Phase.BETWEEN
        self.call_soon(lambda: self._go_on(guest))

    def _go_on(self, guest: Guest) -> None:
        """Not from within the answer: a client with a thousand requests at once must not fill the stack, nor the whole
        time.
        """
        if self._guests.get(guest.stream.fileno()) is guest:
            try:
                self._take_request(guest)
            except OSError:
                self._drop(guest)

    def _end_waits(self, now_s: float) -> None:
        due = [guest for guest in self._guests.values() if guest.deadline_s <= now_s]
        for guest in sorted(due, key=lambda guest: guest.served_s):  # who waited longest comes first
            if guest.phase is Phase.RESTING:
                self._go_on(guest)
            elif guest.phase is Phase.ASKING:
                guest.turn += 1
                text = "the killer does not answer in time"
                with contextlib.suppress(OSError):
                    self._answer(guest, lines.bad(guest.request_id, lines.NO_ANSWER, text))
                    continue
                self._drop(guest)
            else:
                self._drop(guest)

    def _bucket_of(self, peer: Peer, now_s: float) -> Bucket:
        if len(self._users) >= MOST_USERS:
            self._users = {uid: bucket for uid, bucket in self._users.items() if not bucket.is_full(now_s)}
        weight = CHANGERS_WEIGHT if self.rights.may_change(peer) else 1
        fresh = Bucket(weight * REQUESTS_PER_S, weight * REQUESTS_AT_ONCE, now_s)
        return self._users.setdefault(peer.uid, fresh)

    def _listen_to(self, guest: Guest, events: int) -> None:
        fd = guest.stream.fileno()
        known = self._selector.get_map().get(fd)
        if known is not None and known.events != events:
            self._selector.unregister(fd)
            known = None
        if events and known is None:
            self._selector.register(fd, events, fd)

    def _drop(self, guest: Guest) -> None:
        fd = guest.stream.fileno()
        if self._guests.pop(fd, None) is None:
            return
        with contextlib.suppress(KeyError):
            self._selector.unregister(fd)
        guest.stream.close()

    def _close(self) -> None:
        for guest in list(self._guests.values()):
            self._drop(guest)
        if self._listener is not None:
            self._shut()
        self._selector.close()
        os.close(self._wake_fd)
        os.close(self._waker_fd)

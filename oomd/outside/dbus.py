"""A connection with the system's message bus: calls that end in time, an object that is served, signals. It comes back
by itself. The only module that knows jeepney.

One thread reads, another does what callers ask of the object, so that a method may take its time. Who calls is the
bus's affair (its policy); here every caller gets the same.
"""

from __future__ import annotations

import array
import contextlib
import itertools
import queue
import socket
import struct
import threading
import time
from typing import TYPE_CHECKING, Any

from jeepney import (
    DBusAddress,
    HeaderFields,
    MessageFlag,
    MessageType,
    new_error,
    new_method_call,
    new_method_return,
    new_signal,
)
from jeepney.bus import get_bus
from jeepney.fds import FileDescriptor, fds_buf_size
from jeepney.io.blocking import prep_socket
from jeepney.low_level import Message, calc_msg_size

from oomd.outside.served import find_method

if TYPE_CHECKING:
    from collections.abc import Callable

    from oomd.outside.served import Served

AUTH_S = 5.0
SEND_S = 5
"""How long a bus that does not read holds up whoever sends; then the connection is given up."""
RETRY_S = 5.0
CALL_S = 25.0
"""The reference library's own patience."""
HEAD_BYTES = 16
"""Of a message; they tell how long it is."""
MOST_BYTES = 64 * 1024
"""Nothing that is asked or answered here is longer; what is goes unread, so that nobody fills our memory."""
MOST_WAITING = 16
"""Calls and signals that wait for their turn."""
DO_NOT_QUEUE = 4
OWNED = (1, 4)
"""Answers to RequestName: it is ours, now or already."""
_BUS = DBusAddress("/org/freedesktop/DBus", "org.freedesktop.DBus", "org.freedesktop.DBus")
_ERRORS = "org.freedesktop.DBus.Error."


class BusError(Exception):
    """A call that failed, or that nobody answered in time; the message says why."""


class _Link:
    """Messages on a stream. One thread reads and closes it, any may send or hang up."""

    def __init__(self, stream: socket.socket) -> None:
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", SEND_S, 0))
        self._stream = stream
        self._sending = threading.Lock()
        self.serials = itertools.count(1)

    def send(self, message: Message, serial: int | None = None) -> None:
        """Raises OSError; then a part may have been sent."""
        fds = array.array("i")
        data = message.serialise(serial=next(self.serials) if serial is None else serial, fds=fds)
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, fds)] if fds else []
        with self._sending:
            sent = self._stream.sendmsg([data], rights)
            if sent < len(data):
                self._stream.sendall(data[sent:])

    def receive(self) -> Message:
        """The next message that is not too long. Raises OSError at the end, ValueError and others for what is none."""
        while True:
            fds: list[FileDescriptor] = []
            try:
                head = self._read(HEAD_BYTES, fds)
                size = calc_msg_size(head)
                if size <= MOST_BYTES:
                    return Message.from_buffer(head + self._read(size - HEAD_BYTES, fds), fds)
                for at in range(HEAD_BYTES, size, MOST_BYTES):
                    self._read(min(MOST_BYTES, size - at), fds)
            finally:
                for fd in fds:  # nobody here asks for any
                    fd.close()

    def hang_up(self) -> None:
        """Let whoever reads see the end."""
        with contextlib.suppress(OSError):
            self._stream.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Nothing can be sent any more."""
        self._stream.close()

    def _read(self, length: int, fds: list[FileDescriptor]) -> bytes:
        data = b""
        while len(data) < length:
            more, ancillary, _, _ = self._stream.recvmsg(length - len(data), fds_buf_size())
            fds += FileDescriptor.from_ancdata(ancillary)
            if not more:
                raise ConnectionResetError
            data += more
        return data


class Bus:
    """One connection. Any thread may use it."""

    def __init__(self, say: Callable[[str], object], *, address: str = "SYSTEM", served: Served | None = None) -> None:
        """``say`` tells people something, each thing once in a row. ``address``: as in DBUS_SYSTEM_BUS_ADDRESS."""
        self._say = say
        self._said = ""
        self._address = address
        self._served = served
        self._news = threading.Condition()
        self._link: _Link | None = None
        """What is read."""
        self._connection: _Link | None = None
        """The same, once it is known by name."""
        self._closing = False
        self._asked: dict[int, queue.SimpleQueue[Message | None]] = {}
        self._work: queue.Queue[Callable[[], object] | None] = queue.Queue(MOST_WAITING)
        self._threads = [
            threading.Thread(target=run, name=name, daemon=True)
            for run, name in ((self._keep_connected, "dbus"), (self._do_work, "dbus-work"))
        ]

    def start(self) -> None:
        """Connect, and again whenever the connection is lost, in threads that end with the process."""
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """Hang up for good."""
        with self._news:
            self._closing = True
            link = self._link
            self._news.notify_all()
        if link is not None:
            link.hang_up()
        self._work.put(None)
        for thread in self._threads:
            thread.join()

    def call(
        self,
        name: str,
        path: str,
        interface: str,
        method: str,
        signature: str = "",
        body: tuple[Any, ...] = (),
        timeout_s: float = CALL_S,
    ) -> tuple[Any, ...]:
        """Call a method and wait for its answer; a connection that is not there yet is waited for as well. Raises
        BusError.
        """
        end_s = time.monotonic() + timeout_s
        with self._news:
            if not self._news.wait_for(lambda: self._connection is not None, timeout_s):
                raise BusError(self._said or "there is no connection with the bus")
            connection = self._connection
        assert connection is not None
        message = new_method_call(DBusAddress(path, name, interface), method, signature or None, body)
        return self._ask(connection, message, max(0.0, end_s - time.monotonic()))

    def emit(self, signal: str, *body: object) -> bool:
        """Have a signal of the served object sent, as soon as its turn comes; whether it may be."""
        served = self._served
        assert served is not None
        message = new_signal(DBusAddress(served.path, None, served.interface), signal, served.signals[signal], body)
        if self._connection is None:
            return False
        try:
            self._work.put_nowait(lambda: self._send(message))
        except queue.Full:
            return False
        return True

    def _keep_connected(self) -> None:
        while not self._closing:
            connection = self._connect()
            if connection is not None:
                self._read(connection)
            with self._news:
                self._link = self._connection = None
                for box in self._asked.values():
                    box.put(None)
                if not self._closing:
                    self._news.wait_for(lambda: self._closing, RETRY_S)

    def _connect(self) -> _Link | None:
        """A connection that has said Hello and reads; its name is asked for by the other thread."""
        try:
            stream = prep_socket(get_bus(self._address), enable_fds=True, timeout=AUTH_S)
        except Exception as error:  # noqa: BLE001 - a bus that is not there yet, or says something else
            self._once(f"no connection with the bus: {_words(error)}")
            return None
        connection = _Link(stream)
        with self._news:
            self._link = connection
        try:
            self._work.put_nowait(lambda: self._begin(connection))
        except queue.Full:
            connection.close()
            return None
        return connection

    def _begin(self, connection: _Link) -> None:
        """Introduce ourselves, and take the name of the object."""
        why = ""
        try:
            self._ask(connection, new_method_call(_BUS, "Hello"), AUTH_S)
            if self._served is not None:
                body = (self._served.name, DO_NOT_QUEUE)
                (answer,) = self._ask(connection, new_method_call(_BUS, "RequestName", "su", body), AUTH_S)
                why = "" if answer in OWNED else f"somebody else has the name {self._served.name}"
        except BusError as error:
            why = f"no connection with the bus: {error}"
        if why:
            self._once(why)
            connection.hang_up()
            return
        with self._news:
            self._connection = connection
            self._said = ""
            self._news.notify_all()

    def _read(self, connection: _Link) -> None:
        """Until it is lost, or somebody hangs up."""
        with contextlib.suppress(Exception):  # whatever the bus sent that cannot be read is its end
            while True:
                self._take(connection, connection.receive())
        connection.close()

    def _take(self, connection: _Link, message: Message) -> None:
        kind, fields = message.header.message_type, message.header.fields
        if kind in (MessageType.method_return, MessageType.error):
            with self._news:
                box = self._asked.get(fields.get(HeaderFields.reply_serial, 0))
            if box is not None:
                box.put(message)
        elif kind is MessageType.method_call:
            try:
                self._work.put_nowait(lambda: self._answer(connection, message))
            except queue.Full:
                self._reply(connection, message, _refusal(message, "LimitsExceeded", "too many calls at a time"))

    def _answer(self, connection: _Link, message: Message) -> None:
        """Do what was asked for."""
        given: tuple[Any, ...] = ()
        fields = message.header.fields
        where = (fields.get(field) for field in (HeaderFields.path, HeaderFields.interface, HeaderFields.member))
        try:
            method = find_method(self._served, *where)
        except LookupError as error:
            self._reply(connection, message, _refusal(message, "UnknownMethod", str(error.args[0])))
            return
        try:
            if fields.get(HeaderFields.signature, "") != method.takes:
                reply = _refusal(message, "InvalidArgs", f"takes {method.takes or 'no arguments'}")
            else:
                given = method.call(*message.body)
                reply = new_method_return(message, method.gives or None, given)
        except BusError as error:
            reply = _refusal(message, "Failed", str(error))
        except Exception as error:  # noqa: BLE001 - an answer is owed in any case
            reply = _refusal(message, "Failed", repr(error))
        self._reply(connection, message, reply)
        for value in given:
            if hasattr(value, "close"):
                value.close()

    def _ask(self, connection: _Link, message: Message, timeout_s: float) -> tuple[Any, ...]:
        box: queue.SimpleQueue[Message | None] = queue.SimpleQueue()
        serial = next(connection.serials)
        with self._news:
            self._asked[serial] = box
        try:
            self._send(message, connection, serial)
            reply = box.get(timeout=timeout_s)
        except queue.Empty:
            raise BusError(f"no answer within {timeout_s:.0f} s") from None
        except OSError as error:
            raise BusError(_words(error)) from error
        finally:
            with self._news:
                self._asked.pop(serial, None)
        if reply is None:
            raise BusError("the connection with the bus was lost")
        if reply.header.message_type is MessageType.error:
            text = reply.body[0] if reply.body and isinstance(reply.body[0], str) else ""
            raise BusError(text or reply.header.fields.get(HeaderFields.error_name, "failed"))
        return tuple(reply.body)

    def _reply(self, connection: _Link, message: Message, reply: Message) -> None:
        if not message.header.flags & MessageFlag.no_reply_expected:
            with contextlib.suppress(OSError):
                self._send(reply, connection)

    def _send(self, message: Message, connection: _Link | None = None, serial: int | None = None) -> None:
        """Raises OSError; what was sent in part ends the connection."""
        connection = connection or self._connection
        if connection is None:
            return
        try:
            connection.send(message, serial)
        except OSError:
            connection.hang_up()
            raise

    def _do_work(self) -> None:
        while (work := self._work.get()) is not None:
            with contextlib.suppress(OSError):  # the connection is lost, and its thread knows
                work()

    def _once(self, text: str) -> None:
        if text != self._said and not self._closing:
            self._said = text
            self._say(text)


def _refusal(message: Message, name: str, text: str) -> Message:
    return new_error(message, _ERRORS + name, "s", (text,))


def _words(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__

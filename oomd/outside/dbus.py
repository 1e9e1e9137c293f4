"""D-Bus: one connection, over which calls are made, properties read, signals sent, and calls of others taken. The only
module that knows jeepney.
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
    Properties,
    new_error,
    new_method_call,
    new_method_return,
    new_signal,
)
from jeepney.bus import get_bus
from jeepney.fds import FileDescriptor, fds_buf_size
from jeepney.io.blocking import prep_socket
from jeepney.low_level import Message, calc_msg_size

from oomd.model.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Self

SYSTEM = "SYSTEM"
"""The system's bus: DBUS_SYSTEM_BUS_ADDRESS, else where the specification puts it."""
BUS = ("org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus")
"""Service, path and interface of the bus itself."""
AUTH_S = 2.0
"""How long a bus may take to let us in: one that hangs or starves is no bus."""
SEND_S = 5
"""How long a bus that does not read holds up whoever sends; then the connection is given up."""
HEAD_BYTES = 16
"""Of a message; they tell how long it is."""
MOST_BYTES = 64 * 1024
"""Nothing that is asked or answered here is longer; what is goes unread, so that nobody fills our memory."""


class BusError(Exception):
    """There is no bus, nobody answers there, or the answer is an error; the message says which, and what it said."""

    def __init__(self, text: str, name: str = "") -> None:
        """``name``: of the error, as ``org.freedesktop.DBus.Error.AccessDenied``."""
        super().__init__(text)
        self.name = name


@dataclass(frozen=True, slots=True)
class Call:
    """Somebody calls us. Exactly one of :meth:`reply` and :meth:`refuse` is owed; neither raises."""

    path: str
    interface: str | None
    member: str
    signature: str
    arguments: tuple[Any, ...]
    bus: Bus
    message: Any

    def reply(self, signature: str = "", values: tuple[Any, ...] = ()) -> None:
        """With these values; a file stands for its descriptor."""
        try:
            self._answer(new_method_return(self.message, signature or None, values))
        except Exception as error:  # noqa: BLE001 - values that do not fit: an answer is owed all the same
            self.refuse("Failed", repr(error))

    def refuse(self, name: str, text: str) -> None:
        """With an error of this name among those of the bus."""
        self._answer(new_error(self.message, f"{BUS[0]}.Error.{name}", "s", (text,)))

    def _answer(self, message: Message) -> None:
        if not self.message.header.flags & MessageFlag.no_reply_expected:
            with contextlib.suppress(OSError):
                self.bus.send(message)


class Bus:
    """A connection to a bus, with a thread that reads. Any thread may use it; every method raises BusError."""

    def __init__(
        self,
        address: str = SYSTEM,
        *,
        descriptors: bool = False,
        on_call: Callable[[Call], object] | None = None,
    ) -> None:
        """``address``: ``SYSTEM``, ``SESSION``, or one as in ``unix:path=/run/dbus/system_bus_socket``.
        ``descriptors``: whether any are to be sent. ``on_call`` takes calls of others, in the thread that reads.
        """
        try:
            self._stream = prep_socket(get_bus(address), enable_fds=descriptors, timeout=AUTH_S)
        except Exception as error:  # the library's own errors have no common ancestor
            raise _no_bus(address, str(error) or type(error).__name__) from error
        self._stream.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", SEND_S, 0))
        self._on_call = on_call
        self._serials = itertools.count(1)
        self._sending, self._asking = threading.Lock(), threading.Lock()
        self._asked: dict[int, queue.SimpleQueue[Message | None]] = {}
        self._lost = threading.Event()
        self._reader = threading.Thread(target=self._read, name="dbus", daemon=True)
        self._reader.start()
        try:
            self.call(*BUS, "Hello", timeout_s=AUTH_S)
        except BusError as error:
            self.close()
            raise _no_bus(address, str(error)) from error

    def call(
        self,
        service: str,
        path: str,
        interface: str,
        method: str,
        arguments: tuple[Any, ...] = (),
        *,
        signature: str = "",
        timeout_s: float,
    ) -> tuple[Any, ...]:
        """What the method returns. ``signature``: of the arguments."""
        address = DBusAddress(path, bus_name=service, interface=interface)
        return self._ask(new_method_call(address, method, signature or None, arguments), timeout_s, method)

    def read_property(self, service: str, path: str, interface: str, name: str, *, timeout_s: float) -> object:
        """The value of a property."""
        address = DBusAddress(path, bus_name=service, interface=interface)
        ((_, value),) = self._ask(Properties(address).get(name), timeout_s, name)
        found: object = value
        return found

    def emit(
        self, path: str, interface: str, name: str, arguments: tuple[Any, ...] = (), *, signature: str = ""
    ) -> None:
        """Send a signal to whoever listens."""
        emitter = DBusAddress(path, interface=interface)
        try:
            self.send(new_signal(emitter, name, signature or None, arguments))
        except (OSError, ValueError) as error:
            raise BusError(f"{name}: {error}") from error

    def send(self, message: Message, serial: int | None = None) -> None:
        """Raises OSError; what was sent in part ends the connection."""
        fds = array.array("i")
        data = message.serialise(serial=next(self._serials) if serial is None else serial, fds=fds)
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, fds)] if fds else []
        try:
            with self._sending:
                sent = self._stream.sendmsg([data], rights)
                if sent < len(data):
                    self._stream.sendall(data[sent:])
        except OSError:
            self._hang_up()
            raise

    def wait_lost(self) -> None:
        """Until the connection has ended, by whomever."""
        self._lost.wait()

    def close(self) -> None:
        """Hang up."""
        self._hang_up()
        if threading.current_thread() is not self._reader:
            self._reader.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _ask(self, message: Message, timeout_s: float, what: str) -> tuple[Any, ...]:
        box: queue.SimpleQueue[Message | None] = queue.SimpleQueue()
        serial = next(self._serials)
        with self._asking:
            self._asked[serial] = box
            if self._lost.is_set():
                box.put(None)
        try:
            self.send(message, serial)
            reply = box.get(timeout=max(0.0, timeout_s))
        except queue.Empty:
            raise BusError(f"{what}: no answer within {timeout_s:.1f} s") from None
        except (OSError, ValueError) as error:
            raise BusError(f"{what}: {error}") from error
        finally:
            with self._asking:
                self._asked.pop(serial, None)
        if reply is None:
            raise BusError(f"{what}: the connection was lost")
        if reply.header.message_type is MessageType.error:
            name = str(reply.header.fields.get(HeaderFields.error_name, ""))
            text = reply.body[0] if reply.body and isinstance(reply.body[0], str) else name
            raise BusError(f"{what}: {text}", name)
        return tuple(reply.body)

    def _read(self) -> None:
        """Until the bus hangs up, or somebody of ours; whatever comes that cannot be read is the end, too."""
        with contextlib.suppress(Exception):
            while True:
                self._take(self._receive())
        with self._asking:
            self._lost.set()
            for box in self._asked.values():
                box.put(None)
        self._stream.close()

    def _take(self, message: Message) -> None:
        kind, fields = message.header.message_type, message.header.fields
        if kind in (MessageType.method_return, MessageType.error):
            with self._asking:
                box = self._asked.get(fields.get(HeaderFields.reply_serial, 0))
            if box is not None:
                box.put(message)
        elif kind is MessageType.method_call:
            call = Call(
                path=fields.get(HeaderFields.path, ""),
                interface=fields.get(HeaderFields.interface),
                member=fields.get(HeaderFields.member, ""),
                signature=fields.get(HeaderFields.signature, ""),
                arguments=tuple(message.body),
                bus=self,
                message=message,
            )
            if self._on_call is None:
                call.refuse("UnknownMethod", "nothing is offered here")
            else:
                self._on_call(call)

    def _receive(self) -> Message:
        """The next message that is not too long. Raises OSError at the end, ValueError and others for what is none."""
        while True:
            fds: list[FileDescriptor] = []
            try:
                head = self._read_bytes(HEAD_BYTES, fds)
                size = calc_msg_size(head)
                if size <= MOST_BYTES:
                    return Message.from_buffer(head + self._read_bytes(size - HEAD_BYTES, fds), fds)
                for at in range(HEAD_BYTES, size, MOST_BYTES):
                    self._read_bytes(min(MOST_BYTES, size - at), fds)
            finally:
                for fd in fds:  # nobody here asks for any
                    fd.close()

    def _read_bytes(self, length: int, fds: list[FileDescriptor]) -> bytes:
        data = b""
        while len(data) < length:
            more, ancillary, _, _ = self._stream.recvmsg(length - len(data), fds_buf_size())
            fds += FileDescriptor.from_ancdata(ancillary)
            if not more:
                raise ConnectionResetError
            data += more
        return data

    def _hang_up(self) -> None:
        """The thread that reads sees the end."""
        with contextlib.suppress(OSError):
            self._stream.shutdown(socket.SHUT_RDWR)


class Deadline:
    """What is left of a time limit."""

    def __init__(self, patience_s: float) -> None:
        self._end_s = time.monotonic() + patience_s

    @property
    def left_s(self) -> float:
        """Seconds, never below nothing."""
        return max(0.0, self._end_s - time.monotonic())


def _no_bus(address: str, why: str) -> BusError:
    return BusError(f"{'the system bus' if address == SYSTEM else address} cannot be had: {why}")

"""D-Bus: method calls with a time limit, signals, properties. The only module that knows jeepney."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from jeepney import DBusAddress, MessageType, Properties, new_method_call, new_signal
from jeepney.io.blocking import open_dbus_connection

if TYPE_CHECKING:
    from typing import Self

    from jeepney import Message

SYSTEM = "SYSTEM"
"""The system's bus: DBUS_SYSTEM_BUS_ADDRESS, else where the specification puts it."""
AUTH_S = 2.0
"""How long a bus may take to let us in: one that hangs or starves is no bus."""


class BusError(Exception):
    """There is no bus, nobody answers there, or the answer is an error; the message says which, and what it said."""

    def __init__(self, text: str, name: str = "") -> None:
        """``name``: of the error, as ``org.freedesktop.DBus.Error.AccessDenied``."""
        super().__init__(text)
        self.name = name


class Bus:
    """A connection to a bus, for one thread. Every method raises BusError."""

    def __init__(self, address: str = SYSTEM) -> None:
        """``address``: ``SYSTEM``, ``SESSION``, or one as in ``unix:path=/run/dbus/system_bus_socket``."""
        try:
            self._connection = open_dbus_connection(address, auth_timeout=AUTH_S)
        except Exception as error:  # the library's own errors have no common ancestor
            why = str(error) or type(error).__name__
            raise BusError(f"{'the system bus' if address == SYSTEM else address} cannot be had: {why}") from error

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
            self._connection.send(new_signal(emitter, name, signature or None, arguments))
        except (OSError, ValueError) as error:
            raise BusError(f"{name}: {error}") from error

    def close(self) -> None:
        """Hang up."""
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _ask(self, message: Message, timeout_s: float, what: str) -> tuple[Any, ...]:
        try:
            reply = self._connection.send_and_get_reply(message, timeout=max(0.0, timeout_s))
        except TimeoutError as error:
            raise BusError(f"{what}: no answer within {timeout_s:.1f} s") from error
        except (OSError, ValueError) as error:  # the bus has hung up, or talks nonsense
            raise BusError(f"{what}: {error}") from error
        if reply.header.message_type == MessageType.error:
            name = str(next((value for key, value in reply.header.fields.items() if key.name == "error_name"), ""))
            text = reply.body[0] if reply.body and isinstance(reply.body[0], str) else name
            raise BusError(f"{what}: {text}", name)
        return tuple(reply.body)


class Deadline:
    """What is left of a time limit."""

    def __init__(self, patience_s: float) -> None:
        self._end_s = time.monotonic() + patience_s

    @property
    def left_s(self) -> float:
        """Seconds, never below nothing."""
        return max(0.0, self._end_s - time.monotonic())

"""Varlink, as far as it is needed: JSON objects, each ended by a zero byte, over a stream socket; varlink.org."""

from __future__ import annotations

import json
import socket
from typing import Any

MOST_BYTES = 1 << 20
"""Of one message: some hundred bytes for each of some thousand units."""
_CHUNK = 64 * 1024
METHOD_NOT_FOUND = "org.varlink.service.MethodNotFound"
INVALID_PARAMETER = "org.varlink.service.InvalidParameter"

Message = dict[str, Any]


class VarlinkError(Exception):
    """The other end does not speak varlink, or says no; the message says what it said."""


def encode(message: Message) -> bytes:
    """One message on the wire."""
    return json.dumps(message, separators=(",", ":")).encode() + b"\0"


class Frames:
    """Cuts a stream into messages."""

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        self._most_bytes = most_bytes
        self._rest = bytearray()

    def feed(self, data: bytes) -> list[Message]:
        """The messages that these bytes complete. Raises VarlinkError for one that is too long or no JSON object."""
        self._rest += data
        *whole, rest = self._rest.split(b"\0")
        self._rest = rest
        if len(rest) > self._most_bytes or any(len(each) > self._most_bytes for each in whole):
            raise VarlinkError(f"a message of more than {self._most_bytes} bytes")
        return [_decode(bytes(each)) for each in whole]


class Connection:
    """A stream socket that was connected or accepted; raises OSError as sockets do."""

    def __init__(self, stream: socket.socket, most_bytes: int = MOST_BYTES) -> None:
        self._stream = stream
        self._frames = Frames(most_bytes)

    def fileno(self) -> int:
        """The descriptor to wait on."""
        return self._stream.fileno()

    def call(self, method: str, parameters: Message | None = None, *, more: bool = False) -> None:
        """Send a call; ``more``: for as many replies as there will be."""
        given = {} if parameters is None else {"parameters": parameters}
        self.send({"method": method, **given, **({"more": True} if more else {})})

    def send(self, message: Message) -> None:
        """Send one message."""
        self._stream.sendall(encode(message))

    def receive(self) -> list[Message] | None:
        """What came, perhaps nothing whole yet; None at the end. Raises VarlinkError."""
        data = self._stream.recv(_CHUNK)
        return self._frames.feed(data) if data else None

    def close(self) -> None:
        """Hang up."""
        self._stream.close()


def connect(path: str, timeout_s: float = 5.0, most_bytes: int = MOST_BYTES) -> Connection:
    """A connection to the service at this path. Raises OSError."""
    stream = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        stream.settimeout(timeout_s)
        stream.connect(path)
    except OSError:
        stream.close()
        raise
    return Connection(stream, most_bytes)


def parameters_of(reply: Message) -> Message:
    """What a reply says. Raises VarlinkError with the error's name where it is one."""
    if "error" in reply:
        raise VarlinkError(str(reply["error"]))
    parameters = reply.get("parameters", {})
    if not isinstance(parameters, dict):
        raise VarlinkError("a reply whose parameters are no object")
    return parameters


def _decode(data: bytes) -> Message:
    try:
        message = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise VarlinkError(f"not JSON: {data[:80]!r}") from error
    if not isinstance(message, dict):
        raise VarlinkError(f"no JSON object: {data[:80]!r}")
    return message

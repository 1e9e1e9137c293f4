"""A server under test, on a free port of the loopback address, and clients of every kind."""

from __future__ import annotations

import contextlib
import errno
import random
import select
import socket
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from oomd.config.addresses import Address
from oomd.outside.metrics.respond import respond
from oomd.outside.metrics.web import Web

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PATIENCE_S = 90.0
BODY = b"figures\n"
GET = b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"


def free_port(family: int = socket.AF_INET, host: str = "127.0.0.1") -> int:
    """A port that nobody has just now, and that nobody is given who merely connects to somewhere meanwhile."""
    lowest = max(2048, int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text("ascii").split()[0]))
    while True:
        port = random.SystemRandom().randrange(lowest // 2, lowest)
        with socket.socket(family) as probe:
            try:
                probe.bind((host, port))
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    raise
            else:
                return port


class Served:
    """A server, where it is, and what it told."""

    def __init__(self, *addresses: Address, body: bytes = BODY) -> None:
        self.addresses = addresses or (Address("127.0.0.1", free_port()),)
        self.ready: list[Address] = []
        self.failures: list[str] = []
        self.ends: list[tuple[int, str]] = []
        self.asked = 0
        self._body = body
        self.web = Web(
            self.addresses,
            self._answer,
            on_ready=self.ready.append,
            on_failure=lambda address, error: self.failures.append(f"{address}: {error.strerror}"),
            on_end=lambda client, why: self.ends.append((client.status, why)),
        )

    def _answer(self, head: bytes) -> tuple[bytes, int]:
        self.asked += 1
        return respond(head, lambda accept, encoding: (self._body, "text/plain", False))

    def why(self, why: str) -> int:
        """How many connections ended for this reason."""
        return sum(each == why for _, each in self.ends)


@contextmanager
def served(*addresses: Address, body: bytes = BODY) -> Iterator[Served]:
    """A server that listens."""
    site = Served(*addresses, body=body)
    site.web.start()
    try:
        wait_until("it listens", lambda: bool(site.ready))
        yield site
    finally:
        site.web.stop()


def connect(address: Address) -> socket.socket:
    """A connection, blocking, with patience."""
    if address.path:
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(PATIENCE_S)
        connection.connect(address.path)
        return connection
    return socket.create_connection((address.host or "127.0.0.1", address.port), PATIENCE_S)


def can_connect(address: Address) -> bool:
    """Whether somebody listens."""
    try:
        connect(address).close()
    except OSError:
        return False
    return True


def read_all(connection: socket.socket) -> bytes:
    """Until the other end has said everything; what came before where it broke off."""
    data = b""
    with contextlib.suppress(ConnectionError):
        while chunk := connection.recv(1 << 16):
            data += chunk
    return data


def ask(address: Address, request: bytes = GET) -> bytes:
    """The whole answer."""
    with connect(address) as connection:
        connection.sendall(request)
        return read_all(connection)


def wait_until(what: str, true: Callable[[], bool]) -> None:
    """Look until it is so."""
    end = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < end, f"never: {what}"
        select.select([], [], [], 0.002)

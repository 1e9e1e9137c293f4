"""Serves figures over HTTP, and cannot be made to do more than that.

One thread and one poll: so many connections at once, so many new ones a second, so many bytes and so long for each.
When all places are taken whoever has been asking for longest gives up his; a scrape asks in one packet, so it is those
that drip that lose theirs. An address that cannot be had is told and tried again, for ever.
"""

from __future__ import annotations

import os
import select
import socket
import threading
import time
from typing import TYPE_CHECKING

from oomd.outside.metrics.client import ASKING, LEAVING, TAKING, Client
from oomd.outside.metrics.listening import open_listener, remove_path

if TYPE_CHECKING:
    from collections.abc import Callable

    from oomd.config.addresses import Address
    from oomd.outside.metrics.client import Answer

MOST_CLIENTS = 16
PER_SECOND = 100.0
"""Connections accepted per second in the long run; more wait in the kernel's queue, which has an end."""
AT_ONCE = 32.0
"""And so many at once after a quiet while."""
RETRY_S = 5.0
STOP_S = 1.0


class Web:
    """One server for all addresses. ``on_ready``, ``on_failure`` and ``on_end`` are called by its thread."""

    def __init__(
        self,
        addresses: tuple[Address, ...],
        answer: Answer,
        *,
        on_ready: Callable[[Address], object],
        on_failure: Callable[[Address, OSError], object],
        on_end: Callable[[Client, str], object],
        inherited: tuple[socket.socket, ...] = (),
    ) -> None:
        """``inherited``: sockets that listen already. ``on_end`` is told why a connection was given up; empty when it
        ended well.
        """
        self._answer = answer
        self._on_ready, self._on_failure, self._on_end = on_ready, on_failure, on_end
        self._missing = dict.fromkeys(addresses, 0.0)
        """Addresses that are not had yet, and when to try them."""
        self._listeners: dict[int, tuple[socket.socket, Address | None]] = {
            each.fileno(): (each, None) for each in inherited
        }
        self._clients: dict[int, Client] = {}
        self._allowed, self._allowed_s = AT_ONCE, time.monotonic()
        self._waker = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="metrics", daemon=True)

    def start(self) -> None:
        """Begin to serve."""
        self._thread.start()

    def stop(self) -> None:
        """End, soon; a thread that hangs is left behind."""
        self._stopping = True
        os.eventfd_write(self._waker, 1)
        self._thread.join(STOP_S)
        if not self._thread.is_alive():
            os.close(self._waker)

    def _run(self) -> None:
        while not self._stopping:
            self._open_missing()
            for fd in self._wait():
                if fd in self._clients:
                    self._go_on(fd)
                elif fd in self._listeners:
                    self._accept(self._listeners[fd][0])
            self._expire()
        for fd in [*self._clients]:
            self._end(fd, "")
        for listener, address in self._listeners.values():
            listener.close()
            if address is not None:
                remove_path(address)

    def _wait(self) -> list[int]:
        """Descriptors that are ready, or something is due."""
        now_s = time.monotonic()
        dues = [client.due_s for client in self._clients.values()] + [*self._missing.values()]
        poll = select.poll()
        poll.register(self._waker, select.POLLIN)
        for fd, client in self._clients.items():
            poll.register(fd, client.events)
        self._allowed = min(AT_ONCE, self._allowed + (now_s - self._allowed_s) * PER_SECOND)
        self._allowed_s = now_s
        if self._allowed >= 1:
            for fd in self._listeners:
                poll.register(fd, select.POLLIN)
        else:
            dues.append(now_s + (1 - self._allowed) / PER_SECOND)
        timeout_ms = max(0, int((min(dues) - now_s) * 1000) + 1) if dues else None
        return [fd for fd, _ in poll.poll(timeout_ms)]

    def _accept(self, listener: socket.socket) -> None:
        try:
            connection, _ = listener.accept()
        except OSError:  # the other end is gone already; or no descriptor is left, which the allowance makes bearable
            self._allowed -= 1
            return
        self._allowed -= 1
        if len(self._clients) >= MOST_CLIENTS:
            self._end(self._least(), "too_many")
        client = Client(connection, self._answer, time.monotonic())
        self._clients[client.fileno()] = client
        self._go_on(client.fileno())

    def _least(self) -> int:
        """Whose place is taken by another: who has been asking for longest, then who only has to leave."""
        order = {ASKING: 0, LEAVING: 1, TAKING: 2}
        return min(self._clients, key=lambda fd: (order[self._clients[fd].phase], self._clients[fd].began_s))

    def _go_on(self, fd: int) -> None:
        if not self._clients[fd].go_on(time.monotonic()):
            self._end(fd, "")

    def _expire(self) -> None:
        now_s = time.monotonic()
        for fd in [fd for fd, client in self._clients.items() if client.due_s <= now_s]:
            self._end(fd, "" if self._clients[fd].phase == LEAVING else "too_slow")

    def _end(self, fd: int, why: str) -> None:
        client = self._clients.pop(fd)
        client.close()
        self._on_end(client, why)

    def _open_missing(self) -> None:
        now_s = time.monotonic()
        for address in [address for address, due_s in self._missing.items() if due_s <= now_s]:
            try:
                listener = open_listener(address)
            except OSError as error:
                self._missing[address] = time.monotonic() + RETRY_S
                self._on_failure(address, error)
                continue
            del self._missing[address]
            self._listeners[listener.fileno()] = (listener, address)
            self._on_ready(address)

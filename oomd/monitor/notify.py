"""sd_notify(3) without libsystemd: one datagram to the socket that NOTIFY_SOCKET names."""

from __future__ import annotations

import _socket  # the C module alone: `socket` costs the killer 0.65 MiB


class Notifier:
    """Tells systemd READY, RELOADING, WATCHDOG; silently nothing where nobody listens. Never blocks."""

    def __init__(self, address: str, watchdog_us: int) -> None:
        """``address``: NOTIFY_SOCKET or empty. ``watchdog_us``: WATCHDOG_USEC or 0."""
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self._socket: _socket.socket | None = None
        self.feed_us = watchdog_us // 3
        """How often the watchdog wants to be fed, with room to spare; 0 for never."""
        self._fed_us = 0
        if address:
            self._socket = _socket.socket(
                _socket.AF_UNIX, _socket.SOCK_DGRAM | _socket.SOCK_CLOEXEC | _socket.SOCK_NONBLOCK, 0
            )

    def send(self, text: str) -> None:
        """``READY=1`` and the like."""
        if self._socket is None:
            return
        try:
            self._socket.sendto(text.encode(), self._address)
        except OSError:
            return  # nobody listens, or its queue is full: systemd's watchdog judges, we go on

    def close(self) -> None:
        """Close the socket; what is sent afterwards goes nowhere."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def feed(self, now_us: int) -> None:
        """Feed the watchdog when it is due."""
        if self.feed_us and now_us - self._fed_us >= self.feed_us:
            self._fed_us = now_us
            self.send("WATCHDOG=1")

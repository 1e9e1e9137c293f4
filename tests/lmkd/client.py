"""A client of the control socket, byte for byte: it knows packets, not our codec."""

from __future__ import annotations

import os
import socket
import struct
import sys

from tests.waiting import is_ready

PATIENCE_S = 90.0


class Client:
    """One connection."""

    def __init__(self, path: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.socket.connect(path)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, *words: int) -> None:
        """Words in network byte order."""
        self.send_bytes(struct.pack(f">{len(words)}i", *words))

    def send_bytes(self, data: bytes) -> None:
        """A datagram as it is."""
        self.socket.sendall(data)

    def receive(self, patience_s: float = PATIENCE_S) -> bytes:
        """The next datagram; empty at the end of the connection."""
        ready = is_ready(self.socket, patience_s)
        assert ready, f"nothing came in {patience_s} s"
        return self.socket.recv(4096)

    def ask(self, *words: int) -> tuple[int, ...]:
        """Send, and the words of the answer."""
        self.send(*words)
        return words_of(self.receive())

    def settle(self) -> None:
        """Wait until everything sent so far was dealt with: packets are answered in their order."""
        assert self.ask(4, 1, 0) == (4, 0)

    def is_closed(self) -> bool:
        """Whether the daemon has closed it; waits for a sign of either."""
        try:
            self.send(4, 1, 0)
        except OSError:
            return True
        try:
            return not self.receive()
        except ConnectionResetError:
            return True


def words_of(data: bytes) -> tuple[int, ...]:
    """A datagram as words."""
    return struct.unpack(f">{len(data) // 4}i", data)


def serve_commands(path: str) -> None:
    """A client in a process of its own: sends each line of hexadecimal digits from standard input, answers each with a
    line: the reply to a GETKILLCNT that follows it.
    """
    with Client(path) as client:
        for line in sys.stdin:
            if line.strip():
                client.send_bytes(bytes.fromhex(line))
            client.settle()
            print(os.getpid(), flush=True)


if __name__ == "__main__":
    serve_commands(sys.argv[1])

"""Rude clients of a control socket: ``python rude.py KIND SOCKET`` until it is killed. Says ``ready`` when it is."""

from __future__ import annotations

import os
import select
import socket
import sys
import time

REQUESTS = b'{"request":"status"}\n{"request":"kills"}\n{"request":"next"}\n{"request":"resume"}\n' * 50


def connect(path: str) -> socket.socket:
    """A client that never waits."""
    client = socket.socket(socket.AF_UNIX)
    client.connect(path)
    client.setblocking(False)
    return client


def flood(path: str) -> None:
    """Requests as fast as they are taken, over as many connections as there may be; answers are read."""
    clients = [connect(path) for _ in range(20)]
    begun = False
    while True:
        readable, writable, _ = select.select(clients, clients, [])
        for client in readable:
            client.recv(1 << 20)
        for client in writable:
            client.send(REQUESTS)
        begun = ready(begun)
        time.sleep(0.001)  # rude to the daemon, not to the processor that both share


def knock(path: str) -> None:
    """Comes and goes, without a rest."""
    begun = False
    while True:
        try:
            connect(path).close()
        except OSError:
            time.sleep(0.001)
        begun = ready(begun)


def drip(path: str) -> None:
    """Requests that never end, a byte at a time."""
    clients: list[socket.socket] = []
    begun = False
    while True:
        while len(clients) < 24:
            clients.append(connect(path))
        for client in list(clients):
            try:
                client.send(b"{")
            except OSError:
                clients.remove(client)
        begun = ready(begun)
        time.sleep(0.05)


def deaf(path: str) -> None:
    """Asks and never reads."""
    clients: list[socket.socket] = []
    begun = False
    while True:
        clients += [connect(path) for _ in range(20 - len(clients))]
        for client in list(clients):
            try:
                client.send(REQUESTS)
            except BlockingIOError:
                continue
            except OSError:
                clients.remove(client)
        begun = ready(begun)
        time.sleep(0.01)


def busy(_: str) -> None:
    """No client at all: what a process that only computes costs."""
    ready(False)
    while True:
        sum(range(1000))


def ready(begun: bool) -> bool:
    """Say it once."""
    if not begun:
        os.write(1, b"ready\n")
    return True


if __name__ == "__main__":
    KINDS = {role.__name__: role for role in (flood, knock, drip, deaf, busy)}
    KINDS[sys.argv[1]](sys.argv[2])

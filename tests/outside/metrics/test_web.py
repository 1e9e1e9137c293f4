"""The server as a whole: ordinary scrapes, and clients that drip, flood, hang and lie."""

from __future__ import annotations

import contextlib
import os
import random
import socket
import threading
from typing import TYPE_CHECKING

import psutil

from oomd.config.addresses import Address
from oomd.outside.metrics import client as one_client
from oomd.outside.metrics.web import AT_ONCE, MOST_CLIENTS
from tests.descriptors import open_descriptors, opened_since
from tests.outside.metrics.serving import (
    BODY,
    GET,
    Served,
    ask,
    connect,
    free_port,
    read_all,
    served,
    wait_until,
)

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

INPUTS = int(os.environ.get("OOMD_FUZZ_REQUESTS", "3000"))
"""Of the fuzz."""
FIRST = 500
"""Inputs until the memory of the process has found its size."""
MOST_GROWTH_BYTES = 4 << 20


def test_scrape(tmp_path: Path) -> None:
    """Over TCP and over a path, which is gone afterwards."""
    path = Address(path=str(tmp_path / "m.sock"))
    tcp = Address("127.0.0.1", free_port())
    with served(tcp, path) as site:
        wait_until("both listen", lambda: len(site.ready) == 2)
        for address in (tcp, path, tcp):
            assert ask(address).endswith(b"\r\n\r\n" + BODY)
        wait_until("all have ended", lambda: site.ends == [(200, "")] * 3)
    assert list(tmp_path.iterdir()) == []


def test_slow_loris_loses_its_places_to_a_scrape() -> None:
    """All places are taken by clients that drip: a scrape is answered at once all the same, and nobody else was."""
    with served() as site, contextlib.ExitStack() as stack:
        drips = [stack.enter_context(connect(site.addresses[0])) for _ in range(3 * MOST_CLIENTS)]
        for drip in drips:
            with contextlib.suppress(ConnectionError):  # those that came first have lost their place already
                drip.sendall(b"GET /metrics HTTP/1.1\r\nX-a: ")
        wait_until("the places are taken", lambda: site.why("too_many") >= 2 * MOST_CLIENTS)
        assert ask(site.addresses[0]).endswith(BODY)
        assert (site.asked, len(site.web._clients) <= MOST_CLIENTS) == (1, True)


def test_slow_loris_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bytes that keep coming do not put the end off."""
    monkeypatch.setattr(one_client, "REQUEST_S", 0.2)
    with served() as site, connect(site.addresses[0]) as drip:
        drip.setblocking(False)
        drip.sendall(b"GET /metrics HTTP/1.1\r\n")

        def ended() -> bool:
            with contextlib.suppress(ConnectionError, BlockingIOError):
                drip.sendall(b"X: y\r\n"[:1])
            return site.why("too_slow") == 1

        wait_until("it was given up", ended)
        assert site.ends == [(0, "too_slow")]


def test_reader_that_never_reads_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer that nobody takes keeps its place for so long only."""
    monkeypatch.setattr(one_client, "ANSWER_S", 0.2)
    with served(body=b"x" * (16 << 20)) as site, connect(site.addresses[0]) as deaf:
        deaf.sendall(GET)
        wait_until("it was given up", lambda: site.ends == [(200, "too_slow")])
        assert len(read_all(deaf)) < 16 << 20


def test_flood_of_scrapes() -> None:
    """Clients that ask as fast as they can are answered at the pace that is allowed, every one with the whole; the
    bound on new connections holds, and afterwards nothing is left.
    """
    before = open_descriptors()
    with served() as site:
        answers: list[bytes] = []

        def flood() -> None:
            answers.extend(ask(site.addresses[0]) for _ in range(20))

        threads = [threading.Thread(target=flood) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(answers) == 160
        assert all(answer.endswith(BODY) for answer in answers)
        assert site.web._allowed <= AT_ONCE
        wait_until("all have left", lambda: not site.web._clients)
    wait_until("nothing is left", lambda: opened_since(before) == [])


def test_port_that_is_taken_is_told_and_had_later(monkeypatch: pytest.MonkeyPatch) -> None:
    """It costs nothing but the scrapes until then."""
    monkeypatch.setattr("oomd.outside.metrics.web.RETRY_S", 0.05)
    address = Address("127.0.0.1", free_port())
    site = Served(address)
    with socket.create_server((address.host, address.port)):
        site.web.start()
        wait_until("it was tried again", lambda: len(site.failures) >= 3)
        assert site.failures[0] == f"{address}: Address already in use"
        assert site.ready == []
    wait_until("it listens", lambda: site.ready == [address])
    assert ask(address).endswith(BODY)
    site.web.stop()


def test_inherited_socket() -> None:
    """One that systemd listens on already."""
    from oomd.outside.metrics.respond import respond
    from oomd.outside.metrics.web import Web

    listener = socket.create_server(("127.0.0.1", 0))
    listener.setblocking(False)
    port = listener.getsockname()[1]
    web = Web(
        (),
        lambda head: respond(head, lambda *_: (BODY, "text/plain", False)),
        on_ready=print,
        on_failure=print,
        on_end=lambda *_: None,
        inherited=(listener,),
    )
    web.start()
    assert ask(Address("127.0.0.1", port)).endswith(BODY)
    web.stop()


def test_fuzz_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests torn, doubled, cut off, of random bytes, over connections that end in every way: it goes on answering,
    and has no descriptor and hardly any memory more than before.
    """
    dice = random.Random(20)
    monkeypatch.setattr("oomd.outside.metrics.web.PER_SECOND", 1e6)  # the pace is another test's
    with served() as site:
        resident_bytes = 0
        ask(site.addresses[0])
        wait_until("it has left", lambda: not site.web._clients)
        before = open_descriptors()
        for number in range(INPUTS):
            if number == FIRST:
                resident_bytes = psutil.Process().memory_info().rss
            throw(dice, site.addresses[0])
            site.ends.clear()
        assert ask(site.addresses[0]).endswith(BODY)
        wait_until("all have left", lambda: not site.web._clients)
        wait_until("nothing is left", lambda: opened_since(before) == [])
        assert psutil.Process().memory_info().rss - resident_bytes < MOST_GROWTH_BYTES


def throw(dice: random.Random, address: Address) -> None:
    """One client that means no good."""
    data = bytearray(dice.choice((GET, b"", b"\r\n\r\n", b"\0" * 20, b"GET " + b"/" * 9000, b"A: b\r\n" * 200)))
    for _ in range(dice.randrange(8)):
        place = dice.randrange(len(data) + 1)
        data[place : place + dice.randrange(4)] = dice.randbytes(dice.randrange(6))
    with connect(address) as connection, contextlib.suppress(ConnectionError):
        cut = dice.randrange(len(data) + 1)
        connection.sendall(data[:cut])
        connection.sendall(data[cut:])
        end = dice.randrange(3)
        if end == 1:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # a reset
        elif end == 2:
            connection.shutdown(socket.SHUT_WR)
            read_all(connection)

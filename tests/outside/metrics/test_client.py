"""One connection, step by step, with the time told by the test."""

from __future__ import annotations

import select
import socket
from typing import TYPE_CHECKING

import pytest

from oomd.outside.metrics.client import (
    ANSWER_S,
    ASKING,
    FAREWELL_S,
    LEAVING,
    MOST_HEAD_BYTES,
    REQUEST_S,
    TAKING,
    Client,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

GET = b"GET /metrics HTTP/1.1\r\n\r\n"


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Its end and ours."""
    theirs, ours = socket.socketpair()
    yield theirs, ours
    theirs.close()
    ours.close()


def said(answer: bytes, heads: list[bytes]) -> object:
    """Answers everything with the same, and remembers what was asked."""

    def answer_to(head: bytes) -> tuple[bytes, int]:
        heads.append(head)
        return answer, 200

    return answer_to


def client_of(theirs: socket.socket, answer: bytes, heads: list[bytes]) -> Client:
    """At second 100."""
    return Client(theirs, said(answer, heads), 100.0)  # type: ignore[arg-type]


def test_asks_takes_and_leaves(pair: tuple[socket.socket, socket.socket]) -> None:
    """In pieces, each with its time; what comes after the head is nobody's business."""
    theirs, ours = pair
    heads: list[bytes] = []
    client = client_of(theirs, b"answer", heads)
    assert (client.phase, client.due_s, client.events) == (ASKING, 100 + REQUEST_S, select.POLLIN)
    assert client.go_on(100.5)
    ours.sendall(GET[:9])
    assert client.go_on(101.0)
    assert (client.phase, client.due_s, heads) == (ASKING, 100 + REQUEST_S, [])
    ours.sendall(GET[9:] + b"more")
    assert client.go_on(102.0)
    assert heads == [GET.replace(b"\r\n", b"\n")]
    assert (client.phase, client.due_s, client.status) == (LEAVING, 102 + FAREWELL_S, 200)
    assert ours.recv(100) == b"answer"
    assert ours.recv(100) == b""
    ours.sendall(b"late")
    assert client.go_on(102.1)
    ours.shutdown(socket.SHUT_WR)
    assert not client.go_on(102.2)


def test_slow_reader_is_waited_for_within_bounds(pair: tuple[socket.socket, socket.socket]) -> None:
    """Whoever does not read fills the socket and has so long."""
    theirs, ours = pair
    big = b"x" * (8 << 20)
    client = client_of(theirs, big, [])
    ours.sendall(GET)
    assert client.go_on(100.0)
    assert (client.phase, client.events, client.due_s) == (TAKING, select.POLLOUT, 100 + ANSWER_S)
    assert client.go_on(101.0)
    assert client.due_s == 100 + ANSWER_S
    taken = 0
    while client.phase == TAKING:
        taken += len(ours.recv(1 << 20))
        assert client.go_on(102.0)
    while chunk := ours.recv(1 << 20):
        taken += len(chunk)
    assert taken == len(big)


def test_request_without_end_is_refused(pair: tuple[socket.socket, socket.socket]) -> None:
    """At so many bytes, with a status; it is never parsed."""
    theirs, ours = pair
    heads: list[bytes] = []
    client = client_of(theirs, b"", heads)
    ours.sendall(b"GET / HTTP/1.1\r\nX: " + b"a" * MOST_HEAD_BYTES)
    while client.phase == ASKING:
        assert client.go_on(100.0)
    assert (client.status, heads) == (431, [])
    assert ours.recv(1000).startswith(b"HTTP/1.1 431 ")


@pytest.mark.parametrize("sent", [b"", b"GET /met"])
def test_other_end_goes(pair: tuple[socket.socket, socket.socket], sent: bytes) -> None:
    """Before it has asked: nothing more to do, nothing answered."""
    theirs, ours = pair
    heads: list[bytes] = []
    client = client_of(theirs, b"", heads)
    ours.sendall(sent)
    ours.close()
    assert not client.go_on(100.0) or not client.go_on(100.0)
    assert (heads, client.status) == ([], 0)


def test_reset_is_survived(pair: tuple[socket.socket, socket.socket]) -> None:
    """Gone with our answer half way."""
    theirs, ours = pair
    client = client_of(theirs, b"x" * (8 << 20), [])
    ours.sendall(GET)
    assert client.go_on(100.0)
    ours.close()
    assert not client.go_on(100.0)

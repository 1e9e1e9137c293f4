"""What a client may cost: the bucket of requests, and an answer that is taken in pieces."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

import pytest

from oomd.outside.guest import IDLE_S, LINE_S, WRITE_S, Bucket, Guest, Phase
from oomd.outside.peers import Peer

if TYPE_CHECKING:
    from collections.abc import Iterator


def test_bucket() -> None:
    """So many at once, so many a second; a clock that goes back gives nothing."""
    bucket = Bucket(10.0, 3.0, 100.0)
    assert [bucket.take(100.0) for _ in range(3)] == [0.0] * 3
    assert bucket.take(100.0) == pytest.approx(0.1)
    assert bucket.take(100.11) == 0.0
    assert bucket.take(99.0) > 0.0
    assert bucket.take(100.11) > 0.0
    assert not bucket.is_full(100.2)
    assert bucket.is_full(200.0)
    assert [bucket.take(200.0) for _ in range(3)] == [0.0] * 3
    assert bucket.take(200.0) > 0


@pytest.fixture
def pair() -> Iterator[tuple[Guest, socket.socket]]:
    """A guest and its client."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    with ours, theirs:
        yield Guest(ours, Peer(os.getpid(), 0, frozenset()), 100.0), theirs


def test_time_of_a_request(pair: tuple[Guest, socket.socket]) -> None:
    """A minute until it begins, five seconds from its first byte on, however it goes on."""
    guest, client = pair
    assert guest.deadline_s == 100.0 + IDLE_S
    client.send(b"{")
    assert guest.read(110.0)
    assert guest.deadline_s == 110.0 + LINE_S
    client.send(b"}")
    assert guest.read(114.0)
    guest.wait_for_request(114.0)
    assert guest.deadline_s == 110.0 + LINE_S
    client.send(b"\n{")
    assert guest.read(114.5)
    assert guest.lines.take() == b"{}"
    guest.phase = Phase.BETWEEN
    guest.wait_for_request(120.0)
    assert guest.deadline_s == 120.0 + LINE_S  # the next one has begun
    client.close()
    assert not guest.read(121.0)


def test_an_answer_in_pieces(pair: tuple[Guest, socket.socket]) -> None:
    """As much as there is room for; the rest later, within the same time."""
    guest, client = pair
    guest.answer(b"x" * (4 << 20), 100.0)
    assert (guest.phase, guest.deadline_s) == (Phase.WRITING, 100.0 + WRITE_S)
    client.setblocking(False)
    heard = 0
    while not guest.write():
        heard += len(client.recv(1 << 20))
    while heard < 4 << 20:
        heard += len(client.recv(1 << 20))
    assert heard == 4 << 20

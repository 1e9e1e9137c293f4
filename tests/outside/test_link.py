"""The killer's end of the link, against real sockets."""

from __future__ import annotations

import marshal
import os
import socket
import time

from oomd.outside.link import MOST_BYTES, Link

NOTE = {"event": "note", "time": 0.0, "text": "hello"}


def pair() -> tuple[Link, socket.socket]:
    """A link and its other end."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.setblocking(False)
    return Link(ours.detach()), theirs


def test_events_and_commands_pass() -> None:
    """What is sent arrives as one datagram; what comes back is one message."""
    link, other = pair()
    with other:
        assert link.receive() is None
        assert link.send(NOTE)
        assert marshal.loads(other.recv(65536)) == NOTE
        other.send(marshal.dumps({"command": "config", "plain": []}))
        assert link.receive() == {"command": "config", "plain": []}
        other.send(b"\xff\xff")
        assert link.receive() is None
        assert not link.closed
    link.close()


def test_full_link_drops_and_counts() -> None:
    """F20: an outside process that reads nothing costs reports, never time."""
    link, other = pair()
    with other:
        sent = 0
        while link.send(NOTE):
            sent += 1
        assert sent > 10
        begin = time.monotonic()
        for _ in range(100):
            assert not link.send(NOTE)
        assert time.monotonic() - begin < 60  # nobody ever reads: whoever waits does so for good
        assert link.dropped == 101
    link.close()


def test_dead_other_end_is_noticed() -> None:
    """The end of the other process is an empty read; sending then is counted, not raised, and raises no SIGPIPE."""
    link, other = pair()
    other.close()
    assert not link.send(NOTE)
    assert link.receive() is None
    assert link.closed
    assert not link.send(NOTE)
    assert link.dropped == 2
    link.close()


def test_event_that_is_too_long_is_sent_without_its_lists() -> None:
    """A decision with endless names still tells who died."""
    link, other = pair()
    with other:
        event = {
            "event": "decision",
            "id": "1",
            "ranking": [f"{number:01000}" for number in range(1000)],
            "rejected": [],
            "detections": [],
        }
        assert link.send(event)
        assert marshal.loads(other.recv(1 << 20)) == event | {"ranking": []}
    link.close()


def test_reopened_link_goes_on() -> None:
    """After the outside was started again the counts stay."""
    link, other = pair()
    other.close()
    link.send(NOTE)
    link.close()
    again, new = pair()
    link.reopen(os.dup(again.fileno()))
    again.close()
    with new:
        os.set_blocking(link.fileno(), False)
        assert link.send(NOTE)
        assert link.dropped == 1
    link.close()


def test_event_that_is_too_long_in_itself_is_dropped() -> None:
    """What stays too long without its lists is counted, not raised; so is what is not plain."""
    link, other = pair()
    with other:
        assert not link.send(NOTE | {"text": "x" * MOST_BYTES})
        assert not link.send(NOTE | {"text": NOTE.keys()})
        assert link.dropped == 2
        assert link.send(NOTE)
        assert marshal.loads(other.recv(1 << 20)) == NOTE
    link.close()

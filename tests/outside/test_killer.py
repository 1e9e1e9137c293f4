"""Questions and requests over a real link, with a killer's end of ours."""

from __future__ import annotations

import marshal
import os
import select
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from oomd.companion import LATE, NOBODY, Answer, Companion
from oomd.outside.killer import HANDLERS, MOST_WAITING, Killer
from oomd.outside.spawn import SEND_BUFFER_BYTES
from tests.waiting import is_ready

if TYPE_CHECKING:
    from collections.abc import Iterator

    from oomd.model.report import Plain

import socket

PATIENCE_S = 90.0
LONG_US = 60_000_000


class Watches:
    """Nobody waits here."""

    def watch(self, fd: int, key: object, events: int = 1) -> None:
        """Nothing."""

    def unwatch(self, fd: int) -> None:
        """Nothing."""


@contextmanager
def both_ends() -> Iterator[tuple[Companion, Killer]]:
    """The killer's companion and the outside's killer, joined; the outside reads in a thread, which ends with the
    link.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
    ours.setblocking(False)
    companion = Companion(ours.detach(), 0, [], "")
    killer = Killer(theirs.fileno())
    reading = threading.Thread(target=killer.serve)
    yield_to = (companion, killer)
    try:
        killer.listen(lambda event: None)
        reading.start()
        yield yield_to
    finally:
        os.close(companion._link.fileno())
        reading.join(PATIENCE_S)
        theirs.close()
        assert not reading.is_alive()


def hear(companion: Companion) -> Plain:
    """The next message from outside."""
    assert is_ready(companion._link, PATIENCE_S)
    heard: list[Plain] = []
    companion.hear(lambda: 0, Watches(), heard.append)
    (message,) = heard
    return message


def test_a_request_is_done_and_answered() -> None:
    """The handler gets what was asked; its words come back, once, to whoever asked."""
    with both_ends() as (companion, killer):
        killer.handle("restart", lambda event: {"ok": True, "text": f"{event['unit']} restarted", "job": 7})
        answers: list[Answer] = []
        companion.ask("restart", answers.append, now_us=1000, deadline_us=LONG_US, unit="a.service")
        assert companion.due_us() == LONG_US
        message = hear(companion)
        companion.note_answer(message)
        companion.note_answer(message)
        assert answers == [Answer(ok=True, text="a.service restarted", content={"job": 7})]
        assert companion.due_us() is None


def test_a_request_that_fails_or_that_nobody_knows_is_answered_too() -> None:
    """A bug in a handler, a kind without one: no kill waits for its deadline for that."""

    def broken(event: Plain) -> Plain:
        raise LookupError("no such unit")

    with both_ends() as (companion, killer):
        killer.handle("restart", broken)
        for kind in ("restart", "unheard-of"):
            answers: list[Answer] = []
            companion.ask(kind, answers.append, now_us=0, deadline_us=LONG_US)
            companion.note_answer(hear(companion))
            assert not answers[0].ok
            assert kind in answers[0].text


def test_a_handler_that_hangs_costs_its_request_only() -> None:
    """Others are handled beside it, the link is read on, and its own request ends at the deadline."""
    with both_ends() as (companion, killer):
        goes_on = threading.Event()
        killer.handle("hang", lambda event: {"ok": goes_on.wait(PATIENCE_S)})
        killer.handle("quick", lambda event: {"ok": True})
        late: list[Answer] = []
        quick: list[Answer] = []
        companion.ask("hang", late.append, now_us=0, deadline_us=LONG_US)
        companion.ask("quick", quick.append, now_us=0, deadline_us=LONG_US)
        companion.note_answer(hear(companion))
        assert quick == [Answer(ok=True)]
        companion.expire(LONG_US - 1)
        assert late == []
        companion.expire(LONG_US)
        assert late == [Answer(ok=False, text=LATE)]
        goes_on.set()
        companion.note_answer(hear(companion))
        assert len(late) == 1


def test_requests_are_bounded() -> None:
    """While every handler hangs so many wait; the next is refused at once."""
    with both_ends() as (companion, killer):
        goes_on = threading.Event()
        killer.handle("hang", lambda event: {"ok": goes_on.wait(PATIENCE_S)})
        for number in range(HANDLERS + MOST_WAITING + 20):  # more than the outside takes; more than may be open here
            data = {"event": "request", "request": "hang", "number": number, "patience_us": LONG_US}
            while not companion.send(data):
                is_ready(companion._link, PATIENCE_S, select.POLLOUT)
        refused = hear(companion)
        assert (refused["ok"], refused["text"]) == (False, "too many requests")
        goes_on.set()


def test_where_nobody_is_the_answer_comes_at_once() -> None:
    """The outside process is dead, or dies with the request in its hands."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.setblocking(False)
    companion = Companion(ours.detach(), 0, [], "")
    answers: list[Answer] = []
    companion.ask("restart", answers.append, now_us=0, deadline_us=LONG_US)
    assert answers == []
    theirs.close()
    heard: list[Any] = []
    companion.hear(lambda: 0, Watches(), heard.append)
    assert heard == []
    assert answers == [Answer(ok=False, text=NOBODY)]
    companion.ask("restart", answers.append, now_us=0, deadline_us=LONG_US)
    assert answers[1:] == [Answer(ok=False, text=NOBODY)]


def test_a_question_is_answered_to_whoever_asked() -> None:
    """Two threads ask; each gets its own answer, whatever the order."""
    with both_ends() as (companion, killer):
        got: dict[str, Any] = {}
        asking = [
            threading.Thread(target=lambda name=name: got.update({name: killer.ask(name, PATIENCE_S)})) for name in "ab"
        ]
        for thread in asking:
            thread.start()
        for message in reversed([hear(companion), hear(companion)]):
            assert companion.tell("answer", number=message["number"], word=message["command"])
        for thread in asking:
            thread.join(PATIENCE_S)
        assert [got["a"]["word"], got["b"]["word"]] == ["a", "b"]


def test_a_question_without_an_answer_ends() -> None:
    """The killer is busy, or gone: whoever asks waits for so long and no longer."""
    with both_ends() as (companion, killer):
        assert killer.ask("status", timeout_s=0.01) is None
        assert hear(companion)["command"] == "status"
    assert killer.ask("status") is None


def test_what_is_too_long_for_the_link_is_not_sent() -> None:
    """The killer reads no more at once."""
    with both_ends() as (companion, killer):
        assert not killer.send({"command": "config", "plain": "x" * (1 << 20)})
        assert killer.send({"command": "config", "plain": "x"})
        assert marshal.dumps(hear(companion))

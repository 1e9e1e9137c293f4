"""The outside process as the killer hears it: what its commands may cost. Requests and answers stand in
``outside/test_killer.py``.
"""

from __future__ import annotations

import marshal
import socket
from typing import TYPE_CHECKING, Any

import pytest

from oomd.companion import BURST_US, KEY, LEAST_US, SHARE, Companion
from oomd.monitor.waiter import Waiter

if TYPE_CHECKING:
    from collections.abc import Iterator


class Listening:
    """A companion with a clock of the test's own, waited for by a real epoll."""

    def __init__(self) -> None:
        ours, self.outside = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        self.outside.setblocking(False)
        self.waiter = Waiter()
        self.companion = Companion(ours.detach(), 0, [], "")
        self.companion.watch(self.waiter)
        self.now_us = 1_000_000_000
        self.heard: list[Any] = []

    def say(self, number: int) -> None:
        """A command of the outside process."""
        self.outside.send(marshal.dumps({"number": number}))

    def listen(self, cost_us: int) -> bool:
        """Hear what there is, if it is waited for; each command takes so long."""

        def take(message: Any) -> None:
            self.heard.append(message["number"])
            self.now_us += cost_us

        ready = self.waiter.wait_ready(0)
        for key, _ in ready:
            assert key == KEY
            self.companion.hear(lambda: self.now_us, self.waiter, take)
        return bool(ready)

    def listen_to_all(self, cost_us: int = 0) -> int:
        """Until there is nothing, or it is not waited for; how much was heard."""
        before = len(self.heard)
        while self.listen(cost_us):
            continue
        return len(self.heard) - before

    def close(self) -> None:
        """Let go of everything."""
        self.waiter.close()
        self.outside.close()
        self.companion._link.close()


@pytest.fixture
def site() -> Iterator[Listening]:
    """One of each."""
    site = Listening()
    yield site
    site.close()


def test_commands_that_cost_too_much_wait(site: Listening) -> None:
    """A few at once, then a twentieth of the time; nothing is lost, and nobody is woken in vain."""
    cost_us = BURST_US // 3
    for number in range(8):
        site.say(number)
    assert site.listen_to_all(cost_us) == 4
    due_us = site.companion.due_us()
    assert due_us is not None
    assert due_us > site.now_us + (SHARE - 4) * cost_us
    site.companion.listen_again(due_us - 1, site.waiter)
    assert site.listen_to_all() == 0
    begin_us = site.now_us = due_us
    site.companion.listen_again(due_us, site.waiter)
    assert site.companion.due_us() is None
    while len(site.heard) < 8:
        site.listen(cost_us)
        site.now_us = site.companion.due_us() or site.now_us
        site.companion.listen_again(site.now_us, site.waiter)
    assert site.heard == list(range(8))
    assert SHARE - 2 <= (site.now_us - begin_us) / (4 * cost_us) <= SHARE + 2


def test_every_command_wakes_the_loop_and_counts(site: Listening) -> None:
    """However cheap they are: a flood ends, and a second later there is room for as many as that second grants."""
    flood = 2 * BURST_US // LEAST_US
    heard = 0
    for number in range(flood):
        site.say(number)
        heard += site.listen_to_all()
        if site.companion.due_us() is not None:
            break
    assert heard == BURST_US // LEAST_US + 1
    site.now_us += 1_000_000
    site.companion.listen_again(site.now_us, site.waiter)
    for number in range(flood):
        if site.companion.due_us() is not None:
            break
        site.say(number)
        site.listen_to_all()
    assert len(site.heard) - heard == 1_000_000 // SHARE // LEAST_US


def test_a_quiet_one_is_always_heard(site: Listening) -> None:
    """Ten questions a second, which is more than people ask."""
    for number in range(2000):
        site.say(number)
        assert site.listen_to_all(LEAST_US // 2) == 1
        site.now_us += 100_000
    assert site.companion.due_us() is None


def test_its_end_is_seen_afterwards(site: Listening) -> None:
    """Of one that said too much before it died."""
    site.say(0)
    assert site.listen_to_all(2 * BURST_US) == 1
    site.outside.close()
    due_us = site.companion.due_us()
    assert due_us is not None
    site.now_us = due_us
    site.companion.listen_again(due_us, site.waiter)
    assert site.listen(0)
    assert not site.companion.restart(site.now_us, site.waiter, calm=True)
    assert site.companion.due_us() is None
    assert not site.companion.tell("note")

"""The watchdog, in this process and with real children."""

from __future__ import annotations

import os
import socket
import subprocess
from typing import TYPE_CHECKING

import pytest

from oomd.lmkd.registry import Record
from oomd.lmkd.watchdog import BEAT_US, Leash, Watchdog
from oomd.model.snapshot import ProcessId
from tests.descriptors import open_descriptors, opened_since
from tests.lmkd.machine import Machine

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.integration


class Pair:
    """Both ends in this process; the watchdog takes a message when it is told to."""

    def __init__(self, root: Path) -> None:
        self.machine = Machine(root)
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.leash = Leash(ours.detach())
        self.watchdog = Watchdog(theirs.detach(), str(root))
        self.watchdog._socket.setblocking(False)

    def deliver(self) -> None:
        """All that was sent."""
        while True:
            try:
                data, ancillary, _, _ = self.watchdog._socket.recvmsg(64, socket.CMSG_SPACE(4))
            except BlockingIOError:
                return
            self.watchdog._take(data, ancillary)


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    """On a machine that is not short."""
    pair = Pair(tmp_path / "proc")
    yield pair
    pair.leash.close()
    for pid in list(pair.watchdog._known):
        pair.watchdog._forget(pid)
    pair.watchdog._socket.close()
    pair.watchdog._files.close()


@pytest.fixture
def children() -> Iterator[list[subprocess.Popen[bytes]]]:
    """Four that do nothing."""
    children = [subprocess.Popen(["sleep", "300"]) for _ in range(4)]
    yield children
    for child in children:
        child.kill()
        child.wait()


def record(child: subprocess.Popen[bytes], adj: int, order: int) -> Record:
    """As the registry keeps it."""
    return Record(ProcessId(child.pid, 1), os.pidfd_open(child.pid), 0, adj, None, order)


def test_order_and_limits(pair: Pair, children: list[subprocess.Popen[bytes]]) -> None:
    """One at a time: the highest adj, of equal ones who was longest left alone; never below 0, never without need."""
    records = [
        record(child, adj, order) for child, adj, order in zip(children, (900, 900, 0, -1), (2, 1, 3, 4), strict=True)
    ]
    for each in records:
        pair.leash.note(each)
        os.close(each.pidfd)  # the watchdog's is its own
    pair.deliver()
    pair.watchdog.act()
    assert pair.leash.take_killed() == []
    pair.machine.set_meminfo(MemFree=4)
    for _ in range(5):
        pair.watchdog.act()
    pids = [child.pid for child in children]
    assert pair.leash.take_killed() == [(pids[1], 900), (pids[0], 900), (pids[2], 0)]
    assert [child.wait(90) for child in children[:3]] == [-9, -9, -9]
    assert children[3].poll() is None


def test_dead_and_forgotten_are_passed_over(pair: Pair, children: list[subprocess.Popen[bytes]]) -> None:
    """Who has ended, or is registered no more, is no victim; no descriptor stays behind."""
    before = open_descriptors()
    for order, child in enumerate(children[:3]):
        each = record(child, 900, order)
        pair.leash.note(each)
        os.close(each.pidfd)
    children[0].kill()
    children[0].wait()
    pair.leash.drop(children[1].pid)
    pair.deliver()
    pair.machine.set_meminfo(MemFree=4)
    pair.watchdog.act()
    assert pair.leash.take_killed() == [(children[2].pid, 900)]
    assert opened_since(before) == []


def test_what_did_not_fit_is_told_anew(pair: Pair, children: list[subprocess.Popen[bytes]]) -> None:
    """A socket that was full for a while costs nothing in the end."""
    each = record(children[0], 900, 1)
    for _ in range(5000):
        pair.leash.drop(1)  # fills it
    pair.leash.note(each)
    pair.deliver()
    assert pair.watchdog._known == {}
    pair.leash.beat(BEAT_US, [each])
    pair.deliver()
    assert set(pair.watchdog._known) == {children[0].pid}
    os.close(each.pidfd)


def test_a_pause_is_kept(pair: Pair, children: list[subprocess.Popen[bytes]]) -> None:
    """While nobody is to be chosen the watchdog knows nobody, whoever is registered meanwhile; then everybody again."""
    records = [record(child, 900, place) for place, child in enumerate(children[:2])]
    pair.leash.note(records[0])
    pair.leash.holds_back = True
    pair.leash.beat(BEAT_US, records)
    pair.leash.note(records[1])
    pair.deliver()
    assert pair.watchdog._known == {}
    pair.machine.set_meminfo(MemFree=4)
    pair.watchdog.act()
    pair.leash.beat(2 * BEAT_US, records)
    pair.deliver()
    assert pair.watchdog._known == {}
    pair.leash.holds_back = False
    pair.leash.beat(3 * BEAT_US, records)
    pair.deliver()
    assert pair.watchdog._known.keys() == {each.id.pid for each in records}
    assert all(child.poll() is None for child in children)
    for each in records:
        os.close(each.pidfd)

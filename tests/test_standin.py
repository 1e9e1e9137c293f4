"""The killer's end of the watchdog: a real process, on the files of a machine that is not short."""

from __future__ import annotations

import os
import select
import signal
import subprocess
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from oomd.kill.importance import DryImportance
from oomd.lmkd.names import Names
from oomd.lmkd.registry import Registry, Sender
from oomd.lmkd.wire import Registration
from oomd.monitor.waiter import Waiter
from oomd.standin import AGAIN_US, StandIn
from tests.descriptors import open_descriptors, opened_since
from tests.lmkd.client import PATIENCE_S
from tests.lmkd.machine import Machine
from tests.lmkd.served import sleepers

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.integration


class Anybody:
    """No scope: nobody is touched here."""

    roots: frozenset[int] = frozenset()

    def prove(self, _: Any) -> str:
        """Everybody may be registered."""
        return ""


class Killer:
    """What a killer has of it."""

    def __init__(self, root: Path) -> None:
        Machine(root)
        self.lines: list[str] = []
        self._proc_fd = os.open("/proc", os.O_RDONLY | os.O_DIRECTORY)
        names = Names(self._proc_fd, lambda: 0)
        admits = DryImportance(Anybody())  # type: ignore[arg-type]
        self.registry = Registry(admits, self._proc_fd, self.say, names, compatible=True)
        self.waiter = Waiter()
        self.standin = StandIn(self.registry, self.waiter, "lmkd", self.say, str(root))
        self.pids: set[int] = set()

    def say(self, letter: str, text: str) -> None:
        """Kept."""
        self.lines.append(f"{letter} {text}")

    def start(self, now_us: int) -> None:
        """Start it."""
        self.standin.start(now_us)
        self.pids.add(self.standin.pid)

    def hear_the_end(self, now_us: int) -> None:
        """It has ended, and the loop is woken."""
        ((key, _),) = self.waiter.wait_ready(int(PATIENCE_S * 1e6))
        assert isinstance(key, tuple)
        assert self.standin.owns(key[1])
        assert self.standin.hear(now_us) == []

    def close(self) -> None:
        """End everything."""
        self.standin.close()
        self.registry.close()
        self.waiter.close()
        os.close(self._proc_fd)
        for pid in self.pids - {0}:
            os.waitpid(pid, 0)


@contextmanager
def killer(root: Path) -> Iterator[Killer]:
    """One, and nothing of it stays."""
    before = open_descriptors()
    one = Killer(root)
    try:
        yield one
    finally:
        one.close()
    assert opened_since(before) == []


def knows(pid: int, registered: int) -> bool:
    """Whether this process has a pidfd of that one."""
    for entry in os.listdir(f"/proc/{pid}/fdinfo"):
        try:
            with open(f"/proc/{pid}/fdinfo/{entry}", encoding="ascii") as file:
                if f"\nPid:\t{registered}\n" in file.read():
                    return True
        except FileNotFoundError:
            continue
    return False


def wait_until_it_knows(pid: int, registered: int) -> None:
    """Messages take their time; the killer's beat is not waited for."""
    deadline = select.poll()
    for _ in range(int(PATIENCE_S * 100)):
        if knows(pid, registered):
            return
        deadline.poll(10)
    raise AssertionError(f"{pid} has no pidfd of {registered}")


def test_one_that_ended_is_started_again_and_told_of_everybody(tmp_path: Path) -> None:
    """Not at once, and only while memory is calm."""
    with killer(tmp_path / "proc") as one, sleepers(1) as (registered,):
        one.start(0)
        one.registry.register(Sender(os.getpid(), 0), Registration(registered, 0, 900))
        wait_until_it_knows(one.standin.pid, registered)
        first = one.standin.pid
        os.kill(first, signal.SIGKILL)
        one.hear_the_end(1000)
        assert one.lines == ["E the watchdog has ended"]
        assert one.registry.watchdog is None
        one.standin.beat(1000 + AGAIN_US - 1, calm=True)
        one.standin.beat(1000 + AGAIN_US, calm=False)
        assert one.standin.pid == first
        one.standin.beat(1000 + AGAIN_US, calm=True)
        one.pids.add(one.standin.pid)
        assert one.standin.pid != first
        wait_until_it_knows(one.standin.pid, registered)


def test_one_that_cannot_be_started_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The killer goes on without."""

    def refuse(*_: object, **__: object) -> int:
        raise OSError(11, "Resource temporarily unavailable")

    with killer(tmp_path / "proc") as one:
        with monkeypatch.context() as patch:
            patch.setattr(os, "posix_spawn", refuse)
            one.start(0)
        assert one.lines == ["E no watchdog: Resource temporarily unavailable"]
        assert one.standin.pid == 0
        one.standin.beat(AGAIN_US, calm=True)
        one.pids.add(one.standin.pid)
        assert one.standin.pid != 0


def test_it_ends_with_the_killer(tmp_path: Path) -> None:
    """However that ends: its end of the socket is closed."""
    with killer(tmp_path / "proc") as one:
        one.start(0)
        pid = one.standin.pid
        one.standin.close()
        assert os.waitpid(pid, 0) == (pid, 0)
        one.pids.clear()
        assert one.registry.watchdog is None
        assert subprocess.run(["kill", "-0", str(pid)], check=False, capture_output=True).returncode == 1

"""A control socket in this process: the real codec, registry and server, the real gate, pumped by the test."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from oomd.kernel.scope import ScopeGuard
from oomd.kill.importance import Importance
from oomd.kill.warrant import Gate
from oomd.lmkd.listening import open_listener
from oomd.lmkd.names import Names
from oomd.lmkd.registry import Registry
from oomd.lmkd.server import Server
from oomd.lmkd.service import Service
from oomd.lmkd.wire import LEVELS
from oomd.model.scope import parse_scope
from oomd.monitor.waiter import Waiter
from tests.lmkd.client import PATIENCE_S, Client
from tests.waiting import is_ready

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).parents[2]


class Served:
    """Server, registry, and what they said."""

    def __init__(
        self, path: str, *, level: str = "A15", compatible: bool = True, scope: str = "", most: int = 64
    ) -> None:
        self.path = path
        self.lines: list[tuple[str, str]] = []
        self.now_us = 0
        self.monitoring = 0
        self.good_properties = True
        self.properties_asked: list[Callable[[bool], None]] = []
        self.properties_later = False
        self.waiter = Waiter()
        self._proc_fd = os.open("/proc", os.O_RDONLY | os.O_DIRECTORY)
        guard = ScopeGuard(parse_scope(scope or f"tree:{os.getpid()}"), self._proc_fd)
        admits = Importance(Gate(guard, self._proc_fd, frozenset()), self._proc_fd)
        self.names = Names(self._proc_fd, lambda: self.now_us)
        self.names.start()
        self.registry = Registry(admits, self._proc_fd, self.say, self.names, compatible=compatible, most=most)
        self.service = Service(self.registry, LEVELS[level], self, self.say, lambda: self.now_us)
        self.server = Server(open_listener(path), self.waiter, self.service, self.say, replaces=compatible)
        self.server.start()

    def update_properties(self, done: Callable[[bool], None]) -> None:
        """As the test says, and when it says so."""
        if self.properties_later:
            self.properties_asked.append(done)
        else:
            done(self.good_properties)

    def start_monitoring(self) -> None:
        """Counted."""
        self.monitoring += 1

    def say(self, letter: str, text: str) -> None:
        """Kept."""
        self.lines.append((letter, text))

    def pump(self) -> None:
        """Deal with everything that is there."""
        while events := self.waiter.wait_ready(0):
            for key, lost in events:
                assert isinstance(key, tuple)
                self.server.on_event(key[1], lost=lost)

    def wait_for_name(self, pid: int) -> None:
        """Until the thread that reads names knows this one's."""
        end = time.monotonic() + PATIENCE_S
        while not self.names.of(pid):
            assert time.monotonic() < end
            os.sched_yield()

    def connect(self) -> Client:
        """A client of this process, accepted; that it was is not news."""
        client = Client(self.path)
        self.pump()
        self.lines = [line for line in self.lines if line[1] != "lmkd data connection established"]
        return client

    def told(self, client: Client, *words: int) -> list[str]:
        """What is said about this packet."""
        client.send(*words)
        return self.news()

    def news(self) -> list[str]:
        """What was said since the last question."""
        self.pump()
        texts = [text for _, text in self.lines]
        self.lines.clear()
        return texts

    def adjs(self) -> dict[int, int]:
        """Pid to adj of everybody registered who lives."""
        self.registry.forget_dead()
        return {each.id.pid: each.adj for each in self.registry.candidates()}

    def close(self) -> None:
        """Close everything."""
        self.server.close()
        self.registry.close()
        self.names.stop()
        self.names.wait_end()
        self.waiter.close()
        os.close(self._proc_fd)
        os.unlink(self.path)


@contextmanager
def sleepers(count: int) -> Iterator[list[int]]:
    """Children that do nothing."""
    children = [subprocess.Popen(["sleep", "300"]) for _ in range(count)]
    try:
        yield [child.pid for child in children]
    finally:
        for child in children:
            child.kill()
            child.wait()


class Stranger:
    """A client in a process of its own."""

    def __init__(self, served: Served) -> None:
        self._served = served
        command = [sys.executable, "-m", "tests.lmkd.client", served.path]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT)
        self.send(b"")

    def send(self, data: bytes) -> None:
        """Have it send this, and deal with it."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{data.hex()}\n".encode())
        self.process.stdin.flush()
        end, heard = time.monotonic() + PATIENCE_S, b""
        while not heard.endswith(b"\n"):
            assert time.monotonic() < end, f"only {heard!r} in {PATIENCE_S} s"
            self._served.pump()
            if is_ready(self.process.stdout, 0.001):
                heard += os.read(self.process.stdout.fileno(), 256)

    def end(self) -> None:
        """Its process ends, and with it its connection."""
        self.process.kill()
        self.process.communicate()
        self._served.pump()


def read_adj(pid: int) -> int:
    """What the kernel says."""
    return int(Path(f"/proc/{pid}/oom_score_adj").read_text(encoding="ascii"))

"""What the outside process asks of the killer, on the daemon's loop in a dry run."""

from __future__ import annotations

import marshal
import os
import socket
from typing import TYPE_CHECKING, Any

import pytest

from oomd.companion import Companion
from oomd.config.compiled import to_plain
from oomd.config.loader import load_config
from oomd.kernel.files import PAGE_BYTES, KernelFile
from oomd.kernel.scope import ScopeGuard
from oomd.kill.executor import Executor
from oomd.loop import Loop
from oomd.model.config import Config
from oomd.model.scope import Scope
from oomd.monitor.process_table import ProcessTable
from oomd.monitor.sampler import Sampler
from oomd.monitor.sharing import SharingMeter
from oomd.monitor.waiter import Waiter
from oomd.orders import MOST_WAITING, Orders
from oomd.parts import Parts
from tests.fakes.proc_tree import ProcTree

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

GIB = 1 << 30


class Site:
    """A loop on a fake tree, its orders, and the outside's end of the link."""

    def __init__(self, root: Path) -> None:
        self.proc = ProcTree(root / "proc")
        self.proc.add_process(1001, rss_anon=GIB, comm="web")
        self._fd = os.open(self.proc.root, os.O_RDONLY | os.O_DIRECTORY)
        ours, self.outside = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        self.outside.settimeout(20)
        companion = Companion(ours.detach(), 0, [], "")
        self.ready: list[int] = []
        waiter = Waiter()
        parts = Parts(
            waiter=waiter,
            sampler=Sampler(str(self.proc.root), PAGE_BYTES),
            table=ProcessTable(
                self._fd,
                ScopeGuard(Scope(), self._fd),
                frozenset(),
                vmstat=KernelFile(f"{self.proc.root}/vmstat"),
                loadavg=KernelFile(f"{self.proc.root}/loadavg"),
                page_bytes=PAGE_BYTES,
            ),
            sharing=SharingMeter(self._fd),
            executor=Executor(None, None, waiter),
            on_event=lambda key, lost: None,
            report=companion.send,
            on_tick=lambda now: self.orders.on_tick(),
        )
        self.loop = Loop(parts, configuration().rules)
        self.orders = Orders(configuration(), self.loop, companion, lambda: self.ready.append(1))
        self._companion = companion

    def hear(self) -> Any:
        """The next event."""
        return marshal.loads(self.outside.recv(1 << 20))

    def close(self) -> None:
        """Let go of everything."""
        self.loop.parts.table.close()
        self.loop.parts.waiter.close()
        self.outside.close()
        self._companion._link.close()
        os.close(self._fd)


def configuration(text: str = "level: {term: 1GiB}\n") -> Config:
    """A configuration."""
    path = "oomd.yaml"
    loaded = load_config(None) if not text else load_text(path, text)
    assert isinstance(loaded, Config)
    return loaded


def load_text(path: str, text: str) -> Config | Any:
    """From text."""
    fd = os.memfd_create(path)
    try:
        os.write(fd, text.encode())
        return load_config(f"/proc/self/fd/{fd}")
    finally:
        os.close(fd)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """One of each."""
    site = Site(tmp_path)
    yield site
    site.close()


def test_how_things_stand_is_told_after_the_next_look(site: Site) -> None:
    """Figures of the very tick that follows the question, not of one before."""
    site.loop.tick()
    site.orders.take({"command": "status", "number": 5})
    site.proc.set_meminfo(available=3 * GIB)
    site.loop.tick()
    answer = site.hear()
    assert (answer["event"], answer["number"], answer["ok"]) == ("answer", 5, True)
    status = answer["status"]
    assert status["status"]["mem_available_bytes"] == 3 * GIB
    assert [ruleset["ruleset"] for ruleset in status["rulesets"]] == ["level", "stall"]
    assert (status["ticks"], status["dry_run"], status["kills"]) == (2, True, [])
    assert (status["reports_dropped"], sum(status["lags"]["counts"])) == (0, 2)


def test_questions_are_bounded(site: Site) -> None:
    """Between two looks so many are kept; the others are not answered, and cost nothing."""
    for number in range(MOST_WAITING + 5):
        site.orders.take({"command": "status", "number": number})
    site.loop.tick()
    assert [site.hear()["number"] for _ in range(MOST_WAITING)] == list(range(MOST_WAITING))
    site.outside.setblocking(False)
    with pytest.raises(BlockingIOError):
        site.hear()


def test_another_configuration_is_taken_or_refused_as_a_whole(site: Site) -> None:
    """Rules change at once; what needs a restart keeps everything as it was, and says so."""
    site.orders.take({"command": "config", "plain": to_plain(configuration("level: {term: 2GiB}\nstall: off\n"))})
    assert site.hear()["text"] == "reloaded"
    assert [ruleset.name for ruleset in site.loop.rules.rulesets] == ["level"]
    site.orders.take({"command": "config", "plain": to_plain(configuration("budget: 1GiB\n"))})
    refused = site.hear()
    assert (refused["ok"], refused["text"]) == (False, "kept the old configuration")
    assert "budget" in refused["problems"][0]
    assert [ruleset.name for ruleset in site.loop.rules.rulesets] == ["level"]
    site.orders.take({"command": "reload_failed", "problems": ["oomd.yaml:1:1: …"]})
    assert site.hear()["problems"] == ["oomd.yaml:1:1: …"]
    assert len(site.ready) == 3


def test_what_is_not_understood_is_left_alone(site: Site) -> None:
    """A newer outside process may know more."""
    for message in ({"command": "dance"}, {}, {"command": "answer", "number": 99}):
        site.orders.take(message)
    site.loop.tick()
    assert site.loop.ticks == 1

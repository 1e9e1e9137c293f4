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
from oomd.monitor.bound import GrowthBound
from oomd.monitor.process_table import ProcessTable
from oomd.monitor.sampler import Sampler
from oomd.monitor.sharing import SharingMeter
from oomd.monitor.waiter import Waiter
from oomd.orders import MOST_WAITING, Orders
from oomd.parts import Parts
from tests.ends import until_end
from tests.fakes.proc_tree import ProcTree
from tests.waiting import is_ready

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
        self.outside.settimeout(90)
        companion = Companion(ours.detach(), 0, [], "")
        self.notified: list[str] = []
        self.last: Any = None
        waiter = until_end(Waiter())
        parts = Parts(
            waiter=waiter,
            sampler=until_end(Sampler(str(self.proc.root), PAGE_BYTES)),
            table=ProcessTable(
                self._fd,
                ScopeGuard(Scope(), self._fd),
                frozenset(),
                bound=GrowthBound(until_end(KernelFile(f"{self.proc.root}/vmstat")), PAGE_BYTES),
                loadavg=until_end(KernelFile(f"{self.proc.root}/loadavg")),
                page_bytes=PAGE_BYTES,
            ),
            sharing=SharingMeter(self._fd),
            executor=Executor(None, None, waiter),
            on_event=lambda key, lost: None,
            report=companion.send,
            on_tick=lambda now: self.orders.on_tick(now),  # noqa: PLW0108 - orders are made after the loop
        )
        self.loop = Loop(parts, configuration().rules)
        self.orders = Orders(
            configuration(), self.loop, companion, self.notified.append, lambda: self.notified.append("STATUS")
        )
        self.companion = companion

    def reload(self, **answer: Any) -> None:
        """A reload, with what the outside process answers."""
        self.orders.reload.begin()
        request = self.hear()
        assert (request["event"], request["request"]) == ("request", "reload")
        self.orders.take({"command": "answer", "number": request["number"], **answer})

    def hear(self) -> Any:
        """The next event."""
        self.last = marshal.loads(self.outside.recv(1 << 20))
        return self.last

    def heard(self) -> list[Any]:
        """All that was told since."""
        events = []
        while is_ready(self.outside, 0):
            events.append(self.hear())
        return events

    def silent(self) -> None:
        """Nothing was told since."""
        assert self.heard() == []

    def close(self) -> None:
        """Let go of everything."""
        self.loop.parts.table.close()
        self.outside.close()
        self.companion._link.close()
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
    assert answer["managed"] == {
        "swap_limit": 0.9,
        "pressure_limit": 0.6,
        "pressure_duration_us": 30_000_000,
        "units": [],
    }
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
    site.reload(ok=True, plain=to_plain(configuration("level: {term: 2GiB}\nstall: off\n")))
    assert site.hear()["text"] == "reloaded"
    assert [ruleset.name for ruleset in site.loop.rules.rulesets] == ["level"]
    site.reload(ok=True, plain=to_plain(configuration("budget: 1GiB\n")))
    refused = site.hear()
    assert (refused["ok"], refused["text"]) == (False, "kept the old configuration")
    assert "budget" in refused["problems"][0]
    assert [ruleset.name for ruleset in site.loop.rules.rulesets] == ["level"]
    site.reload(ok=False, problems=["oomd.yaml:1:1: …"])
    assert site.hear()["problems"] == ["oomd.yaml:1:1: …"]
    site.reload(ok=True, plain=("Config", {"nonsense": 1}))
    assert "not a configuration" in site.hear()["problems"][0]
    site.reload(ok=False, text="reload failed: KeyError()")
    assert site.hear()["problems"] == ["reload failed: KeyError()"]
    assert site.notified == ["RELOADING=1", "READY=1"] * 5


def test_reloads_come_one_after_the_other(site: Site) -> None:
    """Whoever asks while one is under way gets the next, because the file may have changed; each is answered once."""
    site.orders.take({"command": "reload", "number": 5})
    first = site.hear()
    assert (first["request"], first["number"]) == ("reload", 1)
    site.orders.reload.begin()  # SIGHUP
    site.orders.take({"command": "reload", "number": 6})
    plain = to_plain(configuration("level: {term: 2GiB}\n"))
    site.orders.take({"command": "answer", "number": 1, "ok": True, "plain": plain})
    assert [site.hear()["event"], site.hear()["number"]] == ["reload", 5]
    second = site.hear()
    assert (second["event"], second["number"]) == ("request", 2)
    site.orders.take({"command": "answer", "number": 2, "ok": False, "problems": ["oomd.yaml:1:1: …"]})
    site.hear()
    answer = site.hear()
    assert (answer["number"], answer["ok"], answer["problems"]) == (6, False, ["oomd.yaml:1:1: …"])
    assert site.notified == ["RELOADING=1", "READY=1"] * 2


def test_a_reload_that_nobody_does_ends(site: Site) -> None:
    """The outside process hangs, or is gone: the service manager hears that we are ready all the same."""
    site.orders.take({"command": "reload", "number": 5})
    site.companion.expire(1 << 62)
    site.hear()
    assert site.hear()["problems"] == ["no answer in time"]
    answer = site.hear()
    assert (answer["number"], answer["ok"]) == (5, False)
    site.outside.close()
    site.orders.reload.begin()
    assert site.notified == ["RELOADING=1", "READY=1"] * 2


def test_what_is_not_understood_is_left_alone(site: Site) -> None:
    """A newer outside process may know more."""
    for message in ({"command": "dance"}, {}, {"command": "answer", "number": 99}):
        site.orders.take(message)
    site.loop.tick()
    assert site.loop.ticks == 1

"""Metrics in the outside process, beside a killer of fakes on a real link."""

from __future__ import annotations

import json
import marshal
import os
import socket
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from prometheus_client.parser import text_string_to_metric_families as read_text

from oomd.config.addresses import Address
from oomd.outside.killer import Killer
from oomd.outside.ledger import Ledger
from oomd.outside.metrics.opening import start_metrics
from oomd.outside.reporter import Reporter
from tests.outside.metrics.reports import DECISION, answer, outcome, start
from tests.outside.metrics.serving import PATIENCE_S, ask, can_connect, free_port, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from oomd.outside.metrics.service import Service


class Site:
    """A killer that answers while :attr:`answers`, and what the reporter was given."""

    def __init__(self) -> None:
        self.ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.told: list[dict[str, Any]] = []
        self.reporter = Reporter(self.told.append)
        self._theirs = theirs
        self.killer = Killer(theirs.fileno())
        self.answers = True
        self._serving = threading.Thread(target=self.killer.serve, daemon=True)
        self._serving.start()
        threading.Thread(target=self._be_the_killer, daemon=True).start()

    def send(self, event: dict[str, Any]) -> None:
        """A report."""
        self.ours.send(marshal.dumps(event))

    def close(self) -> None:
        """The killer ends, and its outside process with it."""
        self.ours.shutdown(socket.SHUT_RDWR)  # both threads read: an end wakes them, a close would not
        self._serving.join(PATIENCE_S)
        assert not self._serving.is_alive()
        self._theirs.close()
        self.ours.close()

    def texts(self) -> list[str]:
        """What people are told."""
        return [event.get("text", "") for event in self.told]

    def _be_the_killer(self) -> None:
        while data := self.ours.recv(1 << 18):
            question = marshal.loads(data)
            if self.answers and question["command"] == "status":
                self.send({"event": "answer", "number": question["number"], "ok": True, "status": answer()})


@contextmanager
def running(ledger_fd: int = -1, **asked: Any) -> Iterator[tuple[Site, Service]]:
    """The service as the configuration asks for it."""
    site = Site()
    options = {"metrics": {"listen": [], "textfile": "", **asked}}
    service = start_metrics(options, site.killer, Ledger(ledger_fd), site.reporter)
    assert service is not None
    for text in asked.get("listen", ()):
        wait_until("somebody listens", lambda: can_connect(Address.of(text)))  # noqa: B023 - called at once
    try:
        yield site, service
    finally:
        service.stop()
        site.close()


def numbers_of(text: str) -> dict[str, float]:
    """Every series by name and labels, as ``name{label,…}``."""
    found = {}
    for family in read_text(text):
        for sample in family.samples:
            labels = ",".join(sample.labels.values())
            found[f"{sample.name}{{{labels}}}" if labels else sample.name] = sample.value
    return found


def scraped(address: Address) -> dict[str, float]:
    """What a scrape reads."""
    return numbers_of(ask(address).partition(b"\r\n\r\n")[2].decode())


@pytest.fixture
def at() -> Address:
    """A free address."""
    return Address("127.0.0.1", free_port())


def test_scrape_of_a_kill(at: Address) -> None:
    """Reports over the link, the killer's answer, our own requests: all in one answer."""
    with running(listen=[str(at)]) as (site, _):
        for event in (start(), DECISION, outcome()):
            site.send(event)
        wait_until("it is counted", lambda: scraped(at).get("oomd_kills_total{killed,level,SIGKILL}") == 1)
        found = scraped(at)
        assert (found["oomd_killer_up"], found["oomd_headroom_bytes"]) == (1, 5 << 20)
        wait_until("requests are counted", lambda: scraped(at).get("oomd_metrics_requests_total{200}", 0) >= 1)


def test_scrape_while_the_killer_hangs(at: Address, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is answered, and says so."""
    monkeypatch.setattr("oomd.outside.metrics.service.ANSWER_S", 0.5)
    with running(listen=[str(at)]) as (site, _):
        site.answers = False
        wait_until("it is down", lambda: scraped(at)["oomd_killer_up"] == 0)
        assert "oomd_headroom_bytes" not in scraped(at)
        site.answers = True
        wait_until("it is up", lambda: scraped(at)["oomd_killer_up"] == 1)


def test_counts_outlive_the_process(at: Address) -> None:
    """Each is kept at once: a process that was killed in the middle has left them to the next."""
    ledger_fd = os.memfd_create("ledger")
    with running(ledger_fd, listen=[str(at)]) as (site, _):
        site.send(outcome())
        wait_until("it is kept", lambda: "oomd_kills_total" in Ledger(ledger_fd).page("metrics").get("numbers", {}))
        left = os.memfd_create("left")  # as it is now, whatever an orderly end would add
        os.sendfile(left, ledger_fd, 0, 1 << 22)
    with running(left, listen=[str(at)]) as (site, _):
        site.send(outcome())
        wait_until("both are counted", lambda: scraped(at)["oomd_kills_total{killed,level,SIGKILL}"] == 2)
        assert scraped(at)["oomd_outside_starts_total"] == 2
    os.close(ledger_fd)
    os.close(left)


def test_textfile(tmp_path: Path) -> None:
    """Written at the start and after each kill; the last one says that the killer has ended, and keeps the counts."""
    path = tmp_path / "oomd.prom"

    def read() -> dict[str, float]:
        return numbers_of(path.read_text(encoding="utf-8")) if path.exists() else {}

    with running(textfile=str(path)) as (site, service):
        wait_until("it is there", lambda: "oomd_headroom_bytes" in read())
        site.send(outcome())
        wait_until("the kill is in it", lambda: read()["oomd_kills_total{killed,level,SIGKILL}"] == 1)
        service.stop()
        last = read()
        assert (last["oomd_killer_up"], last["oomd_kills_total{killed,level,SIGKILL}"]) == (0, 1)
        assert "oomd_headroom_bytes" not in last
    assert [each.name for each in tmp_path.iterdir()] == ["oomd.prom"]


def test_what_cannot_be_had_is_told_once_and_had_later(
    tmp_path: Path, at: Address, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A taken port, a missing folder: degraded, counted, tried again, and told when it works."""
    monkeypatch.setattr("oomd.outside.metrics.web.RETRY_S", 0.05)
    folder = tmp_path / "later"
    taken = socket.create_server((at.host, at.port))
    with running(listen=[str(at)], textfile=str(folder / "oomd.prom")) as (site, service):
        wait_until("both are told", lambda: len(site.told) == 2)
        assert {event["event"] for event in site.told} == {"degraded"}
        assert f"metrics cannot be served on {at} (Address already in use); trying again every 5 s" in site.texts()
        assert any("cannot be written" in text and "No such file" in text for text in site.texts())
        taken.close()
        folder.mkdir()
        site.send(outcome())
        wait_until("the port is had", lambda: f"metrics are served on {at} now" in site.texts())
        wait_until("the file is had", lambda: f"metrics are written to {folder}/oomd.prom now" in site.texts())
        assert scraped(at)["oomd_degradations_total"] == 2
        assert len(site.told) == 4
        assert service is not None


def test_report_that_cannot_be_counted_is_told(at: Address) -> None:
    """A bug costs this report, neither the next nor the link."""
    with running(listen=[str(at)]) as (site, _):
        site.send({"event": "outcome", "id": "1"})
        site.send(outcome())
        wait_until("the next is counted", lambda: scraped(at).get("oomd_kills_total{killed,level,SIGKILL}") == 1)
        wait_until("it is told", lambda: any("cannot be counted" in text for text in site.texts()))


def test_bug_in_a_figure_costs_the_scrape_only(at: Address, monkeypatch: pytest.MonkeyPatch) -> None:
    """Status 500, told once; the server stays."""
    with running(listen=[str(at)]) as (site, service):
        with monkeypatch.context() as broken:
            broken.setattr(service._exposition, "render", lambda *_: json.loads("{"))
            assert [ask(at).split()[1] for _ in range(3)] == [b"500"] * 3
        assert ask(at).split()[1] == b"200"
        wait_until("it is told", lambda: any("a request for metrics failed" in text for text in site.texts()))
        assert len(site.told) == 1

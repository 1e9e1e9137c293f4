"""Metrics of a real daemon: a kill that is scraped, an outside process that is killed, a killer that hangs."""

from __future__ import annotations

import contextlib
import os
import signal
import urllib.request
from typing import TYPE_CHECKING

import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families as read_text

from oomd.config.addresses import Address
from tests.integration.test_run import daemon, hear, outside_of, tell, tree, wait_until
from tests.outside.metrics.serving import free_port

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from prometheus_client.core import Metric

pytestmark = pytest.mark.integration


def scrape(address: Address) -> dict[str, float]:
    """Every series by ``name{label,…}``; empty while nobody serves."""
    with contextlib.suppress(OSError), urllib.request.urlopen(f"http://{address}/metrics", timeout=120) as answer:
        families: list[Metric] = list(read_text(answer.read().decode()))
        return {
            f"{sample.name}{{{','.join(sample.labels.values())}}}": sample.value
            for family in families
            for sample in family.samples
        }
    return {}


def scraped(address: Address, what: str, fits: Callable[[dict[str, float]], bool]) -> dict[str, float]:
    """A scrape that fits, waiting for it: on a busy machine the killer may not have answered in time for this one."""
    found: dict[str, float] = {}

    def fitting() -> bool:
        found.clear()
        found.update(scrape(address))
        return fits(found)

    wait_until(what, fitting)
    return found


def is_up(found: dict[str, float]) -> bool:
    """Whether the killer has answered."""
    return found.get("oomd_killer_up{}") == 1


def kills(found: dict[str, float]) -> float:
    """How many processes were killed, or went."""
    names = ("oomd_kills_total{exited,level,SIGTERM}", "oomd_kills_total{killed,level,SIGKILL}")
    return sum(found.get(name, 0) for name in names)


def test_counts_go_on_when_the_outside_process_was_killed(tmp_path: Path) -> None:
    """A kill is counted; the outside process is killed, started again by the killer, and counts on from there; what the
    killer alone knows is asked of it anew, and the file for node_exporter says the same.
    """
    address, textfile = Address("127.0.0.1", free_port()), tmp_path / "oomd.prom"
    options = ("--metrics-listen", str(address), "--metrics-textfile", str(textfile))
    with tree() as root, daemon(root, tmp_path, *options) as run:
        run.wait_event("start")
        tell(root, "leak leaker 400")
        first = run.wait_event("outcome")
        before = scraped(address, "the kill is scraped", lambda found: kills(found) == 1 and is_up(found))
        assert before["oomd_budget_limit_bytes{}"] == 256 << 20
        assert before["oomd_kill_returned_bytes_total{level}"] == first["returned_bytes"]
        assert before["oomd_detection_to_signal_seconds_count{}"] == 1
        assert before["oomd_process_resident_memory_bytes{killer}"] == pytest.approx(
            psutil.Process(run.process.pid).memory_info().rss, rel=0.3
        )
        outside_of(run).send_signal(signal.SIGKILL)
        run.wait_event("note", lambda event: "started again" in event["text"])
        after = scraped(address, "it is served again", is_up)
        assert kills(after) == 1
        assert (after["oomd_outside_starts_total{}"], after["oomd_reaping_supported{}"]) == (2, 1)
        tell(root, "leak another 400")
        run.wait_event("outcome", lambda event: event["comm"] == "another")
        wait_until("both are counted", lambda: kills(scrape(address)) == 2)
        wait_until("and written", lambda: " 2.0\n" in textfile.read_text(encoding="utf-8"))
    last = textfile.read_text(encoding="utf-8")
    assert "\noomd_killer_up 0.0\n" in last
    assert "oomd_headroom_bytes" not in last


def test_killer_that_is_stopped_is_told_to_be_down(tmp_path: Path) -> None:
    """A scrape is answered without it: nothing stale, and what the kernel tells of both processes."""
    address = Address("127.0.0.1", free_port())
    with tree() as root, daemon(root, tmp_path, "--metrics-listen", str(address)) as run:
        run.wait_event("start")
        wait_until("it is up", lambda: is_up(scrape(address)))
        os.kill(run.process.pid, signal.SIGSTOP)
        try:
            found = scraped(address, "it is down", lambda found: found.get("oomd_killer_up{}") == 0)
            assert "oomd_memory_available_bytes{}" not in found
            assert found["oomd_process_threads{killer}"] > 1
        finally:
            os.kill(run.process.pid, signal.SIGCONT)
        wait_until("it is up again", lambda: is_up(scrape(address)))


def test_taken_port_costs_no_kill(tmp_path: Path) -> None:
    """Told as degraded; the leaker dies as ever. Nobody but the outside process ever has a port."""
    address = Address("127.0.0.1", free_port())
    with tree() as root, daemon(root, tmp_path, "--metrics-listen", str(address)) as run:
        run.wait_event("start")
        wait_until("it is up", lambda: is_up(scrape(address)))
        assert {each.laddr.port for each in outside_of(run).net_connections("inet")} == {address.port}
        assert psutil.Process(run.process.pid).net_connections("inet") == []
        other = tmp_path / "other"
        other.mkdir()
        with tree() as second, daemon(second, other, "--metrics-listen", str(address)) as late:
            told = late.wait_event("degraded")
            assert told["text"].startswith(f"metrics cannot be served on {address} (Address already in use)")
            tell(second, "leak leaker 400")
            hear(second, "leaking")
            assert late.wait_event("outcome")["comm"] == "leaker"

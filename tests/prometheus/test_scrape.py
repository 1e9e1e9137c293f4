"""A real Prometheus scrapes a real daemon that kills."""

from __future__ import annotations

import urllib.request
from typing import TYPE_CHECKING

import pytest

from oomd.config.addresses import Address
from tests.integration.test_run import daemon, tell, tree
from tests.outside.metrics.serving import free_port
from tests.prometheus.server import Prometheus, program, promtool

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.integration


def test_a_query_returns_the_kill_just_caused(tmp_path: Path) -> None:
    """Scraped before and after: the count of its ruleset and outcome rises from 0 to 1, with the bytes that came back,
    and the linter of metrics finds nothing to complain about.
    """
    program("prometheus")
    address = Address("127.0.0.1", free_port())
    with (
        tree() as root,
        daemon(root, tmp_path, "--metrics-listen", str(address)) as run,
        Prometheus(tmp_path, str(address)) as prometheus,
    ):
        prometheus.wait_value("oomd_killer_up", 1)
        prometheus.wait_value('sum(oomd_kills_total{ruleset=~"level|stall"})', 0)
        tell(root, "leak leaker 400")
        event = run.wait_event("outcome")
        ruleset, status, signal = event["ruleset"], event["status"], event["signal"]
        kill = f'oomd_kills_total{{ruleset="{ruleset}", outcome="{status}", signal="{signal}"}}'
        prometheus.wait_value(kill, 1)
        prometheus.wait_value("sum(oomd_kills_total)", 1)
        prometheus.wait_value(f'oomd_kill_returned_bytes_total{{ruleset="{ruleset}"}}', event["returned_bytes"])
        prometheus.wait_value(f"changes({kill}[1m])", 1)
        prometheus.wait_value("oomd_detection_to_signal_seconds_count", 1)
        prometheus.wait_value('up{job="oomd"}', 1)

        def healthy() -> bool:
            return all(rule["health"] == "ok" for rule in prometheus.ask("rules")["groups"][0]["rules"])

        prometheus.wait("the rules are evaluated", healthy)
        with urllib.request.urlopen(f"http://{address}/metrics", timeout=20) as answer:
            assert promtool("check", "metrics", stdin=answer.read()) == (0, "")

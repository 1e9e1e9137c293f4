"""A real node_exporter reads the file that a real daemon writes."""

from __future__ import annotations

import contextlib
import subprocess
import urllib.request
from typing import TYPE_CHECKING

import pytest

from tests.integration.test_run import daemon, tell, tree, wait_until
from tests.outside.metrics.serving import free_port
from tests.prometheus.server import program

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.integration


def test_node_exporter_passes_it_on(tmp_path: Path) -> None:
    """Every figure under its own name, the kill among them; the collector finds no fault, and tells the file's age, as
    the alert wants it.
    """
    exporter, port = program("prometheus-node-exporter", "prometheus-node-exporter"), free_port()
    folder = tmp_path / "textfiles"
    folder.mkdir()
    argv = [exporter, "--collector.disable-defaults", "--collector.textfile", f"--web.listen-address=127.0.0.1:{port}"]
    argv += [f"--collector.textfile.directory={folder}", "--web.disable-exporter-metrics"]

    def scrape() -> list[str]:
        where = f"http://127.0.0.1:{port}/metrics"
        with contextlib.suppress(OSError), urllib.request.urlopen(where, timeout=20) as answer:
            return str(answer.read().decode()).splitlines()
        return []

    with (
        tree() as root,
        daemon(root, tmp_path, "--metrics-textfile", str(folder / "oomd.prom")) as run,
        (tmp_path / "exporter.log").open("wb") as log,
        subprocess.Popen(argv, stdout=log, stderr=log) as process,
    ):
        try:
            run.wait_event("start")
            wait_until("it is passed on", lambda: "oomd_killer_up 1" in scrape())
            tell(root, "leak leaker 400")
            event = run.wait_event("outcome")
            kill = f'oomd_kills_total{{outcome="{event["status"]}",ruleset="level",signal="{event["signal"]}"}} 1'
            wait_until("the kill is passed on", lambda: kill in scrape())
            lines = scrape()
            assert "node_textfile_scrape_error 0" in lines
            assert any(line.startswith("node_textfile_mtime_seconds{file=") and "oomd.prom" in line for line in lines)
        finally:
            process.kill()

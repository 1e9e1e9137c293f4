"""Sockets that systemd passes: a real daemon, started as systemd starts it."""

from __future__ import annotations

import os
import socket
import sys
from typing import TYPE_CHECKING

import pytest

from oomd.commands.passed import metrics_fds, passed_fds
from oomd.config.addresses import Address
from tests.integration.harness import Guarded
from tests.integration.test_metrics import scrape
from tests.integration.test_run import outside_of, tree, wait_until

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("pid", "number", "names", "passed"),
    [
        ("", "2", "metrics", {}),
        ("1", "2", "metrics", {}),
        ("self", "", "", {}),
        ("self", "1", "", {3: ""}),
        ("self", "3", "varlink:metrics:metrics", {3: "varlink", 4: "metrics", 5: "metrics"}),
        ("self", "2", "metrics", {3: "metrics", 4: ""}),
    ],
)
def test_what_was_passed(
    monkeypatch: pytest.MonkeyPatch, pid: str, number: str, names: str, passed: dict[int, str]
) -> None:
    """To this process only, by name."""
    for name, value in (("PID", str(os.getpid()) if pid == "self" else pid), ("FDS", number), ("FDNAMES", names)):
        monkeypatch.setenv(f"LISTEN_{name}", value)
    assert passed_fds(os.getpid()) == passed
    assert metrics_fds(os.getpid()) == [fd for fd, name in passed.items() if name == "metrics"]


@pytest.mark.integration
def test_daemon_serves_on_a_socket_of_systemds(tmp_path: Path) -> None:
    """Without a word in the configuration; an outside process that is started anew goes on with the same socket, in
    which whoever came meanwhile waits.
    """
    with socket.create_server(("127.0.0.1", 0)) as listener, tree() as root:
        address = Address("127.0.0.1", listener.getsockname()[1])
        # What systemd does: descriptor 3, and who it is for.
        code = (
            "import os, sys; os.dup2(int(sys.argv[1]), 3); os.set_inheritable(3, True)\n"
            "os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS='1', LISTEN_FDNAMES='metrics')\n"
            "os.execv(sys.executable, [sys.executable, *sys.argv[2:]])"
        )
        options = ["-m", "oomd", "run", "--scope", f"tree:{root.pid}", "--budget", "256MiB", "--log-format", "json"]
        argv = [sys.executable, "-c", code, str(listener.fileno()), *options, "--runtime-dir", str(tmp_path / "run")]
        with Guarded(argv, pass_fds=(listener.fileno(),)) as run:
            run.wait_event("start")
            wait_until("it is scraped", lambda: scrape(address).get("oomd_killer_up{}") == 1)
            outside_of(run).kill()
            wait_until("by the next one, too", lambda: scrape(address).get("oomd_outside_starts_total{}") == 2)

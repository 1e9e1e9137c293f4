"""A real daemon that honours units' own settings; systemctl is a script of ours."""

from __future__ import annotations

import os
import signal
import sys
from typing import TYPE_CHECKING

from tests.integration.harness import Guarded
from tests.integration.test_run import tree

if TYPE_CHECKING:
    from pathlib import Path

SHOWN = """ControlGroup=/work.slice
ManagedOOMMemoryPressure=kill
ManagedOOMMemoryPressureLimit=858993459

ControlGroup=/
ManagedOOMSwap=kill
"""


def systemctl(folder: Path) -> dict[str, str]:
    """An environment in which systemctl shows two units."""
    script = folder / "bin/systemctl"
    script.parent.mkdir()
    script.write_text(f"#!/bin/sh\ncat <<'END'\n{SHOWN}END\n")
    script.chmod(0o755)
    return {"PATH": f"{script.parent}:{os.environ['PATH']}"}


def test_settings_become_rules(tmp_path: Path) -> None:
    """The killer hears them; other defaults are a matter of a reload, another source is one of a restart."""
    config = tmp_path / "oomd.yaml"
    config.write_text("managed: {systemd: poll}\n")
    with tree() as root:
        argv = [sys.executable, "-m", "oomd", "run", "--scope", f"tree:{root.pid}", "--budget", "256MiB"]
        argv += ["--runtime-dir", str(tmp_path / "run"), "--log-format", "json", "--config", str(config)]
        with Guarded(argv, env=systemctl(tmp_path)) as run:
            told = run.wait_event("note", lambda each: "own settings" in str(each["text"]))
            assert told["text"] == "units' own settings: /: swap above 90%; /work.slice: pressure above 20% for 30s"
            config.write_text("managed: {systemd: poll, pressure_duration: 5s}\n")
            run.process.send_signal(signal.SIGHUP)
            assert run.wait_event("reload")["ok"]
            config.write_text("managed: {systemd: off}\n")
            run.process.send_signal(signal.SIGHUP)
            refused = run.wait_event("reload", lambda each: not each["ok"])
            assert refused["problems"] == ["managed.systemd: changed; that needs a restart"]

"""``oomd demo`` on this machine."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import psutil
import pytest


@pytest.mark.integration
def test_demo_shows_both_kills_and_leaves_nothing() -> None:
    """The leaker and the hog die, the bystander lives, within a minute, and no process of it remains."""
    before = {child.pid for child in psutil.Process().children(recursive=True)}
    begin = time.monotonic()
    command = [sys.executable, "-m", "oomd", "demo"]
    environment = {**os.environ, "OOMD_SCOPE": f"tree:{os.getpid()}"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    assert time.monotonic() - begin < 60
    assert "-> SIGTERM to leaker" in done.stdout
    assert "-> SIGKILL to hog" in done.stdout
    assert "hindered by SCHED_IDLE, nice 19" in done.stdout
    assert "nothing of this is left behind" in done.stdout
    assert {child.pid for child in psutil.Process().children(recursive=True)} <= before
    assert not [
        each for each in psutil.process_iter(["cmdline"]) if "oomd.commands.actors" in (each.info["cmdline"] or [])
    ]

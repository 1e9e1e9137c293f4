"""``oomd demo`` on this machine."""

from __future__ import annotations

import os
import subprocess
import sys
import uuid

import psutil
import pytest


@pytest.mark.integration
def test_demo_shows_both_kills_and_leaves_nothing() -> None:
    """The leaker and the hog die, the bystander lives, and no process of it remains, wherever it might be now."""
    mark = {"OOMD_TEST_DEMO": str(uuid.uuid4())}
    command = [sys.executable, "-m", "oomd", "demo"]
    environment = {**os.environ, **mark, "OOMD_SCOPE": f"tree:{os.getpid()}"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "-> SIGTERM to leaker" in done.stdout
    assert "-> SIGKILL to hog" in done.stdout
    assert "hindered by SCHED_IDLE, nice 19" in done.stdout
    assert "nothing of this is left behind" in done.stdout
    assert not [
        each for each in psutil.process_iter(["environ"]) if mark.items() <= (each.info["environ"] or {}).items()
    ]

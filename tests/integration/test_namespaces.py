"""PID namespaces of our own: reused pids, and a procfs that calls processes by other numbers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.integration
ROOT = Path(__file__).parents[2]
UNSHARE = ["unshare", "--pid", "--fork", "--kill-child"]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}


@pytest.fixture(autouse=True)
def _need_root() -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root, to make a PID namespace")


def test_reused_pid_gets_no_warrant() -> None:
    """F11: the pid of the chosen process belongs to another one by the time of the warrant: nobody is signalled."""
    script = str(Path(__file__).with_name("pid_reuse.py"))
    command = [*UNSHARE, "--mount-proc", sys.executable, script]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, env=ENVIRONMENT)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {
        "same_pid": True,
        "refused": ["is gone", "is gone"],
        "old_pidfd": "ESRCH",
        "stranger_lives": True,
    }


def test_foreign_procfs_is_no_ground_for_a_kill(tmp_path: Path) -> None:
    """In a PID namespace with the /proc of another, pids mean other processes than those we would signal: it refuses to
    run.
    """
    command = [*UNSHARE, sys.executable, "-m", "oomd", "run", "--runtime-dir", str(tmp_path / "run")]
    environment = {**ENVIRONMENT, "OOMD_SCOPE": ""}
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, env=environment)
    assert done.returncode == 2
    assert "/proc belongs to another PID namespace" in done.stderr


def test_ordinary_processes_stand_at_low_pids_in_a_namespace(tmp_path: Path) -> None:
    """Pid 2 and its children are ordinary processes there: the largest is chosen whoever its parent is."""
    actors = str(Path(__file__).with_name("actors.py"))
    os.mkfifo(tmp_path / "said")  # the shell goes on when the other one owns its memory
    inner = f"{sys.executable} {actors} hold second 80 > {tmp_path}/said & read -r line < {tmp_path}/said; "
    inner += f"{sys.executable} -m oomd explain --assume-low --json"
    command = [*UNSHARE, "--mount-proc", "sh", "-c", inner]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=120, check=False, env={**ENVIRONMENT, "OOMD_SCOPE": ""}
    )
    answer = json.loads(next(line for line in done.stdout.splitlines() if line.startswith("{")))
    assert answer["decision"]["target"]["comm"] == "second"
    assert answer["decision"]["target"]["pid"] == 2

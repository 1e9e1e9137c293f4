"""What the way to a kill, and a quiet tick, ask of the kernel: counted, so that a figure that rises fails."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.integration.harness import Guarded

ROOT = Path(__file__).parents[1]
WAY_TO_A_KILL = str(Path(__file__).parent / "integration" / "way_to_a_kill.py")


def test_nothing_is_opened_forked_or_imported_on_the_way_to_a_kill() -> None:
    """From the alarm to the reaped victim, with leaders kept open: no file, no process, no import by the loop or the
    reaper.
    """
    done = subprocess.run(
        [sys.executable, WAY_TO_A_KILL], capture_output=True, text=True, timeout=60, check=False, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    assert (answer["victim"], answer["action"]) == (-9, "kill")
    assert answer["noted"] == []


def test_quiet_tick_is_three_system_calls(tmp_path: Path) -> None:
    """Far from danger a tick waits, reads memory pressure and meminfo, and does nothing else."""
    strace = shutil.which("strace")
    if strace is None and "CI" not in os.environ:
        pytest.skip("strace is not installed; CI has it")
    assert strace is not None
    root = subprocess.Popen(["sleep", "120"])
    argv = [sys.executable, "-m", "oomd", "run", "--scope", f"tree:{root.pid}", "--dry-run", "--log-format", "json"]
    try:
        with Guarded([*argv, "--runtime-dir", str(tmp_path / "run")]) as run:
            run.wait_event("start")
            log = tmp_path / "strace"
            tracer = subprocess.Popen([strace, "-p", str(run.process.pid), "-o", str(log)], stderr=subprocess.DEVNULL)
            end = time.monotonic() + 60
            while log.read_text("utf-8").count("epoll_wait") < 5 if log.exists() else True:
                assert time.monotonic() < end
                os.sched_yield()
            tracer.terminate()
            tracer.wait()
    finally:
        root.kill()
        root.wait()
    ticks = log.read_text("utf-8").split("epoll_wait")[2:-1]
    assert len(ticks) >= 2
    for tick in ticks:
        calls = Counter(re.findall(r"(?m)^(\w+)\(", tick))
        assert sum(calls.values()) <= 2, tick
        assert set(calls) <= {"preadv", "preadv2", "pread64"}, tick

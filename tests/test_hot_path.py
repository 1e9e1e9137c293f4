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
QUIET_TICKS = "tests.integration.quiet_ticks"
ON_THE_WAY = {
    "preadv": 5,  # meminfo, pressure, loadavg, vmstat (for the leaders, for the proof)
    "pread64": 2,  # the victim's status, and its stat once it is held
    "pidfd_open": 1,
    "newfstatat": 1,  # that it is the process of the file that was kept
    "pidfd_send_signal": 1,  # 0: whether it may be signalled
    "fcntl": 2,  # a pidfd for the reaper, one for the lifter
    "write": 1,  # the eventfd on which the reaper waits
    "clock_nanosleep": 0,
}
"""Dearer than all that is computed: each takes ten times as long after some milliseconds of sleep."""
KEPT = "tests.integration.kept_kernel_memory"
MOST_KEPT = 3 * (32 + 16 + 4 + 64)
"""stat, status and statm of each leader, and of those behind them where they are few."""
MOST_KERNEL_BYTES = 3 << 20
MOST_LOOK_BYTES, MOST_GLANCE_BYTES = 6 << 10, 3 << 10
"""Of a full look far from danger, and of a glance: the text of meminfo is half of that."""
MOST_DESCRIPTORS = 64
"""Of the killer far from danger; the leaders' come later, two for each of 52."""


def test_nothing_is_opened_forked_or_imported_on_the_way_to_a_kill() -> None:
    """From the alarm to the reaped victim, with leaders kept open: no file, no process, no import by the loop or the
    reaper.
    """
    done = subprocess.run(
        [sys.executable, WAY_TO_A_KILL], capture_output=True, text=True, timeout=240, check=False, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    assert (answer["victim"], answer["action"]) == (-9, "kill")
    assert answer["noted"] == []


def strace_or_skip() -> str:
    """Where it is."""
    strace = shutil.which("strace")
    if strace is None and "CI" not in os.environ:
        pytest.skip("strace is not installed; CI has it")
    assert strace is not None
    return strace


def test_way_to_a_kill_is_so_many_system_calls(tmp_path: Path) -> None:
    """From before memory is read to the signal, by the loop's thread (futexes aside: how often threads hand the
    interpreter over depends on the clock), and no more bytes read than these files hold.
    """
    log = tmp_path / "strace"
    argv = [strace_or_skip(), "-f", "-o", str(log), sys.executable, WAY_TO_A_KILL]
    subprocess.run(argv, capture_output=True, timeout=240, check=True, cwd=ROOT)
    way = log.read_text("utf-8").partition("/the/way/to/a/kill")[2].partition("\n")[2]
    thread = way.partition(" ")[0]
    way = way[: way.rindex("\n", 0, way.index(", SIGKILL"))]  # the loop itself signals where no worker did in time
    lines = re.findall(rf"(?m)^{thread} +(\w+)\((.*)$", way)
    calls = Counter(name.removesuffix("2") for name, _ in lines if name not in ("futex", "mmap", "munmap", "madvise"))
    risen = {name: count for name, count in calls.items() if count > ON_THE_WAY.get(name, 0)}
    assert not risen, (risen, calls)
    read = sum(int(rest.rpartition(" = ")[2]) for name, rest in lines if name.startswith("pread"))
    files = {name: len(Path(f"/proc/{name}").read_bytes()) for name in ("meminfo", "vmstat", "self/status")}
    assert read <= files["meminfo"] + 2 * files["vmstat"] + files["self/status"] + 1024, read


def test_quiet_ticks_leave_nothing_behind() -> None:
    """An hour's worth of them: no block more in memory, nothing opened, nothing for a garbage collection to find, and
    what one takes meanwhile is what it took before. Eleven of twelve are glances.
    """
    done = subprocess.run(
        [sys.executable, "-m", QUIET_TICKS], capture_output=True, text=True, timeout=240, check=False, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr
    told: dict[str, int] = json.loads(done.stdout.splitlines()[-1])
    assert told["ticks"] == 720
    assert not told["warm"], "this machine is short of memory"
    assert told["blocks"] <= 20
    assert told["garbage"] == 0
    assert told["descriptors"] == 0
    assert told["glances"] >= 11 * told["ticks"] // 12
    assert told["glance_bytes"] <= MOST_GLANCE_BYTES
    assert told["look_bytes"] <= MOST_LOOK_BYTES


def test_kernel_keeps_little_for_the_kept_descriptors() -> None:
    """Charged to a cgroup of its own: descriptors, inodes, names and a buffer for each file that was read."""
    done = subprocess.run(
        [sys.executable, "-m", KEPT], capture_output=True, text=True, timeout=240, check=False, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr
    told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    if "why" in told:
        pytest.skip(told["why"])
    assert 64 <= told["descriptors"] <= MOST_KEPT
    assert told["bytes"] <= MOST_KERNEL_BYTES


def test_quiet_tick_is_three_system_calls(tmp_path: Path) -> None:
    """Far from danger a tick waits, reads memory pressure and meminfo, and does nothing else."""
    strace = strace_or_skip()
    root = subprocess.Popen(["sleep", "120"])
    argv = [sys.executable, "-m", "oomd", "run", "--scope", f"tree:{root.pid}", "--dry-run", "--log-format", "json"]
    try:
        with Guarded([*argv, "--runtime-dir", str(tmp_path / "run")]) as run:
            run.wait_event("start")
            assert len(os.listdir(f"/proc/{run.process.pid}/fd")) <= MOST_DESCRIPTORS
            log = tmp_path / "strace"
            tracer = subprocess.Popen([strace, "-p", str(run.process.pid), "-o", str(log)], stderr=subprocess.DEVNULL)
            end = time.monotonic() + 120
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

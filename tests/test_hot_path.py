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

import pytest

from tests.integration.harness import Guarded

ROOT = Path(__file__).parents[1]

WAY_TO_A_KILL = """
import json, os, subprocess, sys
from dataclasses import replace
from oomd.config.loader import default_config
from oomd.daemon import own_and_ancestors
from oomd.kernel.files import KernelFile, PAGE_BYTES
from oomd.kernel.scope import ScopeGuard
from oomd.kill.executor import Executor
from oomd.kill.warrant import Gate
from oomd.loop import Loop, Parts, clock_us
from oomd.model.decision import Detection
from oomd.model.scope import parse_scope
from oomd.monitor.process_table import ProcessTable
from oomd.monitor.sampler import Sampler
from oomd.monitor.sharing import SharingMeter
from oomd.monitor.waiter import Waiter
from oomd.reap.mrelease import MreleaseReaper
from oomd.reap.pool import ReaperThread

hold = "import mmap,sys; b = mmap.mmap(-1, 96 << 20, flags=34); [b.__setitem__(i, 1) for i in range(0, len(b), 4096)]; print(1, flush=True); sys.stdin.read()"
victim = subprocess.Popen([sys.executable, "-c", hold], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
victim.stdout.readline()

proc_fd = os.open("/proc", os.O_RDONLY | os.O_DIRECTORY)
guard = ScopeGuard(parse_scope(f"tree:{os.getpid()}"), proc_fd)
own = own_and_ancestors(proc_fd)
table = ProcessTable(proc_fd, guard, own, vmstat=KernelFile("/proc/vmstat"), loadavg=KernelFile("/proc/loadavg"), page_bytes=PAGE_BYTES)
waiter, sampler, reaper = Waiter(), Sampler("/proc", PAGE_BYTES), ReaperThread(MreleaseReaper())
reaper.start()
waiter.watch(reaper.fd, "reaper")
events = []
parts = Parts(waiter=waiter, sampler=sampler, table=table, sharing=SharingMeter(proc_fd),
    executor=Executor(Gate(guard, proc_fd, own), reaper, waiter), on_event=print, report=events.append, on_tick=lambda now: None)
rules = default_config().rules
loop = Loop(parts, rules)
status = sampler.read_status(clock_us())
table.scan(status, clock_us)      # the warm zone: leaders are kept open from here on
alarm = (Detection("level", fired=True, critical=True, since_us=0),)
seen = []
watching = False
def hook(name, arguments):
    if watching and not name.startswith(("object.", "sys._getframe", "import")):
        seen.append([name, str(arguments)[:80]])
sys.addaudithook(hook)
watching = True
begin = clock_us()
loop._act(loop._select(alarm, sampler.read_status(begin)))
while loop.state.credits[0].reaped_us is None and loop.state.credits[0].death_us is None and clock_us() - begin < 5_000_000:
    loop._take(waiter.wait_ready(100_000))
watching = False
status_after = victim.wait(timeout=5)
print(json.dumps({"seen": seen, "victim": status_after, "action": events[0]["decision"]["action"]}))
"""


def test_nothing_is_opened_forked_or_imported_on_the_way_to_a_kill() -> None:
    """From the alarm to the reaped victim, with leaders kept open: no file, no process, no import."""
    for _ in range(3):  # a machine that allocates much at this very moment makes the growth bound ask for a full scan
        done = subprocess.run(
            [sys.executable, "-c", WAY_TO_A_KILL], capture_output=True, text=True, timeout=60, check=False, cwd=ROOT
        )
        assert done.returncode == 0, done.stderr
        answer = json.loads(done.stdout.splitlines()[-1])
        assert (answer["victim"], answer["action"]) == (-9, "kill")
        if not answer["seen"]:
            return
    assert answer["seen"] == []


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

"""``python kill_starved.py BACKEND``: start a victim that gets no CPU beside hogs on every one, kill it with this
backend, and print how it went as one JSON object. All of it are children of this process.

The victim cannot end before the backend is through with it, and what was lifted is known: a tracer, this process, holds
it at its end. Where nothing is lifted it gets there in the scheduler's own time, so the hogs end first.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time

from oomd.kernel.features import probe_features
from oomd.model.decision import Warrant
from oomd.model.snapshot import ProcessId
from oomd.reap.backends import choose_reaper
from oomd.reap.pool import ReaperPool
from tests.kill.parked import parked
from tests.waiting import is_ready

HOG = [sys.executable, "-S", "-c", "while True: pass"]
PATIENCE_S = 60.0


def lifted_for(pool: ReaperPool, pid: int) -> tuple[str, ...]:
    """What was, in words; that of a backend which lifts is waited for."""
    end = time.monotonic() + PATIENCE_S
    while not (words := pool.take_lifted(pid)) and pool.reaper.lifts and time.monotonic() < end:
        os.sched_yield()
    return words


def kill(pool: ReaperPool, pid: int) -> dict[str, object]:
    """What came of it."""
    pidfd = os.pidfd_open(pid)
    pool.submit(Warrant(ProcessId(pid, 0), pidfd, "victim", "tree", expected_bytes=256 << 20))
    assert is_ready(pool.fd, PATIENCE_S)
    (result,) = pool.take_results()
    os.close(pidfd)
    return {"errno": result.reap_errno, "lifted": lifted_for(pool, pid)}


def main() -> None:
    """Kill one of ours."""
    mrelease = probe_features().process_mrelease
    pool = ReaperPool(choose_reaper(sys.argv[1], kernel_has_mrelease=mrelease))
    pool.start()
    hogs: list[subprocess.Popen[bytes]] = []

    def end_hogs() -> None:
        for hog in hogs:
            hog.kill()
            hog.wait()

    try:
        with parked(256) as victim:
            hogs.extend(subprocess.Popen(HOG, stdin=subprocess.DEVNULL) for _ in range(os.cpu_count() or 1))
            os.setpriority(os.PRIO_PROCESS, victim.pid, 19)
            os.sched_setscheduler(victim.pid, os.SCHED_IDLE, os.sched_param(0))
            answer = {"mrelease": mrelease, "backend": pool.reaper.name, **kill(pool, victim.pid)}
            if not pool.reaper.lifts:
                end_hogs()
    finally:
        end_hogs()
    print(json.dumps({**answer, "ended": victim.returncode}))


if __name__ == "__main__":
    main()

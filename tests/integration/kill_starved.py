"""``python kill_starved.py BACKEND``: start a victim that gets no CPU beside hogs on every one, kill it with this
backend, and print how it went as one JSON object. All of it are children of this process.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time

from oomd.kernel.features import probe_features
from oomd.model.decision import Warrant
from oomd.model.snapshot import ProcessId
from oomd.reap.backends import choose_reaper
from oomd.reap.pool import ReaperPool

ACTORS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "actors.py")
LONGEST_S = 6.0


def main() -> None:
    """Kill one of ours."""
    hogs = [
        subprocess.Popen([sys.executable, "-S", "-c", "while True: pass"], stdin=subprocess.DEVNULL)
        for _ in range(os.cpu_count() or 1)
    ]
    victim = subprocess.Popen([sys.executable, ACTORS, "hold", "victim", "256"], stdout=subprocess.PIPE)
    assert victim.stdout is not None
    try:
        victim.stdout.readline()
        os.setpriority(os.PRIO_PROCESS, victim.pid, 19)
        os.sched_setscheduler(victim.pid, os.SCHED_IDLE, os.sched_param(0))
        mrelease = probe_features().process_mrelease
        pool = ReaperPool(choose_reaper(sys.argv[1], kernel_has_mrelease=mrelease))
        pool.start()
        pidfd = os.pidfd_open(victim.pid)
        begin = time.monotonic()
        pool.submit(Warrant(ProcessId(victim.pid, 0), pidfd, "victim", "tree", expected_bytes=256 << 20))
        dead = bool(select.select([pidfd], [], [], LONGEST_S)[0])
        answer = {"dead": dead, "dead_s": time.monotonic() - begin, "mrelease": mrelease, "backend": pool.reaper.name}
        select.select([pool.fd], [], [], LONGEST_S)
        (result,) = pool.take_results()
        answer |= {"errno": result.reap_errno, "lifted": pool.take_lifted(victim.pid), "realtime": pool.realtime}
        print(json.dumps(answer))
    finally:
        for child in (*hogs, victim):
            child.send_signal(signal.SIGKILL)
            child.wait()


if __name__ == "__main__":
    main()

"""``python kill_latency.py KILLS MIB``: kill so many children of our own, one after the other, while another Python
thread is busy; print when each signal was sent after it was asked for, in microseconds by oomd's own clock, and what
the reaps answered, as one JSON object.
"""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import threading
import time

from oomd.bench.stages import READY_S
from oomd.image import STACK_BYTES, SWITCH_INTERVAL_S
from oomd.kernel.sched import be_prompt
from oomd.model.decision import Warrant
from oomd.model.snapshot import ProcessId
from oomd.parts import clock_us
from oomd.reap.backends import choose_reaper
from oomd.reap.pool import ReaperPool

VICTIM = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../oomd/bench/victim.py")


def main() -> None:
    """Kill children of ours."""
    kills, mib = int(sys.argv[1]), int(sys.argv[2])
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    threading.stack_size(STACK_BYTES)
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO | os.SCHED_RESET_ON_FORK, os.sched_param(10))
    except OSError:
        print("not real-time", file=sys.stderr)
    pool = ReaperPool(choose_reaper("auto", kernel_has_mrelease=True))
    pool.start()

    def be_busy() -> None:
        be_prompt()  # as the daemon's own threads
        while True:
            sum(range(100))

    threading.Thread(target=be_busy, daemon=True).start()
    waits, errnos = [], []
    for _ in range(kills):
        argv = (
            [sys.executable, "-I", "-S", VICTIM, "running", str(mib << 20), str(os.getpid())]
            if mib
            else ["sleep", "60"]
        )
        victim = subprocess.Popen(argv, stdout=subprocess.PIPE)
        assert victim.stdout is not None
        if mib:
            victim.stdout.readline()
            victim.stdout.readline()
        time.sleep(0.002)
        pidfd = os.pidfd_open(victim.pid)
        asked_us = clock_us()
        pool.submit(Warrant(ProcessId(victim.pid, 0), pidfd, "victim", "tree"))
        select.select([pool.fd], [], [], READY_S)
        (result,) = pool.take_results()
        waits.append(result.signal_us - asked_us)
        errnos.append(result.reap_errno)
        victim.wait()
        victim.stdout.close()
        os.close(pidfd)
    print(json.dumps({"waits_us": waits, "errnos": errnos, "realtime": pool.realtime}))


if __name__ == "__main__":
    main()

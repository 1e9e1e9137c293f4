"""``python kill_latency.py KILLS MIB foreseen|ordinary|hindered|another``: kill so many children of our own, one after
the other, while another Python thread is busy; print when each signal was sent after it was asked for, in microseconds
by oomd's own clock, and what the reaps answered, as one JSON object. ``foreseen``: as the loop does what it has
foreseen, by what was made ready before; ``ordinary``: as it does what it decides in the moment; ``hindered``: the same
to somebody whose hindrances are lifted; ``another``: by another thread, as lmkd's victims are killed.
"""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import threading
import time
from functools import partial

from oomd.bench.stages import READY_S
from oomd.image import STACK_BYTES, SWITCH_INTERVAL_S
from oomd.kernel.sched import LOOP_PRIORITY, be_prompt, be_realtime
from oomd.model.decision import Warrant
from oomd.model.snapshot import ProcessId
from oomd.parts import clock_us
from oomd.reap.backends import choose_reaper
from oomd.reap.motion import Motion
from oomd.reap.pool import SIGKILL, ReaperPool

VICTIM = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../oomd/bench/victim.py")


def go_on(pool: ReaperPool, motion: Motion) -> None:
    """What another thread does where the reap lasts."""
    pool.await_signal(motion)


def main() -> None:
    """Kill children of ours."""
    kills, mib, way = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    hindrances = ("staged",) if way == "hindered" else ()
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    threading.stack_size(STACK_BYTES)
    if not be_realtime(LOOP_PRIORITY):
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
        warrant = Warrant(ProcessId(victim.pid, 0), pidfd, "victim", "tree", hindrances)
        asked_us = clock_us()
        if way == "another":
            pool.submit(warrant)
        else:
            motion = pool.arm(warrant)
            if way == "foreseen":
                pool.expect(0)
                asked_us = clock_us()
            pool.fire(motion, SIGKILL, partial(go_on, pool, motion))
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

"""Runs as pid 1 of a PID namespace of its own: a pid is handed out again between the choice and the warrant.

Prints one JSON object. ``ns_last_pid`` decides which pid the next process gets; LTP's pidfd_send_signal03 does the
same.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time

from oomd.kernel.files import PAGE_BYTES
from oomd.kernel.scope import ScopeGuard
from oomd.kernel.syscalls import pidfd_send_signal
from oomd.kill.warrant import Gate, Refused
from oomd.model.scope import Scope
from oomd.monitor.rows import read_row

TRIES = 50


def start_as(pid: int) -> subprocess.Popen[bytes]:
    """A process that gets exactly this pid."""
    for _ in range(TRIES):
        with open("/proc/sys/kernel/ns_last_pid", "w", encoding="ascii") as file:
            file.write(str(pid - 1))
        process = subprocess.Popen(["sleep", "300"])
        if process.pid == pid:
            return process
        process.kill()
        process.wait()
    raise AssertionError(f"never got the pid {pid}")


def main() -> None:
    """Choose a process, let another take its pid, and ask for a warrant."""
    proc_fd = os.open("/proc", os.O_RDONLY | os.O_DIRECTORY)
    gate = Gate(ScopeGuard(Scope(), proc_fd), proc_fd, frozenset({os.getpid()}))
    chosen = start_as(300)
    row = read_row(proc_fd, chosen.pid, PAGE_BYTES)
    assert row is not None
    assert row.read_status(proc_fd)
    row.keep(proc_fd)
    victim = row.value(0)
    early = os.pidfd_open(chosen.pid)
    chosen.kill()
    chosen.wait()
    # Within one clock tick a pid and its start time would be the same again: no machine hands out all its pids so fast.
    while time.clock_gettime(time.CLOCK_BOOTTIME) * os.sysconf("SC_CLK_TCK") < victim.id.start_ticks + 2:
        os.sched_yield()
    stranger = start_as(300)
    answer: dict[str, object] = {"same_pid": stranger.pid == victim.id.pid, "refused": [], "old_pidfd": ""}
    refused = []
    for stat_fd in (row.stat_fd, -1):  # with the kept descriptor, and by the path
        try:
            os.close(gate.grant(victim, stat_fd).pidfd)
        except Refused as verdict:
            refused.append(str(verdict))
    try:
        pidfd_send_signal(early, signal.SIGKILL)
    except ProcessLookupError:
        answer["old_pidfd"] = "ESRCH"
    answer |= {"refused": refused, "stranger_lives": stranger.poll() is None}
    stranger.kill()
    stranger.wait()
    print(json.dumps(answer))


if __name__ == "__main__":
    main()

"""What rude clients of the control socket, and an outside process that is stopped or killed in the middle of it, cost a
kill: milliseconds from the moment at which a victim takes too much to its end, measured from outside of oomd.

``python -m tests.bench.control_cost [ROUNDS]``; every round has one kill of each kind, so that a noisy minute is
everybody's.
"""

from __future__ import annotations

import json
import os
import select
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.integration.test_control import guarding
from tests.integration.test_run import hear, outside_of, tell

if TYPE_CHECKING:
    from collections.abc import Iterator

    import psutil

RUDE = str(Path(__file__).with_name("rude.py"))
RULES = "level: {term: 48MiB, kill: 48MiB}\nstall: off\n"
"""SIGKILL at once."""
CLIENTS = ("flood", "knock", "drip", "deaf", "busy")
FATES = {"stopped": signal.SIGSTOP, "killed": signal.SIGKILL}
"""Of the outside process, at the very moment at which the victim takes too much."""
KINDS = ("quiet", *CLIENTS, *FATES)
SETTLE_S = 0.5
"""The loop looks often by then, because the limit is near."""
PATIENCE_S = 30.0


def one_kill(kind: str) -> float:
    """Seconds."""
    with tempfile.TemporaryDirectory() as folder, guarding(Path(folder), RULES) as (root, run):
        outside = outside_of(run)
        with rude_clients(kind, f"{folder}/run/control.sock"):
            tell(root, "brim victim 185 64")
            pid = int(hear(root, "brimful").split()[2])
            pidfd = os.pidfd_open(pid)
            try:
                time.sleep(SETTLE_S)
                with fate(outside, kind):
                    begin = time.perf_counter()
                    signal.pidfd_send_signal(pidfd, signal.SIGUSR1)
                    dead, _, _ = select.select([pidfd], [], [], PATIENCE_S)
                    took = time.perf_counter() - begin
                assert dead, f"{kind}: the victim lives after {PATIENCE_S} s"
            finally:
                os.close(pidfd)
    return took


@contextmanager
def rude_clients(kind: str, path: str) -> Iterator[None]:
    """Beside the kill."""
    if kind not in CLIENTS:
        yield
        return
    with subprocess.Popen(
        [sys.executable, RUDE, kind, path], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as rude:
        assert rude.stdout is not None
        assert rude.stdout.readline() == b"ready\n"
        try:
            yield
            assert rude.poll() is None, f"{kind} did not last"
        finally:
            rude.kill()


@contextmanager
def fate(outside: psutil.Process, kind: str) -> Iterator[None]:
    """What happens to the outside process; a stopped one goes on afterwards."""
    if kind in FATES:
        outside.send_signal(FATES[kind])
    try:
        yield
    finally:
        if kind == "stopped":
            outside.send_signal(signal.SIGCONT)


def measure(rounds: int = 15) -> dict[str, Any]:
    """Median and slowest of each kind, in milliseconds."""
    took: dict[str, list[float]] = {kind: [] for kind in KINDS}
    for _ in range(rounds):
        for kind in KINDS:
            took[kind].append(1000 * one_kill(kind))
    return {
        kind: {"median_ms": round(statistics.median(each), 1), "slowest_ms": round(max(each), 1), "n": len(each)}
        for kind, each in took.items()
    }


if __name__ == "__main__":
    sys.stdout.write(f"{json.dumps(measure(*map(int, sys.argv[1:2])), indent=1)}\n")

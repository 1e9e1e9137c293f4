"""What lmkd's protocol costs: registrations per second and the way from a packet to the write, of a real daemon; and
the way from a pressure event to the Kill line with 500 registered processes.

``python -m tests.bench.lmkd_cost``; the original is said to take 3 ms for the last.
"""

from __future__ import annotations

import os
import signal
import statistics
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from oomd.lmkd.decision import MEDIUM
from oomd.model.config import LmkdOptions
from tests.commands.test_lmkd import lmkd
from tests.kernel.children import HOLD_32_MIB, child, said
from tests.lmkd.client import Client
from tests.lmkd.served import sleepers
from tests.test_android import Rig

REGISTERED = 500


def registrations(folder: Path, pids: list[int], rounds: int) -> dict[str, float]:
    """Per second, by one packet each and by three; and microseconds from one packet until the number is written and the
    next packet is answered.
    """
    path = str(folder / "lmkd")
    with lmkd(folder, os.getpid(), "--socket", path) as run:
        run.wait_event("start")
        with Client(path) as client:
            begin = time.perf_counter()
            for number in range(rounds):
                for pid in pids:
                    client.send(1, pid, 10001, 500 + number % 500)
            client.settle()
            single = rounds * len(pids) / (time.perf_counter() - begin)
            begin = time.perf_counter()
            for number in range(rounds):
                for at in range(0, len(pids) - 2, 3):
                    records = [(pid, 10001, 400 + number % 500, 0) for pid in pids[at : at + 3]]
                    client.send(11, *(word for record in records for word in record))
            client.settle()
            batched = rounds * (len(pids) // 3) * 3 / (time.perf_counter() - begin)
            trips, alone = [], []
            for number in range(1000):
                begin = time.perf_counter()
                client.settle()
                alone.append(time.perf_counter() - begin)
                begin = time.perf_counter()
                client.send(1, pids[number % len(pids)], 10001, 900 + number % 100)
                client.settle()
                trips.append(time.perf_counter() - begin)
        run.process.send_signal(signal.SIGTERM)
        run.wait_end()
    return {
        "registrations_per_s": round(single),
        "batched_per_s": round(batched),
        "packet_us": round(statistics.median(trips) * 1e6),
        "answer_us": round(statistics.median(alone) * 1e6),
    }


def event_to_kill(folder: Path, pids: list[int], kills: int) -> dict[str, float]:
    """Milliseconds from the event to the Kill line, with all of these registered."""
    rig = Rig(folder, LmkdOptions(override=("ro.lmk.use_psi=false",)))
    took = []
    try:
        with Client(rig.path) as client:
            for number, pid in enumerate(pids, 1):
                client.send(1, pid, 10001, 700)
                if not number % 50:
                    wanted = number
                    rig.until(lambda: len(rig.android.registry) >= wanted)  # noqa: B023 - called before it changes
            for number in range(1, kills + 1):
                with child(HOLD_32_MIB) as victim:
                    said(victim)
                    client.send(1, victim.pid, 10001, 1000)
                    rig.until(lambda: len(rig.android.registry) > len(pids))
                    rig.machine.set_meminfo(MemFree=4)
                    rig.busy()
                    rig.android._event = MEDIUM
                    rig.loop.pace = replace(rig.loop.pace, interval_us=0)
                    begin = time.perf_counter()
                    rig.loop.tick()
                    took.append(time.perf_counter() - begin)
                    rig.machine.set_meminfo()
                    assert len(rig.lines("Kill ")) == number
                    victim.wait(60)
                    rig.until(lambda: not rig.loop.state.credits)
    finally:
        rig.close()
    return {"event_to_kill_ms": round(statistics.median(took) * 1000, 2), "worst_ms": round(max(took) * 1000, 2)}


def measure(count: int = REGISTERED, rounds: int = 20, kills: int = 20) -> dict[str, Any]:
    """Everything, in one run."""
    with tempfile.TemporaryDirectory() as name, sleepers(count) as pids:
        (Path(name) / "rig").mkdir()
        return {**registrations(Path(name), pids, rounds), **event_to_kill(Path(name) / "rig", pids, kills)}


if __name__ == "__main__":
    sys.stdout.write(f"{measure()}\n")

"""An hour's worth of ticks far from danger in this process, one every five seconds, without the waiting. Prints one
JSON object: blocks of memory that are left over, the most that a glance and a full look took, garbage, descriptors.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import shutil
import sys
import tempfile
import tracemalloc

import oomd.loop
from oomd.engine.pacing import QUIET_US
from oomd.kernel.files import PAGE_BYTES
from oomd.loop import Loop
from oomd.model.values import replace
from oomd.monitor.sampler import Sampler
from oomd.parts import clock_us
from oomd.rehearsal import rehearse
from tests.integration.way_to_a_kill import build

TICKS, WARM_UP = 720, 9000
"""The interpreter's own stores of spare tuples are full after the second: one tick in twelve is a full look."""


def machine_as_it_is(folder: str) -> str:
    """A procfs in which its memory stands still, whatever others allocate meanwhile."""
    os.mkdir(f"{folder}/pressure")
    for name in ("meminfo", "pressure/memory", "zoneinfo"):
        with contextlib.suppress(FileNotFoundError):
            shutil.copy(f"/proc/{name}", f"{folder}/{name}")
    return folder


def main() -> None:
    """Tick."""
    loop = build([])
    with tempfile.TemporaryDirectory() as folder:
        loop.parts.sampler.close()
        loop = Loop(replace(loop.parts, sampler=Sampler(machine_as_it_is(folder), PAGE_BYTES)), loop.rules)
    rehearse(loop)

    begin_us, later_us = clock_us(), 0
    # Of a busy machine that stands still for seconds the loop learns nothing.
    vars(oomd.loop)["clock_us"] = lambda: begin_us + later_us

    def tick(times: int) -> int:
        """How many of them were glances."""
        nonlocal later_us
        glances = 0
        for _ in range(times):
            later_us += QUIET_US
            loop.pace = replace(loop.pace, interval_us=0)
            before = loop.detections
            loop.tick()
            glances += loop.detections is before
        return glances

    gc.collect()
    gc.disable()  # as the daemon
    tick(WARM_UP)
    descriptors, blocks = len(os.listdir("/proc/self/fd")), sys.getallocatedblocks()
    glances = tick(TICKS)
    blocks = sys.getallocatedblocks() - blocks
    garbage = gc.collect()
    descriptors = len(os.listdir("/proc/self/fd")) - descriptors
    tracemalloc.start()

    def peak_bytes() -> int:
        tracemalloc.reset_peak()
        before = tracemalloc.get_traced_memory()[0]
        tick(1)
        return tracemalloc.get_traced_memory()[1] - before

    loop.forget_calm()
    tick(1)
    glance_bytes = [peak_bytes() for _ in range(3)]
    loop.forget_calm()
    look_bytes = peak_bytes()
    answer = {"ticks": TICKS, "warm": loop.pace.warm, "blocks": blocks, "garbage": garbage}
    answer |= {"glances": glances, "glance_bytes": max(glance_bytes), "look_bytes": look_bytes}
    print(json.dumps(answer | {"descriptors": descriptors}))
    os._exit(0)  # its threads wait for ever


if __name__ == "__main__":
    main()

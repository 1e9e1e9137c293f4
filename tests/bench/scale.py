"""``python -m tests.bench.scale [N …]``: what a scan, a look at the leaders and a choice cost beside a tree of N
processes that are not there: a folder each, and in it links to the files of a few templates; and what a rule's look at
cgroups costs beside 10 000 that are not there. One JSON object, times in microseconds (median of five).

Expected: a scan is N × (open, read and close one file); a look is the leaders alone, whatever N; a tick far from danger
reads no process. Of cgroups those that a rule names are read, three files each, and no other, however many there are.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from oomd.kernel.files import PAGE_BYTES, KernelFile
from oomd.kernel.scope import ScopeGuard
from oomd.model.scope import parse_scope
from oomd.monitor.bound import GrowthBound
from oomd.monitor.cgroups import CgroupReader
from oomd.monitor.process_table import ProcessTable
from oomd.monitor.sampler import Sampler
from oomd.parts import clock_us
from tests.fakes.cgroup_tree import CgroupTree
from tests.fakes.proc_tree import ProcTree

if TYPE_CHECKING:
    from collections.abc import Callable

MIB = 1 << 20
FIRST, TEMPLATES, LARGE = 1000, 200, 64
FILES = ("stat", "statm", "status", "cgroup")
CGROUPS = 10_000
SERVICES = 100
"""In one slice."""
CGROUP_FILES = frozenset({"memory.current", "memory.stat", "memory.pressure"})
PATTERNS = {
    "one": "/fleet-7.slice/unit-42.service",
    "slice": "/fleet-7.slice/*",
    "ten_slices": "/fleet-1?.slice/*",
    "more_than_are_looked_at": "/**",
}


def plant(root: Path, count: int) -> None:
    """The tree; the first ones are the largest, all others one of the templates after those."""
    tree = ProcTree(root)
    for place in range(TEMPLATES):
        tree.add_process(FIRST + place, rss_anon=(200 - place) * MIB if place < LARGE else MIB // 2)
    for pid in range(FIRST + TEMPLATES, FIRST + count):
        template = root / str(FIRST + LARGE + pid % (TEMPLATES - LARGE))
        os.mkdir(root / str(pid))
        for name in FILES:
            if (template / name).exists():
                os.link(template / name, root / str(pid) / name)
    tree.set_loadavg(FIRST + count)


def timed(what: Callable[[], object]) -> float:
    """The median."""
    took = []
    for _ in range(5):
        begin = time.perf_counter()
        what()
        took.append((time.perf_counter() - begin) * 1e6)
    return median(took)


def measure(count: int) -> dict[str, float]:
    """With so many."""
    root = Path(tempfile.mkdtemp(dir="/dev/shm"))
    try:
        plant(root, count)
        proc_fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
        guard = ScopeGuard(parse_scope("machine"), proc_fd)
        vmstat, loadavg = KernelFile(f"{root}/vmstat"), KernelFile(f"{root}/loadavg")
        bound = GrowthBound(vmstat, PAGE_BYTES)
        table = ProcessTable(proc_fd, guard, frozenset(), bound=bound, loadavg=loadavg, page_bytes=PAGE_BYTES)
        status = Sampler("/proc", PAGE_BYTES).read_status(clock_us())
        table.scan(status, clock_us)
        told = {
            "scan": timed(lambda: table.scan(status, clock_us)),
            "look": timed(lambda: table.look(status, clock_us)),
        }
        told |= {"choose": timed(lambda: (table.snapshot(status, 0), table.rest_bound_bytes()))}
        told["kept"] = len(os.listdir("/proc/self/fd"))
        table.close()
        os.close(proc_fd)
    finally:
        shutil.rmtree(root)
    return {name: round(value, 1) for name, value in told.items()} | {"scan_each": round(told["scan"] / count, 2)}


def measure_cgroups(count: int) -> dict[str, float]:
    """With so many, in slices of a hundred: one that a rule names, a slice, ten slices, and all."""
    root = Path(tempfile.mkdtemp(dir="/dev/shm"))
    try:
        CgroupTree(root).add_group("/template", anon=64 * MIB, file=8 * MIB)
        for number in range(count):
            service = root / f"fleet-{number // SERVICES}.slice" / f"unit-{number % SERVICES}.service"
            service.mkdir(parents=True)
            for name in CGROUP_FILES:
                os.link(root / "template" / name, service / name)
        reader = CgroupReader(str(root))
        told: dict[str, float] = {}
        for name, pattern in PATTERNS.items():
            found = len(reader.read([pattern], clock_us(), CGROUP_FILES, keep=True))  # the first look opens them
            took = timed(partial(reader.read, [pattern], clock_us(), CGROUP_FILES, keep=True))
            told |= {f"{name}.found": found, f"{name}.look": round(took, 1), f"{name}.each": round(took / found, 2)}
        told["kept"] = len(os.listdir("/proc/self/fd"))
        reader.close()
    finally:
        shutil.rmtree(root)
    return told


def main() -> None:
    """All of them."""
    counts = [int(word) for word in sys.argv[1:]] or [1000, 10_000, 100_000]
    told = {str(count): measure(count) for count in counts}
    print(json.dumps(told | {f"{CGROUPS} cgroups": measure_cgroups(CGROUPS)}))


if __name__ == "__main__":
    main()

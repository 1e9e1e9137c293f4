"""What the kernel keeps for the descriptors of the leaders, and of those behind them where they are few: in a memory
cgroup of its own, this process looks at everybody as the killer does, small processes of its own among them, and reads
what the cgroup is charged for the kernel's own memory before and after.

Prints one JSON object: bytes, descriptors, processes; or why that cannot be measured here.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from pathlib import Path

from oomd.kernel.cgroup import find_cgroup2_mount, find_v1_memory_mount
from oomd.kernel.files import PAGE_BYTES, open_optional
from oomd.kernel.scope import ScopeGuard
from oomd.model.scope import parse_scope
from oomd.monitor.bound import GrowthBound
from oomd.monitor.podium import LEADERS
from oomd.monitor.process_table import ProcessTable
from oomd.monitor.sampler import Sampler
from oomd.parts import clock_us

PROCESSES = 80


def group_and_file() -> tuple[Path, str]:
    """Where a cgroup of our own may be made, and its file that tells of the kernel's memory. Raises OSError."""
    mountinfo = Path("/proc/self/mountinfo").read_bytes()
    old, new = find_v1_memory_mount(mountinfo), find_cgroup2_mount(mountinfo)
    if new and "memory" in Path(f"{new}/cgroup.subtree_control").read_text("ascii").split():
        return Path(f"{new}/oomd-kept-{os.getpid()}"), "memory.stat"
    if old and Path(f"{old}/memory.kmem.usage_in_bytes").exists():
        return Path(f"{old}/oomd-kept-{os.getpid()}"), "memory.kmem.usage_in_bytes"
    raise OSError("no cgroup tells of the kernel's memory here")


def kernel_bytes(file: Path) -> int:
    """What it says now."""
    text = file.read_text("ascii")
    if file.name != "memory.stat":
        return int(text)
    return next(int(line.split()[1]) for line in text.splitlines() if line.startswith("kernel "))


def measure(file: Path) -> dict[str, int]:
    """A scan and some looks: what they open for the leaders stays open, and what they saw of everybody is cached."""
    children = [subprocess.Popen(["sleep", "100"]) for _ in range(PROCESSES)]
    try:
        proc_fd = os.open("/proc", os.O_RDONLY | os.O_DIRECTORY)
        table = ProcessTable(
            proc_fd,
            ScopeGuard(parse_scope("machine"), proc_fd),  # which is only read
            frozenset({os.getpid()}),
            bound=GrowthBound(open_optional("/proc/vmstat"), PAGE_BYTES),
            loadavg=open_optional("/proc/loadavg"),
            page_bytes=PAGE_BYTES,
        )
        status = Sampler("/proc", PAGE_BYTES).read_status(clock_us())
        descriptors, before = len(os.listdir("/proc/self/fd")), kernel_bytes(file)
        end = time.monotonic() + 90
        while len(table.leaders) < LEADERS and time.monotonic() < end:
            table.scan(status, clock_us)  # the youngest children own nothing yet
        for _ in range(3):
            table.look(status, clock_us)
        kept = len(os.listdir("/proc/self/fd")) - descriptors
        return {"bytes": kernel_bytes(file) - before, "descriptors": kept, "processes": len(children)}
    finally:
        for child in children:
            child.kill()
            child.wait()


def main() -> None:
    """The cgroup is removed whatever happens."""
    try:
        group, name = group_and_file()
        group.mkdir()
    except OSError as error:
        print(json.dumps({"why": str(error)}))
        return
    home = group.parent / "cgroup.procs"
    try:
        (group / "cgroup.procs").write_text(str(os.getpid()), "ascii")
        print(json.dumps(measure(group / name)))
    finally:
        home.write_text(str(os.getpid()), "ascii")  # it ends in a moment
        group.rmdir()


if __name__ == "__main__":
    main()

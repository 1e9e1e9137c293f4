"""The processes of a scenario. Each is started with one JSON argument: ``{"do": "leak", "name": "leaker", …}``.

An actor names itself (the kernel's trace then tells who killed whom), puts its pid into /run/lab/pids and waits for
/run/lab/go. It runs as a script of its own: no imports but the standard library's.
"""

from __future__ import annotations

import json
import mmap
import os
import random
import signal
import struct
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

LAB = "/run/lab"
PAGE = 4096
MIB = 1 << 20
CHUNK = 16 * MIB
RECORD_BYTES = 65536
RECORD_HEAD = struct.Struct("=QdQ")
RECORD_STALL = struct.Struct("=dd")
STALL_S = 0.05
TURN_S = 0.01
# Half random, half zero: 2:1 under zram. 256 different pages, so that no same-filled shortcut applies.
BLOCK = b"".join(os.urandom(PAGE // 2) + bytes(PAGE // 2) for _ in range(MIB // PAGE))


def main() -> None:
    """Becomes the actor that the argument describes."""
    options = json.loads(sys.argv[1])
    introduce(options["name"])
    for name, value in (("oom_score_adj", str(options.get("adj", 0))),):
        with open(f"/proc/self/{name}", "w", encoding="ascii") as file:
            file.write(value)
    if options.get("uid"):
        os.setuid(options["uid"])
    if options.get("ignore_term"):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    ACTS[options["do"]](options)


def introduce(name: str) -> None:
    """Takes a name and tells the harness the pid."""
    with open("/proc/self/comm", "w", encoding="ascii") as file:
        file.write(name)
    with open(f"{LAB}/pids/{name}.{os.getpid()}", "w", encoding="ascii"):
        pass


def wait_for(name: str) -> None:
    """Until /run/lab/NAME is there."""
    while not os.path.exists(f"{LAB}/{name}"):
        time.sleep(0.02)


def ready(options: dict[str, Any]) -> None:
    """Tells that the memory of the beginning is filled, then waits for the start or a later moment."""
    with open(f"{LAB}/ready/{options['name']}.{os.getpid()}", "w", encoding="ascii"):
        pass
    wait_for(options.get("wait_for", "go"))


def available_share() -> float:
    """MemAvailable of MemTotal."""
    with open("/proc/meminfo", encoding="ascii") as file:
        values = {line.split(":")[0]: int(line.split()[1]) for line in file.readlines()[:3]}
    return values["MemAvailable"] / values["MemTotal"]


class Heap:
    """Anonymous memory that grows by whole MiB and stays filled."""

    def __init__(self) -> None:
        self.chunks: list[mmap.mmap] = []
        self.filled = 0

    def grow(self) -> None:
        """One more MiB."""
        place = self.filled % CHUNK
        if place == 0:
            self.chunks.append(mmap.mmap(-1, CHUNK, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))
        self.chunks[-1][place : place + MIB] = BLOCK
        self.filled += MIB

    def touch(self, pages: int) -> None:
        """Writes to that many pages anywhere in it."""
        for _ in range(pages):
            spot = random.randrange(self.filled // PAGE) * PAGE
            self.chunks[spot // CHUNK][spot % CHUNK] = spot & 0xFF


def leak(options: dict[str, Any]) -> None:
    """Grows at ``rate_mib`` MiB/s (0: as fast as it can) up to ``limit_mib``; keeps touching a part of what it has."""
    heap = Heap()
    for _ in range(options.get("begin_mib", 0)):
        heap.grow()
    ready(options)
    begin, grown = time.monotonic(), 0
    rate, limit = options.get("rate_mib", 50), options.get("limit_mib", 1 << 20)
    while heap.filled < limit * MIB:
        heap.grow()
        grown += 1
        if heap.filled % (4 * MIB) == 0:
            heap.touch(options.get("touch", 64))
            if "until_available" in options and available_share() < options["until_available"]:
                become_slow(options["then"])
                options.pop("until_available")
                if options.get("stop_then"):
                    break
        if rate:
            time.sleep(max(0.0, begin + grown / rate - time.monotonic()))
    while True:
        time.sleep(0.1)
        heap.touch(options.get("touch", 64))


def own_cgroup() -> str:
    """The directory of the control group that this process is in."""
    with open("/proc/self/cgroup", encoding="ascii") as file:
        return "/sys/fs/cgroup" + file.read().strip().removeprefix("0::")


def become_slow(how: str) -> None:
    """What keeps a dying process from running: told to the others as /run/lab/full, then done to oneself."""
    with open(f"{LAB}/full", "w", encoding="ascii"):
        pass
    cgroup = own_cgroup()
    if how == "idle":
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
        return
    name, value = {
        "freeze": ("cgroup.freeze", "1"),
        "throttle": ("cpu.max", "1000 100000"),
        "throttle hard": ("cpu.max", "1000 1000000"),
    }[how]
    with open(f"{cgroup}/{name}", "w", encoding="ascii") as file:
        file.write(value)


def database(options: dict[str, Any]) -> None:
    """A little work every 10 ms; each turn that took more than 50 ms is written down where it survives the database."""
    with open(f"{LAB}/database", "w+b") as file:
        file.truncate(RECORD_BYTES)
        record = mmap.mmap(file.fileno(), RECORD_BYTES)
    heap = Heap()
    for _ in range(options["size_mib"]):
        heap.grow()
    ready(options)
    stalls = turns = 0
    last = time.monotonic()
    while True:
        heap.touch(16)
        now = time.monotonic()
        turns += 1
        if now - last > STALL_S and RECORD_HEAD.size + (stalls + 1) * RECORD_STALL.size <= RECORD_BYTES:
            RECORD_STALL.pack_into(record, RECORD_HEAD.size + stalls * RECORD_STALL.size, last, now - last)
            stalls += 1
        RECORD_HEAD.pack_into(record, 0, turns, now, stalls)
        last = now
        time.sleep(TURN_S)


def steady(options: dict[str, Any]) -> None:
    """A bystander: has its memory, touches some, does no harm."""
    leak({**options, "begin_mib": options["size_mib"], "limit_mib": 0})


def siblings(options: dict[str, Any]) -> None:
    """A child every ``every_s``, each of ``size_mib``, until ``count`` were started."""
    ready(options)
    for number in range(options["count"]):
        if os.fork() == 0:
            introduce(options["child"])
            heap = Heap()
            while heap.filled < options["size_mib"] * MIB:
                heap.grow()
                time.sleep(0.02)
            while True:
                time.sleep(0.2)
                heap.touch(16)
        while number and os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG):
            pass
        time.sleep(options["every_s"])
    while True:
        time.sleep(1)


def worker(options: dict[str, Any]) -> None:
    """Touches its whole working set in random order, as fast as the pages come."""
    ready(options)
    heap = Heap()
    while heap.filled < options["size_mib"] * MIB:
        heap.grow()
        heap.touch(32)
        time.sleep(0.02)
    while True:
        heap.touch(256)
        time.sleep(0.001)


def files(options: dict[str, Any]) -> None:
    """Fills /dev/shm with files until so little is left, then does nothing; its own memory stays small."""
    ready(options)
    begin = time.monotonic()
    for number in range(options["limit_mib"]):
        if number % 4 == 0 and available_share() < options["until_available"]:
            break
        try:
            with open(f"/dev/shm/file{number // 16}", "ab", buffering=0) as file:
                file.write(BLOCK)
        except OSError:
            break
        time.sleep(max(0.0, begin + number / options["rate_mib"] - time.monotonic()))
    while True:
        time.sleep(1)


def encoder(options: dict[str, Any]) -> None:
    """Has its memory at ``rate_mib``, keeps it for a while, and ends."""
    ready(options)
    heap, begin = Heap(), time.monotonic()
    while heap.filled < options["size_mib"] * MIB:
        heap.grow()
        time.sleep(max(0.0, begin + heap.filled / MIB / options["rate_mib"] - time.monotonic()))
    end = time.monotonic() + options["hold_s"]
    while time.monotonic() < end:
        time.sleep(0.1)
        heap.touch(64)


def hog(options: dict[str, Any]) -> None:
    """Takes the whole CPU."""
    ready(options)
    while True:
        pass


def terminal(options: dict[str, Any]) -> None:
    """A small parent with a big child, in one scope."""
    child = os.fork()
    if child == 0:
        introduce(options["child"]["name"])
        leak(options["child"])
    ready(options)
    os.waitpid(child, 0)
    while True:
        time.sleep(0.1)


def bag(options: dict[str, Any]) -> None:
    """A parent in a control group of its own, and its children each in one below it; with ``sessions`` each in a
    session of its own instead.
    """
    own, begins = own_cgroup(), {key: options[key] for key in ("wait_for",) if key in options}
    for each in options["children"]:
        child = {**begins, **each}
        if os.fork() == 0:
            if options.get("sessions"):
                os.setsid()
            else:
                folder = f"{own}/{child['name']}"
                os.mkdir(folder)
                with open(f"{folder}/cgroup.procs", "w", encoding="ascii") as file:
                    file.write("0")
            introduce(child["name"])
            for helper in range(child.get("helpers", 0)):
                if os.fork() == 0:
                    introduce(f"{child['name']}-{helper}")
                    steady({**begins, "name": f"{child['name']}-{helper}", "size_mib": 1})
            ACTS[child["do"]](child)
    steady(options)


def reader(options: dict[str, Any]) -> None:
    """Reads every file below a folder, over and over: page cache, which is no shortage."""
    ready(options)
    while True:
        for folder, _, names in os.walk(options["folder"]):
            for name in names:
                try:
                    with open(os.path.join(folder, name), "rb", buffering=0) as file:
                        while file.read(MIB):
                            pass
                except OSError:
                    continue


def builder(options: dict[str, Any]) -> None:
    """Short processes of some memory each, one after the other, as a compiler's driver starts them."""
    ready(options)
    while True:
        child = os.fork()
        if child == 0:
            introduce(options["child"])
            heap = Heap()
            for _ in range(options["size_mib"]):
                heap.grow()
                heap.touch(32)
            os._exit(0)
        os.waitpid(child, 0)


ACTS = {
    each.__name__: each
    for each in (leak, database, steady, siblings, worker, files, encoder, hog, terminal, bag, reader, builder)
}

if __name__ == "__main__":
    main()

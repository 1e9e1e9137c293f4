"""``python -m tests.bench.race FILE``: the first process of a PID namespace of its own (tests/bench/arena.py) fills it
with processes, has oomd kill some of them, has oomd's rivals search among the same ones, and writes figures to FILE:
one flat JSON object, times in microseconds.

Every kill is real, by the daemon as it is: a process takes memory, no memory is available, and it is killed. Only that
last is made up (:class:`~tests.bench.arena.Meminfo`); what the real file costs more to read is measured, and added.
Nothing outside of the namespace can be seen in it, and no control group either.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from tests.bench.arena import Meminfo, Population, count_processes
from tests.bench.contestants import (
    RIVALS,
    Rival,
    cpu_ns,
    dropped_rights,
    memory_of,
    missing,
    own_start_ns,
    switches,
    version_of,
)
from tests.integration.harness import Guarded

if TYPE_CHECKING:
    from collections.abc import Iterator

SIZES = tuple(int(word) for word in os.environ.get("OOMD_BENCH_SIZES", "80,1000,4000,10000").split(","))
HELD_MIB = [12 + 0.75 * each for each in range(56)]
"""More processes than oomd keeps an eye on, and the largest of them stands out."""
LEADER_MIB, GROWN_MIB, LEAP_MIB = 128, 16, 160
"""What the largest owns, and by what it grows; what one takes at once that owned next to nothing."""
LIMIT_MIB = 2048
CALM_MIB, SHORT_MIB, RELIEF_MIB = LIMIT_MIB + 512, LIMIT_MIB - 64, LIMIT_MIB + 1024
"""What is available before the leap (near danger), after it, and after the kill."""
FALL_MIB, FALL_S = 10, 0.01
"""How it falls where it does not do so at once: a thousand MiB a second."""
ELDERS = 4
"""So many of those who will leap past the leaders were there before anybody else, for each size; and as many that are
besides as small as any until then: whoever is sought from the newest on, or from the largest, is found last then.
"""
KILLS = int(os.environ.get("OOMD_BENCH_KILLS", "40"))
WORST_KILLS = 8
BATCH, SCAN_S = 8, 15e-6
"""So many are born at once, and so long a scan takes for each process."""
SETTLE_S = 0.25
"""The leaders are looked at ten times a second at least, and the rule rests for 0.2 s."""
LISTS = [
    *({"name": f"name-{each}*"} for each in range(7)),
    *({"cmdline": f"*--word-{each}=*"} for each in range(7)),
    *({"cgroup": f"/some.slice/**/unit-{each}"} for each in range(6)),
]
Figures = dict[str, float | str]


def rules(*, preferences: bool) -> dict[str, Any]:
    """A configuration that kills the largest at once below the limit: of those that were born a moment ago by turns,
    whom *culprit* takes hangs on when exactly that was.
    """
    when = {"any": [{"all": [{"memory_available": {"below": f"{LIMIT_MIB}MiB"}}]}]}
    # It rests until we have said that the memory is back: nothing is ever short of it here but by our word.
    level = {"name": "level", "when": when, "choose": {"policy": "freeable"}, "then": [{"kill": {}}], "pause": "200ms"}
    told: dict[str, Any] = {"rulesets": [level]}
    return told | ({"protect": ["default", *LISTS[::2]], "avoid": LISTS[1::2]} if preferences else {})


def command(folder: Path, *words: str) -> list[str]:
    """oomd at work on this namespace."""
    argv = [sys.executable, "-m", "oomd", "run", "--scope", "machine", "--log-format", "json", "--managed", "off"]
    return [*argv, "--runtime-dir", str(folder / "run"), *words]


@contextmanager
def started(argv: list[str]) -> Iterator[Guarded]:
    """It watches."""
    with Guarded(argv, env={"OOMD_SCOPE": ""}) as run:
        run.wait_event("start")
        yield run


class Race:
    """All of it, in order."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.figures: Figures = {}
        self.population = Population()
        self.meminfo = Meminfo(folder / "meminfo")
        self.dearer_us = max(0.0, cold_read_us("/proc/meminfo") - cold_read_us(str(self.meminfo.path)))
        """What the real file costs more to read than ours."""
        self.elders = [self.population.bear("leap", 0, LEAP_MIB) for _ in range(ELDERS * len(SIZES))]
        self.sleepers = [self.population.bear("wake", LEAP_MIB) for _ in range(ELDERS * len(SIZES))]
        for mib in HELD_MIB:
            self.population.bear("hold", mib)

    def run(self) -> None:
        """Every size, from the smallest."""
        self.figures |= {"cpus": os.cpu_count() or 0, "kernel": os.uname().release, "kills": KILLS}
        self.figures |= {"meminfo_dearer_us": self.dearer_us, "python": sys.version.split()[0]}
        for rival in ("earlyoom", "nohang") if not missing() else ():
            self.figures[f"version.{rival}"] = version_of(rival)
        for size in SIZES:
            self.population.idle_to(size - count_processes() + self.population.idle)
            time.sleep(0.5 + size / 5000)
            say(f"{size} processes")
            self.kill(f"plain.{size}", falling=True)
            self.kill(f"jump.{size}", kills=max(WORST_KILLS, KILLS // 2))
            self.kill(f"worst.{size}", leader=False, kills=WORST_KILLS)
            self.kill(f"worst_old.{size}", leader=False, kills=ELDERS, ready=self.elders)
            self.kill(f"worst_small.{size}", leader=False, kills=ELDERS, ready=self.sleepers)
            if size in (1000, 10_000):
                self.under_load(size)
            self.rivals(size)
            if size in (SIZES[0], SIZES[-1]):
                self.ready(f"ready.{size}")
            self.idle(size, 40 if size in (SIZES[0], SIZES[-1]) else 20)
        self.figures["scans.share"] = scans_share(self.figures)
        self.figures["ready.bare_python_us"] = own_start_ns() / 1000

    def under_load(self, size: int) -> None:
        """Beside hogs, with lists, beside forks."""
        self.kill(f"lists.{size}", preferences=True, falling=True)
        hogs = [self.population.bear("hog") for _ in range(os.cpu_count() or 1)]
        self.kill(f"hogs.{size}", falling=True)
        self.kill(f"hogs_not_realtime.{size}", *dropped_rights("sys_nice"), falling=True)
        for pid in hogs:
            self.population.end(pid)
        for forks in (100, 1000):
            pid = self.population.bear("churn", forks)
            self.kill(f"forks_{forks}.{size}", falling=True)
            self.population.end(pid)

    def kill(
        self,
        cell: str,
        *prefix: str,
        leader: bool = True,
        preferences: bool = False,
        falling: bool = False,
        kills: int = KILLS,
        ready: list[int] | None = None,
    ) -> None:
        """One row: so many kills by a new daemon. One process takes memory, and what is available falls at once from
        far above the limit to below it, or with ``falling`` as fast as a leak of :data:`FALL_MIB` each :data:`FALL_S`.
        ``ready``: those who wait for their turn already.
        """
        stages: dict[str, list[float]] = {"total": [], "read": [], "choose": [], "send": []}
        wrong = scans = 0
        config = self.folder / "oomd.yaml"
        config.write_text(json.dumps(rules(preferences=preferences)), "utf-8")  # JSON is YAML
        self.meminfo.say(CALM_MIB)
        argv = self.meminfo.shown_to([*prefix, *command(self.folder, "--config", str(config))])
        with started(argv) as run:
            lasting, ready = ready is not None, [] if ready is None else ready
            for _ in range(kills):
                self.meminfo.say(CALM_MIB)
                if not ready:
                    sizes = (LEADER_MIB, GROWN_MIB) if leader else (0, LEAP_MIB)
                    ready = [self.population.bear("leap", *sizes) for _ in range(BATCH)]
                    # What newcomers took is explained by nobody until the next scan (a twentieth of the time).
                    time.sleep(0.3 + count_processes() * SCAN_S * 25)
                expected = ready.pop()
                time.sleep(SETTLE_S)
                if not self.population.leap(expected):
                    say(f"  {cell}: {expected} was killed before it was its turn")
                    wrong += 1
                    continue
                times, pid = self._kill(run, falling=falling)
                wrong += pid != expected
                scans += times["scans"] > 0
                if pid != expected:
                    say(f"  {cell}: {pid} was killed in place of {expected}")
                    self.population.end(expected)
                    self.population.bear("hold", HELD_MIB[-1])
                for name, span in stages_of(times).items():
                    stages[name].append(span + (self.dearer_us if name in ("total", "read") else 0))
            for pid in ready if not lasting else ():
                self.population.end(pid)
            self._note_memory(cell, run)
            self._near(cell, run)
        for name, each in stages.items():
            self.figures |= {f"{cell}.{name}.median_us": median(each), f"{cell}.{name}.p99_us": tail(each)}
        self.figures |= {f"{cell}.total.max_us": max(stages["total"]), f"{cell}.wrong": wrong, f"{cell}.n": kills}
        self.figures[f"{cell}.scans"] = scans
        parts = ", ".join(f"{name} {median(each):.0f}" for name, each in stages.items())
        say(f"  {cell}: medians, µs: {parts}; p99 {tail(stages['total']):.0f} µs, wrong {wrong}, scans {scans}")

    def _kill(self, run: Guarded, *, falling: bool) -> tuple[dict[str, Any], int]:
        """Memory is short: the times of the decision, and whom it took."""
        told = len(run.of("decision"))
        for available in range(CALM_MIB - FALL_MIB, SHORT_MIB, -FALL_MIB) if falling else ():
            self.meminfo.say(available)
            time.sleep(FALL_S)
            if len(run.of("decision")) > told:
                break
        self.meminfo.say(SHORT_MIB)
        run.wait_event("decision", lambda event: event in run.of("decision")[told:])
        self.meminfo.say(RELIEF_MIB)
        decision = run.of("decision")[told]
        outcome = run.wait_event("outcome", lambda event: event["id"] == decision["id"])
        times = dict(decision["times"])
        if times["signalled_us"] is None:
            times["signalled_us"] = outcome["signalled_us"]
        return times, int(decision["decision"]["target"]["pid"])

    def _note_memory(self, cell: str, run: Guarded) -> None:
        if cell.startswith("plain."):
            memory = memory_of(run.process.pid)
            size = cell.partition(".")[2]
            self.figures |= {f"memory.{size}.rss_kib": memory.rss, f"memory.{size}.pss_kib": memory.pss}
            self.figures[f"memory.{size}.descriptors"] = len(os.listdir(f"/proc/{run.process.pid}/fd"))

    def _near(self, cell: str, run: Guarded) -> None:
        """CPU near danger, while nothing falls."""
        if cell in (f"plain.{SIZES[0]}", f"plain.{SIZES[-1]}"):
            time.sleep(2)  # what the last kill asked for is over
            share, rate = spent(run.process.pid, 8)
            size = cell.partition(".")[2]
            self.figures |= {f"near.{size}.oomd_share": share, f"near.{size}.oomd_wakes_per_second": rate}
            say(f"  near danger: {share:.4%} at {rate:.1f} wakes a second")

    def rivals(self, size: int) -> None:
        """How long their searches take, by their own word."""
        for name in RIVALS if not missing() else ():
            rival = Rival(name, self.folder, short=True)
            end = time.monotonic() + 20
            while len(rival.searches_ms()) < 12 and time.monotonic() < end:
                time.sleep(0.1)
            took = rival.searches_ms()[1:]
            rival.close()
            if len(took) < 3:
                say(f"  {name} said no times: {rival.words()!r}")
                continue
            self.figures |= {f"rival.{size}.{name}.median_us": median(took) * 1000}
            self.figures |= {f"rival.{size}.{name}.max_us": max(took) * 1000}
            say(f"  {name} searches for {median(took):.2f} ms, at most {max(took):.2f} ms")

    def idle(self, size: int, seconds: float = 40) -> None:
        """CPU far from danger, all of them side by side; then their memory."""
        with started(command(self.folder, "--dry-run")) as run:
            names = ("earlyoom", "nohang") if not missing() else ()
            rivals = [Rival(name, self.folder, short=False) for name in names]
            time.sleep(6)  # past the start
            contestants = {"oomd": run.process.pid} | {each.name: each.process.pid for each in rivals}
            shares = spent_by(contestants, seconds)
            for each in rivals:
                if each.process.poll() is not None:
                    say(f"  {each.name} has ended: {each.words()!r}")
                    del shares[each.name]
            for name, (share, rate) in shares.items():
                self.figures |= {f"far.{size}.{name}_share": share, f"far.{size}.{name}_wakes_per_second": rate}
                memory = memory_of(contestants[name])
                self.figures |= {f"far.{size}.{name}_rss_kib": memory.rss, f"far.{size}.{name}_pss_kib": memory.pss}
                say(f"  far from danger {name}: {share:.4%}, RSS {memory.rss} KiB, PSS {memory.pss} KiB")
            for each in rivals:
                each.close()

    def ready(self, cell: str, starts: int = 15) -> None:
        """From exec to READY=1 for the service manager, beside as many processes as there are now."""
        took, path = [], str(self.folder / "notify")
        for _ in range(starts):
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
                manager.bind(path)
                manager.settimeout(30)
                env = {**os.environ, "OOMD_SCOPE": "", "NOTIFY_SOCKET": path}
                begin = time.monotonic()
                process = subprocess.Popen(command(self.folder, "--dry-run"), env=env, stdout=subprocess.DEVNULL)
                while b"READY=1" not in manager.recv(4096):
                    pass
                took.append((time.monotonic() - begin) * 1e6)
                process.terminate()
                process.wait(30)
            os.unlink(path)
        self.figures |= {f"{cell}.median_us": median(took), f"{cell}.max_us": max(took)}
        say(f"  {cell}: after {median(took) / 1000:.0f} ms")


def scans_share(figures: Figures) -> float:
    """Of all decisions but those that are there for their scan, how many needed one."""
    cells = {key.removesuffix(".scans") for key in figures if key.endswith(".scans") and not key.startswith("worst")}
    decided = sum(float(figures[f"{cell}.n"]) for cell in cells)
    return sum(float(figures[f"{cell}.scans"]) for cell in cells) / decided if decided else 0.0


def cold_read_us(path: str, times: int = 60) -> float:
    """What a read of a kept file takes that was not read for a while: the median."""
    took, fd = [], os.open(path, os.O_RDONLY)
    for _ in range(times):
        time.sleep(0.02)
        begin = time.perf_counter()
        os.pread(fd, 16384, 0)
        took.append((time.perf_counter() - begin) * 1e6)
    os.close(fd)
    return median(took)


def say(words: str) -> None:
    """For whoever waits."""
    print(words, file=sys.stderr, flush=True)


def stages_of(times: dict[str, Any]) -> dict[str, float]:
    """What each stage took."""
    wake, read, decided, sent = (times[f"{name}_us"] for name in ("wake", "read", "decided", "signalled"))
    return {"total": sent - wake, "read": read - wake, "choose": decided - read, "send": sent - decided}


def tail(values: list[float]) -> float:
    """p99, by the nearest rank; of fewer than a hundred the largest."""
    return sorted(values)[max(0, -(-len(values) * 99 // 100) - 1)]


def spent(pid: int, seconds: float) -> tuple[float, float]:
    """The share of a CPU (median of a wake-up, times their rate), and the rate."""
    return spent_by({"": pid}, seconds)[""]


def spent_by(pids: dict[str, int], seconds: float) -> dict[str, tuple[float, float]]:
    """The same of several at once. Single wake-ups in which the machine did something else do not count so."""
    begin = time.monotonic()
    last = {name: (switches(pid), cpu_ns(pid)) for name, pid in pids.items()}
    first, costs = dict(last), {name: list[float]() for name in pids}
    while time.monotonic() < begin + seconds:
        time.sleep(0.02)
        for name, pid in pids.items():
            try:
                now = (switches(pid), cpu_ns(pid))
            except (FileNotFoundError, ProcessLookupError):  # it has ended, or a thread of it
                continue
            if now[0] != last[name][0]:
                costs[name].append((now[1] - last[name][1]) / (now[0] - last[name][0]))
            last[name] = now
    lasted = time.monotonic() - begin
    rates = {name: (last[name][0] - first[name][0]) / lasted for name in pids}
    return {name: (median(costs[name] or [0]) * 1e-9 * rates[name], rates[name]) for name in pids}


def main() -> None:
    """Only where nobody else is."""
    if os.getpid() != 1 or count_processes() > 2:
        sys.exit("this is for a PID namespace of its own: see tests/bench/arena.py")
    subprocess.run(["mount", "-t", "tmpfs", "none", "/sys/fs/cgroup"], check=True)
    with tempfile.TemporaryDirectory() as folder:
        race = Race(Path(folder))
        begin = time.monotonic()
        race.run()
        race.figures["seconds"] = round(time.monotonic() - begin)
        Path(sys.argv[1]).write_text(json.dumps(race.figures, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()

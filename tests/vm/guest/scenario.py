"""Plays one scenario inside the guest and writes down what happened; nothing is judged here."""

from __future__ import annotations

import json
import os
import subprocess
import time
from typing import TYPE_CHECKING

from tests.vm.guest import machine

if TYPE_CHECKING:
    from typing import Any

LAB = "/run/lab"
PERIOD_S = 0.025
SLOW_PERIOD_S = 0.5
KILLER_SETTLES_S = 1.5
TICKS = os.sysconf("SC_CLK_TCK")
START_S = 240


def play(job: dict[str, Any]) -> None:
    """Swap, trace, killer, actors, the wait for the end; results in /job/out."""
    machine.lock_memory()
    for folder in ("pids", "ready"):
        os.makedirs(f"{LAB}/{folder}")
    machine.set_up_swap(job["swap"], job["swap_mib"])
    for command in job.get("prepare", []):
        machine.run(*command)
    machine.start_trace()
    killer = job["killer"]
    if killer:
        start_killer(killer)
    children = [start_actor(actor) for actor in job["actors"]]
    wait_until_ready(len(job["actors"]))
    time.sleep(KILLER_SETTLES_S)
    before = killer_figures(killer)
    machine.be_realtime()
    samples = Sampler(killer, job["watch"], children)
    machine.mark("go")
    go = time.monotonic()
    machine.write(f"{LAB}/go", str(go))
    ended = samples.watch(go, job["max_s"], job["settle_s"])
    after = figures_of(samples.group)
    machine.stop_trace()
    machine.save("samples.json", json.dumps(samples.rows))
    machine.save("trace", machine.read(f"{machine.TRACE}/trace"))
    with open(f"{LAB}/database", "rb") as file:
        machine.save("database", file.read().hex())
    os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
    pids = sorted(os.listdir(f"{LAB}/pids"))
    # A machine that still thrashes would not get a command started in minutes.
    machine.make_room([int(name.rsplit(".", 1)[1]) for name in pids])
    after |= unit_figures(killer)
    result = {"go": go, "ended": ended, "before": before, "after": after, "peak_rss_kib": samples.peak_rss_kib}
    result |= {"pids": pids, "killer_tasks": sorted(samples.killer_tasks), "mem_total": samples.total}
    machine.save("result.json", json.dumps(result))
    machine.save("dmesg", machine.run("dmesg", "--level=emerg,alert,crit,err,warn", check=False))
    if killer:
        machine.save("status", machine.run("systemctl", "status", "--no-pager", "-l", killer["unit"], check=False))
        machine.save(
            "journal",
            machine.run("journalctl", "-o", "short-monotonic", "--no-pager", "-u", killer["unit"], check=False),
        )


PATIENCE = "[Service]\nTimeoutStartSec=300\n"
"""An emulated guest on a busy host is a hundred times slower than the machines that units are written for."""


def start_killer(killer: dict[str, Any]) -> None:
    """From its unit, as packaged or documented."""
    if killer.get("site"):
        machine.install_oomd(killer["site"])
    for path, text in killer["files"].items():
        os.makedirs(os.path.dirname(path), exist_ok=True)
        machine.write(path, text)
    folder = f"/run/systemd/system/{killer['unit']}.d"
    os.makedirs(folder, exist_ok=True)
    machine.write(f"{folder}/lab.conf", PATIENCE)
    machine.run("systemctl", "daemon-reload")
    try:
        machine.run("systemctl", "start", killer["unit"], timeout=START_S)
    except RuntimeError as error:
        said = machine.run("journalctl", "-b", "-o", "cat", "--no-pager", "-u", killer["unit"], check=False)
        raise RuntimeError(f"{killer['unit']} does not start: {said}") from error


def killer_figures(killer: dict[str, Any] | None) -> dict[str, Any]:
    """Of the killer's unit, while commands can be run."""
    return figures_of(machine.group_of(killer["unit"]) if killer else "") | unit_figures(killer)


def figures_of(group: str) -> dict[str, Any]:
    """Of the processes of a unit's control group: pids, RSS, CPU seconds, major faults. Runs no command."""
    figures: dict[str, Any] = {"pids": {}, "rss_kib": 0, "cpu_s": 0.0, "majflt": 0} if group else {}
    for pid in machine.processes_in(group):
        status, stat = machine.read(f"/proc/{pid}/status"), machine.read(f"/proc/{pid}/stat")
        if not stat:
            continue
        fields = stat.rsplit(")", 1)[1].split()
        rss = int(next((line.split()[1] for line in status.splitlines() if line.startswith("VmRSS")), 0))
        cpu = (int(fields[11]) + int(fields[12])) / TICKS
        figures["pids"][pid] = {
            "rss_kib": rss,
            "cpu_s": cpu,
            "majflt": int(fields[9]),
            "comm": machine.read(f"/proc/{pid}/comm").strip(),
        }
        figures["rss_kib"] += rss
        figures["cpu_s"] += cpu
        figures["majflt"] += int(fields[9])
    return figures


def unit_figures(killer: dict[str, Any] | None) -> dict[str, Any]:
    """What systemd says of the killer's unit."""
    if not killer:
        return {}
    asked = {"main": "MainPID", "restarts": "NRestarts"}
    return {
        key: int(machine.run("systemctl", "show", "-P", name, killer["unit"]).strip() or 0)
        for key, name in asked.items()
    }


def start_actor(actor: dict[str, Any]) -> subprocess.Popen[bytes]:
    """In a scope, service or control group as the scenario says; its parent is the harness, but for services."""
    script = ["/usr/bin/python3", "-I", "-S", "/job/tests/vm/guest/actors.py", json.dumps(actor["options"])]
    command = ["systemd-run", "--quiet", f"--unit={actor['unit']}", f"--slice={actor['slice']}", "--collect"]
    command += [f"--property={each}" for each in actor.get("properties", [])]
    command += ["--service-type=exec"] if actor.get("service") else ["--scope"]
    return subprocess.Popen([*command, *script], stdin=subprocess.DEVNULL)


def wait_until_ready(count: int) -> None:
    """Every actor has filled what it begins with."""
    limit = time.monotonic() + 90
    while len(os.listdir(f"{LAB}/ready")) < count:
        if time.monotonic() > limit:
            raise RuntimeError(f"only ready: {os.listdir(f'{LAB}/ready')}")
        time.sleep(0.05)


class Sampler:
    """Memory and pressure 40 times a second, the killer and the watched actors twice a second."""

    def __init__(
        self, killer: dict[str, Any] | None, watch: list[str], children: list[subprocess.Popen[bytes]]
    ) -> None:
        self.rows: list[tuple[float, ...]] = []
        self.peak_rss_kib = 0
        self.killer_tasks: set[int] = set()
        self._watch = set(watch)
        self._children = children
        self._files = [os.open(f"/proc/{name}", os.O_RDONLY) for name in ("meminfo", "pressure/memory", "vmstat")]
        self.total = int(os.pread(self._files[0], 4096, 0).split(b"MemTotal:")[1].split()[0])
        self.group = machine.group_of(killer["unit"]) if killer else ""
        """The killer's control group."""

    def watch(self, go: float, max_s: float, settle_s: float) -> str:
        """Samples until a watched actor died and the settling time passed, or the time is over."""
        due = slow = go
        end, ended = go + max_s, "time"
        while due < end:
            self._sample()
            if due >= slow:
                slow = due + SLOW_PERIOD_S
                self._look_at_killer()
                if ended == "time" and self._somebody_died():
                    ended, end = "death", min(end, time.monotonic() + settle_s)
            due = max(due + PERIOD_S, time.monotonic())
            time.sleep(max(0.0, due - time.monotonic()))
        return ended

    def _sample(self) -> None:
        now = time.monotonic()
        meminfo, pressure, vmstat = (os.pread(fd, 16384, 0) for fd in self._files)
        row = [round(now, 4)]
        row += [int(meminfo.split(name, 1)[1].split(None, 1)[0]) for name in (b"MemAvailable:", b"SwapFree:")]
        row += [int(pressure.rsplit(b"total=", 1)[1]), int(vmstat.split(b"\noom_kill ", 1)[1].split(None, 1)[0])]
        self.rows.append(tuple(row))

    def _look_at_killer(self) -> None:
        if not self.group:
            return
        rss = 0
        for task in machine.read(f"/sys/fs/cgroup{self.group}/cgroup.threads").split():
            self.killer_tasks.add(int(task))
        for pid in machine.processes_in(self.group):
            rss += int((machine.read(f"/proc/{pid}/statm").split() or ["0", "0"])[1]) * 4
        self.peak_rss_kib = max(self.peak_rss_kib, rss)

    def _somebody_died(self) -> bool:
        for child in self._children:
            child.poll()
        for name in os.listdir(f"{LAB}/pids"):
            role, pid = name.split(".")
            if role in self._watch:
                state = machine.read(f"/proc/{pid}/stat").rpartition(")")[2].split()
                if not state or state[0] in "ZX":
                    return True
        return False

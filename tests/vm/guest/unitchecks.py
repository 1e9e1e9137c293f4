"""The real unit under the real systemd: facts only, as /job/out/checks.json; the host's test judges them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
import urllib.request
from typing import TYPE_CHECKING

from tests.vm.guest import machine
from tests.vm.guest.scenario import LAB, start_actor, start_killer

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

UNIT = "oomd.service"
EVERY_EXIT = "/run/systemd/system/oomd.service.d/every-exit.conf"
INSTANCES = "/sys/kernel/tracing/instances"
DROP_IN = "/run/systemd/system/oomd.service.d/watchdog.conf"
CONFIG = "/etc/oomd/oomd.yaml"
SOCKET = "/run/oomd/control.sock"
FIELDS = ("CapEff", "CapPrm", "CapBnd", "CapAmb", "VmLck", "VmRSS", "VmSwap", "NoNewPrivs", "Seccomp", "Threads")
ASK = """
import io, json, os, sys
from contextlib import redirect_stderr, redirect_stdout
from oomd.__main__ import main
from oomd.commands.line import build_parser
build_parser()
told = []
for uid, groups, words in json.loads(sys.argv[1]):
    reading, writing = os.pipe()
    if os.fork() == 0:
        os.setgroups(groups)
        os.setgid(uid)
        os.setuid(uid)
        out, err = io.StringIO(), io.StringIO()
        with redirect_stdout(out), redirect_stderr(err):
            status = main(words)
        os.write(writing, json.dumps([status, out.getvalue(), err.getvalue()]).encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as heard:
        told.append(json.load(heard))
    os.wait()
print(json.dumps(told))
"""
WATCHDOG_S = 4
PATIENCE_S = 90.0
"""An emulated CPU that is shared is slow; whether something comes is asked here, not how soon."""


def check(job: dict[str, Any]) -> None:
    """Everything that the unit promises, in one boot."""
    facts: dict[str, Any] = {}
    for folder in ("pids", "ready"):
        os.makedirs(f"{LAB}/{folder}")
    machine.write(f"{LAB}/go", "now")
    os.makedirs(os.path.dirname(DROP_IN), exist_ok=True)
    # Shorter than shipped, or the test would take minutes; the shipped value is read from the unit file.
    machine.write(DROP_IN, f"[Service]\nWatchdogSec={WATCHDOG_S}\n")
    begin = time.monotonic()
    start_killer(job["killer"])
    facts["start_s"] = time.monotonic() - begin
    for step in STEPS:
        begin = time.monotonic()
        facts[step.__name__] = step()
        facts[step.__name__]["took_s"] = round(time.monotonic() - begin, 2)
        machine.save("checks.json", json.dumps(facts))
    machine.run("systemctl", "stop", UNIT)
    facts["after_stop"] = {name: show(name) for name in ("ActiveState", "Result", "ExecMainStatus")}
    facts["dmesg"] = machine.run("dmesg", check=False)
    facts["unit_journal"] = machine.run("journalctl", "--no-pager", "-o", "cat", "-u", UNIT, check=False)
    machine.save("checks.json", json.dumps(facts))


def show(name: str) -> str:
    """A property of the unit."""
    return machine.run("systemctl", "show", "-P", name, UNIT).strip()


def wait_until(condition: Callable[[], object], patience_s: float = PATIENCE_S) -> float:
    """Seconds until it holds; -1 when it never did."""
    begin = time.monotonic()
    while not condition():
        if time.monotonic() - begin > patience_s:
            return -1.0
        time.sleep(0.1)
    return round(time.monotonic() - begin, 3)


def journal(event: str) -> list[dict[str, Any]]:
    """The entries of one kind, as programs read them."""
    text = machine.run("journalctl", "-o", "json", "--no-pager", "-t", "oomd", f"OOMD_EVENT={event}", check=False)
    return [json.loads(line) for line in text.splitlines()]


def wait_for_news(event: str, before: int) -> float:
    """Seconds until the journal has more entries of a kind than before; -1 when it never had."""
    return wait_until(lambda: len(journal(event)) > before)


def ours(event: str) -> list[dict[str, Any]]:
    """The entries of one kind of the unit as it runs now: what an earlier one has said may come late."""
    invocation = show("InvocationID")
    return [entry for entry in journal(event) if entry.get("_SYSTEMD_INVOCATION_ID") == invocation]


def wait_for_start() -> float:
    """Seconds until it has told of its start, and of what was wrong with it; -1 when it never did."""
    return wait_until(lambda: ours("start"))


def look_at_service() -> dict[str, Any]:
    """READY and STATUS."""
    return {name: show(name) for name in ("ActiveState", "SubState", "Type", "StatusText", "NRestarts", "MainPID")}


def look_at_process() -> dict[str, Any]:
    """What the running killer has: rights, locked memory, scheduling."""
    pid = int(show("MainPID"))
    status = dict(line.split(":\t", 1) for line in machine.read(f"/proc/{pid}/status").splitlines() if ":\t" in line)
    facts: dict[str, Any] = {name: status.get(name, "").strip() for name in FIELDS}
    facts |= {"policy": os.sched_getscheduler(pid), "oom_score_adj": machine.read(f"/proc/{pid}/oom_score_adj").strip()}
    return facts | {"comm": machine.read(f"/proc/{pid}/comm").strip(), "nice": os.getpriority(os.PRIO_PROCESS, pid)}


def leak_until_death(name: str) -> dict[str, Any]:
    """A leaker that is let loose; how it ended, as its parent saw it."""
    options = {"do": "leak", "name": name, "rate_mib": 60}
    begin = time.monotonic()
    child = start_actor({"options": options, "slice": "user-1000.slice", "unit": f"session-{name}"})
    try:
        status = child.wait(timeout=60)
    except Exception:  # noqa: BLE001 - a leaker that lives on is a fact too
        child.kill()
        status = child.wait()
        return {"status": status, "killed_by_test": True}
    return {"status": status, "seconds": round(time.monotonic() - begin, 2), "pid": child.pid}


def kill_somebody() -> dict[str, Any]:
    """One ordinary kill, and what the journal has of it."""
    oom_kills = machine.read("/proc/vmstat").split("oom_kill ")[1].split()[0]
    facts = leak_until_death("leaker1")
    facts["reported_s"] = wait_for_news("outcome", 0)
    facts["decision"], facts["outcome"] = journal("decision"), journal("outcome")
    facts["kernel_kills"] = int(machine.read("/proc/vmstat").split("oom_kill ")[1].split()[0]) - int(oom_kills)
    return facts


def kill_beside_hung_journal() -> dict[str, Any]:
    """The same while journald is stopped: the kill must not wait for it, the report may."""
    before = len(journal("outcome"))
    daemon = int(machine.run("systemctl", "show", "-P", "MainPID", "systemd-journald.service"))
    os.kill(daemon, signal.SIGSTOP)
    try:
        facts = leak_until_death("leaker2")
    finally:
        os.kill(daemon, signal.SIGCONT)
    facts["reported_s"] = wait_for_news("outcome", before)
    return facts | {"outcome": journal("outcome")[before:], "restarts": show("NRestarts")}


def reload() -> dict[str, Any]:
    """A good file is taken, a bad one is refused and told, and the service lives on."""
    pid, good = show("MainPID"), machine.read(CONFIG)
    facts: dict[str, Any] = {}
    for name, text in (("good", good + "\navoid: [something]\n"), ("bad", "level: {term: many}\n")):
        before = len(journal("reload"))
        machine.write(CONFIG, text)
        machine.run("systemctl", "reload", UNIT)
        facts[f"{name}_s"] = wait_for_news("reload", before)
        facts[name] = [entry.get("MESSAGE") for entry in journal("reload")[before:]]
    machine.write(CONFIG, good)
    machine.run("systemctl", "reload", UNIT)
    return facts | {"same_pid": show("MainPID") == pid, "state": show("ActiveState")}


def hold_watchdog() -> dict[str, Any]:
    """Two and a half watchdog periods of quiet: systemd must have nothing to complain about."""
    pid = show("MainPID")
    time.sleep(2.5 * WATCHDOG_S)
    return {"same_pid": show("MainPID") == pid, "restarts": show("NRestarts"), "status_text": show("StatusText")}


def die() -> dict[str, Any]:
    """SIGKILL to the killer: a new one is there."""
    pid = int(show("MainPID"))
    os.kill(pid, signal.SIGKILL)
    seconds = wait_until(lambda: show("ActiveState") == "active" and int(show("MainPID")) not in (0, pid))
    pids = machine.processes_of(UNIT)
    return {"back_s": seconds, "processes": [machine.read(f"/proc/{each}/comm").strip() for each in pids]}


def hang() -> dict[str, Any]:
    """A stopped killer is ended by the watchdog and started anew."""
    pid = int(show("MainPID"))
    os.kill(pid, signal.SIGSTOP)
    seconds = wait_until(lambda: show("ActiveState") == "active" and int(show("MainPID")) not in (0, pid))
    return {"back_s": seconds, "restarts": show("NRestarts")}


def trace_exits() -> dict[str, Any]:
    """``every_exit: always`` with the unit as it is, then with the drop-in: what was said, what instances there were;
    then what a stop leaves.
    """
    good = machine.read(CONFIG)
    facts: dict[str, Any] = {}
    machine.write(CONFIG, good + "\nreap: {every_exit: always}\n")
    for name in ("plain", "dropped_in"):
        if name == "dropped_in":
            machine.write(EVERY_EXIT, machine.read("/etc/oomd/every-exit.conf"))
            machine.run("systemctl", "daemon-reload")
        machine.run("systemctl", "restart", UNIT)
        facts[name] = {
            "started_s": wait_for_start(),
            "degraded": [entry.get("MESSAGE") for entry in ours("degraded")],
            "instances": [each for each in os.listdir(INSTANCES) if each.startswith("oomd-")],
            "pid": int(show("MainPID")),
            "rights": look_at_process()["CapBnd"],
        }
    machine.run("systemctl", "stop", UNIT)
    wait_until(lambda: not machine.processes_of(UNIT))
    facts["left"] = [each for each in os.listdir(INSTANCES) if each.startswith("oomd-")]
    os.unlink(EVERY_EXIT)
    machine.write(CONFIG, good)
    machine.run("systemctl", "daemon-reload")
    machine.run("systemctl", "start", UNIT)
    return facts


def ask_by_socket() -> dict[str, Any]:
    """The control socket under the unit, which may not give files away: root, a member of its group, a stranger."""
    good = machine.read(CONFIG)
    machine.write(CONFIG, good + "\ncontrol: {group: adm}\n")
    machine.run("systemctl", "restart", UNIT)
    facts: dict[str, Any] = {"started_s": wait_for_start()}
    facts["socket_s"] = wait_until(lambda: os.path.exists(SOCKET))
    facts["socket"] = [oct(os.stat(SOCKET).st_mode & 0o7777), os.stat(SOCKET).st_uid, os.stat(SOCKET).st_gid]
    facts["degraded"] = [entry.get("MESSAGE") for entry in ours("degraded") if "control" in entry.get("MESSAGE", "")]
    nobody: list[int] = []
    root, member, stranger = (0, nobody), (65534, [4]), (65534, nobody)
    pause = ["pause", "5m", "--reason", "x"]
    facts["paused"] = ask((*root, pause), (*member, ["status", "--json"]), (*member, pause), (*stranger, ["status"]))
    facts["paused_text"] = show("StatusText")
    machine.write(CONFIG, "level: {term: many}\n")
    facts["resumed"] = ask((*root, ["resume"]), (*root, ["kill-now", "--dry-run"]), (*root, ["reload"]))
    facts["resumed_text"] = show("StatusText")
    machine.write(CONFIG, good)
    machine.run("systemctl", "restart", UNIT)
    return facts


def ask(*commands: tuple[int, list[int], list[str]]) -> list[Any]:
    """Exit status and all that was said by commands, each as a user with these groups; all by one interpreter, which
    an emulated CPU starts slowly.
    """
    python = show("ExecStart").partition("path=")[2].split()[0]
    argv = [python, "-c", ASK, json.dumps(commands)]
    return list(json.loads(subprocess.run(argv, capture_output=True, text=True, timeout=240, check=True).stdout))


def scrape() -> dict[str, Any]:
    """Metrics over the socket that systemd passes: what is served, by whom in which network, and whether a scrape
    starts a service that was stopped.
    """
    address = "http://127.0.0.1:9779/metrics"

    def fetch() -> str:
        try:
            with urllib.request.urlopen(address, timeout=30) as answer:
                return str(answer.read().decode())
        except OSError as error:
            return f"failed: {error}"

    machine.run("systemctl", "enable", "oomd-metrics.socket")
    machine.run("systemctl", "restart", UNIT)
    facts: dict[str, Any] = {"started_s": wait_for_start(), "text": fetch()}
    own = os.readlink("/proc/self/ns/net")
    facts["other_network"] = os.readlink(f"/proc/{show('MainPID')}/ns/net") != own
    machine.run("systemctl", "stop", UNIT)
    facts["stopped"], facts["state"] = fetch(), show("ActiveState")
    machine.run("systemctl", "start", UNIT)
    facts["again"] = fetch()
    machine.run("systemctl", "disable", "oomd-metrics.socket")
    return facts


def rate() -> dict[str, Any]:
    """systemd's own figure of exposure."""
    text = machine.run("systemd-analyze", "security", "--no-pager", UNIT, check=False)
    return {"figure": text.strip().splitlines()[-1] if text.strip() else ""}


STEPS = (
    *(look_at_service, look_at_process, kill_somebody, kill_beside_hung_journal),
    *(reload, hold_watchdog, die, hang, trace_exits, ask_by_socket, scrape, rate),
)

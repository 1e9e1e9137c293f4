"""Units' own settings, with oomd in the place of systemd-oomd: facts only, as /job/out/managed.json."""

from __future__ import annotations

import functools
import json
import os
import subprocess
import time
from typing import TYPE_CHECKING

from tests.vm.guest import machine
from tests.vm.guest.groupchecks import UID, lives
from tests.vm.guest.scenario import LAB, start_killer
from tests.vm.guest.unitchecks import journal, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

UNIT = "systemd-oomd.service"
PACKAGED = (
    "/usr/lib/systemd/systemd-oomd",
    f"/usr/lib/systemd/system/{UNIT}",
    "/usr/lib/systemd/system/systemd-oomd.socket",
    "/usr/share/dbus-1/system.d/org.freedesktop.oom1.conf",
    "/usr/share/dbus-1/system-services/org.freedesktop.oom1.service",
)
"""What Debian's package brings, but for oomctl."""
CONFIG = "/etc/oomd/oomd.yaml"
HEARD = "/job/out/bus"
KILL_MESSAGE = "d989611b15e44c9dbf31e3c81256e4ed"
"""What the manager writes for a unit that it finds marked."""
PATIENCE_S = 60.0
QUIET_S = 6.0
SETTLES_S = 1.0
SHOWN = ("Result", "ActiveState", "SubState", "ManagedOOMPreference", "ManagedOOMKills")


def check_managed(job: dict[str, Any]) -> None:
    """Every case, and the user's manager's."""
    facts: dict[str, Any] = {"cases": {}}
    for path in PACKAGED:
        os.unlink(path)
    for folder in ("pids", "ready"):
        os.makedirs(f"{LAB}/{folder}")
    for path in (LAB, f"{LAB}/pids", f"{LAB}/ready"):
        os.chmod(path, 0o777)
    with open("/etc/passwd", "a", encoding="utf-8") as file:
        file.write(f"somebody:x:{UID}:{UID}::/:/bin/sh\n")
    with open("/etc/group", "a", encoding="utf-8") as file:
        file.write(f"somebody:x:{UID}:\n")
    start_killer(job["killer"])
    facts["answers_s"] = wait_until(lambda: "Dry Run" in oomctl(), PATIENCE_S)
    monitor = listen_to_the_bus()
    for case in job["cases"]:
        facts["cases"][case["name"]] = attempt(functools.partial(play, case))
        machine.save("managed.json", json.dumps(facts))
    facts["user"] = attempt(play_user)
    facts["kernel"] = attempt(play_kernel)
    facts["reload"] = attempt(reload)
    facts["short"] = attempt(refuse_short)
    monitor.terminate()
    monitor.wait()
    facts["bus"] = [json.loads(line) for line in machine.read(HEARD).splitlines() if line.startswith("{")]
    facts["active"] = machine.run("systemctl", "is-active", UNIT, check=False).strip()
    for kind in ("note", "decision", "degraded"):
        facts[kind] = journal(kind)
    told = machine.run("journalctl", "-o", "json", "--no-pager", f"MESSAGE_ID={KILL_MESSAGE}", check=False)
    facts["told_by_manager"] = [json.loads(line) for line in told.splitlines()]
    facts["unit_journal"] = machine.run("journalctl", "--no-pager", "-o", "cat", "-u", UNIT, check=False)
    facts["journal"] = machine.run("journalctl", "--no-pager", "-o", "short-monotonic", "-n", "80", check=False)
    facts["cycles"] = machine.run("journalctl", "--no-pager", "-o", "cat", "-g", "ordering cycle", check=False)
    machine.save("managed.json", json.dumps(facts))


def attempt(play_one: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """The other cases must be played."""
    begin = time.monotonic()
    try:
        return {**play_one(), "took_s": round(time.monotonic() - begin, 1)}
    except Exception as error:  # noqa: BLE001 - whatever it is, the host must hear of it
        return {"failure": repr(error)}


def play(case: dict[str, Any]) -> dict[str, Any]:
    """Services in the slice, go; who lives on, and what systemd says of the others."""
    clear_lab()
    for name, properties in case["units"].items():
        start_service(f"{case['name']}-{name}", case, name, properties)
    wait_until(lambda: len(os.listdir(f"{LAB}/ready")) >= len(case["units"]))
    pids = pids_of_lab()
    machine.write(f"{LAB}/go-{case['name']}", "now")
    told = oomctl()
    died_s = wait_until(lambda: not all(map(lives, pids.values())), PATIENCE_S if case["dies"] else QUIET_S)
    time.sleep(SETTLES_S)
    facts: dict[str, Any] = {"died_s": died_s, "alive": sorted(name for name, pid in pids.items() if lives(pid))}
    facts["oomctl"] = told
    facts["shown"] = {name: show(f"{case['name']}-{name}.service") for name in case["units"]}
    machine.run("systemctl", "stop", case["slice"], check=False)
    return facts


def play_user() -> dict[str, Any]:
    """The same below a user's manager, which reports its own units."""
    clear_lab()
    machine.run("systemctl", "start", f"user@{UID}.service")
    wait_until(lambda: len(os.listdir(f"{LAB}/ready")) >= 2)
    pids = pids_of_lab()
    machine.write(f"{LAB}/go-user", "now")
    told = oomctl()
    died_s = wait_until(lambda: not all(map(lives, pids.values())), PATIENCE_S)
    time.sleep(SETTLES_S)
    facts: dict[str, Any] = {"died_s": died_s, "alive": sorted(name for name, pid in pids.items() if lives(pid))}
    facts["oomctl"] = told
    facts["shown"] = {name: show(f"{name}.service", user=True) for name in ("bloat", "chill")}
    machine.run("systemctl", "stop", f"user@{UID}.service", check=False)
    return facts


def play_kernel() -> dict[str, Any]:
    """Three services at their own memory.max, by OOMPolicy: the kernel kills a child of each, and systemd draws its
    conclusions, as without us.
    """
    child = "import sys; held = []\nwhile True: held.append(bytearray(1 << 20))"
    parent = f"import subprocess, sys, time; subprocess.run([sys.executable, '-c', {child!r}]); time.sleep(300)"
    shown = {}
    for policy in ("continue", "stop", "kill"):
        unit = f"kernel-{policy}.service"
        limits = ("--property=MemoryMax=48M", "--property=MemorySwapMax=0", f"--property=OOMPolicy={policy}")
        command = ["systemd-run", "--quiet", f"--unit={unit}", "--service-type=exec", *limits]
        machine.run(*command, "/usr/bin/python3", "-I", "-S", "-c", parent)
        events = f"/sys/fs/cgroup/system.slice/{unit}/memory.events"
        wait_until(functools.partial(over, unit, events), PATIENCE_S)
        time.sleep(SETTLES_S)
        shown[policy] = show(unit)
        machine.run("systemctl", "stop", unit, check=False)
    return {"shown": shown}


def over(unit: str, events: str) -> bool:
    """Whether the kernel has killed in this unit, or it has ended."""
    try:
        return "oom_kill 0" not in machine.read(events)
    except FileNotFoundError:
        return show(unit)["ActiveState"] in ("failed", "inactive")


def reload() -> dict[str, Any]:
    """Other defaults and back, without a restart."""
    before, facts = machine.read(CONFIG), {"before": oomctl()}
    other = before.replace("pressure_duration: 2s", "pressure_duration: 5s, swap_limit: 80%, pressure_limit: 55%")
    for name, text in (("other", other), ("back", before)):
        machine.write(CONFIG, text)
        machine.run("systemctl", "reload", UNIT)
        facts[name] = oomctl()
    return facts


def refuse_short() -> dict[str, Any]:
    """systemd takes no duration below a second, and neither do we."""
    command = ["systemd-run", "--quiet", "--property=ManagedOOMMemoryPressureDurationSec=1ms", "true"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    before = machine.read(CONFIG)
    machine.write(CONFIG, before.replace("pressure_duration: 2s", "pressure_duration: 999ms"))
    told = len(journal("reload"))
    machine.run("systemctl", "reload", UNIT)
    wait_until(lambda: len(journal("reload")) > told, PATIENCE_S)
    machine.write(CONFIG, before)
    return {"systemd": done.returncode, "reload": journal("reload")[told:], "oomctl": oomctl()}


def oomctl() -> str:
    """What the distribution's own program says of us; as anybody."""
    done = subprocess.run(["oomctl"], capture_output=True, text=True, check=False, timeout=60, user=UID, env={})
    return done.stdout + done.stderr


def listen_to_the_bus() -> subprocess.Popen[bytes]:
    """Keeps every signal of our object, until it is ended."""
    with open(HEARD, "wb") as heard:
        command = ["busctl", "--json=short", "monitor", "org.freedesktop.oom1"]
        monitor = subprocess.Popen(command, stdout=heard, stderr=subprocess.STDOUT)
    wait_until(lambda: "Monitoring" in machine.read(HEARD))
    return monitor


def start_service(unit: str, case: dict[str, Any], name: str, properties: list[str]) -> None:
    """A service that stays to be looked at after its end."""
    does: dict[str, Any] = {"do": "leak", "rate_mib": 40} if any("MemoryHigh" in each for each in properties) else {}
    options = {"name": name, "wait_for": f"go-{case['name']}", **(does or {"do": "steady", "size_mib": 1})}
    script = ["/usr/bin/python3", "-I", "-S", "/job/tests/vm/guest/actors.py", json.dumps(options)]
    command = ["systemd-run", "--quiet", f"--unit={unit}", f"--slice={case['slice']}", "--service-type=exec"]
    machine.run(*command, *(f"--property={each}" for each in properties), *script)


def show(unit: str, *, user: bool = False) -> dict[str, str]:
    """What systemctl says of it."""
    command = ["systemctl", *(["--user"] if user else []), "show", f"--property={','.join(SHOWN)}", unit]
    env = {**os.environ, "XDG_RUNTIME_DIR": f"/run/user/{UID}"}
    owner = UID if user else None
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=env, user=owner)
    return dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line) | {"error": done.stderr}


def pids_of_lab() -> dict[str, int]:
    """Every actor by its name."""
    return {name: int(pid) for name, _, pid in (each.rpartition(".") for each in os.listdir(f"{LAB}/pids"))}


def clear_lab() -> None:
    """Nothing of the case before."""
    for folder in ("pids", "ready"):
        for name in os.listdir(f"{LAB}/{folder}"):
            os.unlink(f"{LAB}/{folder}/{name}")

"""Gentle steps on real control groups: facts only, as /job/out/ladders.json; the host's test judges them."""

from __future__ import annotations

import json
import os
import subprocess
import time
from typing import TYPE_CHECKING

from tests.vm.guest import machine
from tests.vm.guest.groupchecks import CGROUPS, UID, lives
from tests.vm.guest.managedchecks import clear_lab, pids_of_lab
from tests.vm.guest.scenario import LAB, start_actor, start_killer
from tests.vm.guest.unitchecks import UNIT, journal, show, wait_until

if TYPE_CHECKING:
    from typing import Any

WATCHED = ("memory.current", "memory.swap.current", "memory.high", "cgroup.freeze")
SESSIONS = "/run/systemd/sessions"
PERIOD_S = 0.25
PATIENCE_S = 60.0
START_S = 120.0
"""An emulated guest on a busy host takes half a minute to start it again."""


def check_ladders(job: dict[str, Any]) -> None:
    """Every case of the job, and what the journal has of it all."""
    facts: dict[str, Any] = {"cases": {}}
    machine.set_up_swap(job["swap"], job["swap_mib"])
    for folder in ("pids", "ready"):
        os.makedirs(f"{LAB}/{folder}")
    for path in (LAB, f"{LAB}/pids", f"{LAB}/ready"):
        os.chmod(path, 0o777)
    start_killer(job["killer"])
    for case in job["cases"]:
        begin = time.monotonic()
        try:
            facts["cases"][case["name"]] = {**play(case), "took_s": round(time.monotonic() - begin, 1)}
        except Exception as error:  # noqa: BLE001 - the other cases must be played
            facts["cases"][case["name"]] = {"failure": repr(error)}
        machine.save("ladders.json", json.dumps(facts))
    machine.run("systemctl", "stop", UNIT)
    facts["left"] = {"run": os.path.isdir("/run/oomd")}
    for kind in ("decision", "step", "note", "degraded"):
        facts[kind] = journal(kind)
    facts["unit_journal"] = machine.run("journalctl", "--no-pager", "-o", "cat", "-u", UNIT, check=False)
    facts["kernel"] = machine.run("dmesg", check=False)
    machine.save("ladders.json", json.dumps(facts))


def play(case: dict[str, Any]) -> dict[str, Any]:
    """Actors, go; what their control group says as time goes by; who lives on."""
    clear_lab()
    if case["looked_at"]:
        os.makedirs(SESSIONS, exist_ok=True)
        machine.write(f"{SESSIONS}/1", f"UID={UID}\nACTIVE=1\nTYPE=wayland\nSEAT=seat0\n")
    starters = [start_actor(actor) for actor in case["actors"]]
    expected = sum(count_ready(actor["options"]) for actor in case["actors"])
    ready_s = wait_until(lambda: len(os.listdir(f"{LAB}/ready")) >= expected, PATIENCE_S)
    pids = pids_of_lab()
    kind = "service" if case["actors"][0]["service"] else "scope"
    unit = f"{case['actors'][0]['unit']}.{kind}"
    facts: dict[str, Any] = {"ready_s": ready_s, "pids": pids}
    facts["main_before"] = machine.run("systemctl", "show", "-P", "MainPID", unit, check=False).strip()
    machine.write(f"{LAB}/go-{case['name']}", "now")
    if case["crash"]:
        facts |= crash(case)
    else:
        facts["samples"] = watch(case, f"{CGROUPS}{case['path']}/{unit}")
    facts["main_after"] = machine.run("systemctl", "show", "-P", "MainPID", unit, check=False).strip()
    facts["alive"] = sorted(name for name, pid in pids.items() if lives(pid))
    machine.run("systemctl", "kill", "--signal=KILL", os.path.basename(case["path"]), check=False)
    machine.run("systemctl", "stop", os.path.basename(case["path"]), check=False)
    for starter in starters:
        starter.wait(timeout=PATIENCE_S)
    if case["looked_at"]:
        os.unlink(f"{SESSIONS}/1")
    return facts


def count_ready(options: dict[str, Any]) -> int:
    """How many of them say that they are ready."""
    children: list[dict[str, Any]] = options.get("children", [])
    return 1 + len(children) + sum(int(child.get("helpers", 0)) for child in children)


def watch(case: dict[str, Any], folder: str) -> list[list[Any]]:
    """Every quarter of a second: time, and what each watched file says."""
    samples: list[list[Any]] = []
    begin = time.monotonic()
    while (now := time.monotonic() - begin) < case["watch_s"]:
        samples.append([round(now, 2), *values_of(folder)])
        time.sleep(PERIOD_S)
    return samples


def values_of(folder: str) -> list[Any]:
    """Numbers as numbers."""
    texts = [machine.read(f"{folder}/{name}").strip() for name in WATCHED]
    return [int(text) if text.isdigit() else text for text in texts]


def crash(case: dict[str, Any]) -> dict[str, Any]:
    """Once both levers are pulled oomd is killed, and the actors end, so that no alarm pulls them anew."""
    frozen, throttled = (f"{CGROUPS}{case['path']}/{case['name']}-{name}.scope" for name in ("frozen", "throttled"))

    def is_held() -> bool:
        return bool(values_of(frozen)[3] == 1 and values_of(throttled)[2] != "max")

    facts: dict[str, Any] = {
        "held_s": wait_until(is_held, PATIENCE_S),
        "held": [values_of(frozen), values_of(throttled)],
    }
    facts["debts"] = machine.read("/run/oomd/debts")
    before = show("MainPID")
    # A unit file that never starts anything: what happens is the work of whoever is left.
    if case["crash"] == "all":
        cgroup = machine.group_of(UNIT)
        machine.write(f"{CGROUPS}{cgroup}/cgroup.kill", "1")
    else:
        os.kill(int(before), 9)
    begin = time.monotonic()
    back_s = wait_until(lambda: values_of(frozen)[3] == 0 and values_of(throttled)[2] == "max", PATIENCE_S)
    facts |= {"back_s": back_s, "after": [values_of(frozen), values_of(throttled)]}
    subprocess.run(["systemctl", "kill", "--signal=KILL", os.path.basename(case["path"])], check=False)
    facts["again_s"] = wait_until(lambda: show("ActiveState") == "active" and show("MainPID") != before, START_S)
    return facts | {"crashed_s": round(time.monotonic() - begin, 1)}

"""Rules over real control groups, one case after the other: facts only, as /job/out/groups.json."""

from __future__ import annotations

import json
import os
import subprocess
import time
from typing import TYPE_CHECKING

from tests.vm.guest import machine
from tests.vm.guest.scenario import LAB, start_actor, start_killer
from tests.vm.guest.unitchecks import UNIT, journal, wait_until

if TYPE_CHECKING:
    from typing import Any

CGROUPS = "/sys/fs/cgroup"
PATIENCE_S = 60.0
QUIET_S = 6.0
"""How long it is looked whether nobody dies."""
SETTLES_S = 1.0
UID = 1000
SET_MARK = "import os, sys; os.setxattr(sys.argv[1], sys.argv[2], sys.argv[3].encode())"


def check_groups(job: dict[str, Any]) -> None:
    """Every case of the job, and what the journal has of it all."""
    facts: dict[str, Any] = {"cases": {}}
    for folder in ("pids", "ready"):
        os.makedirs(f"{LAB}/{folder}")
    for path in (LAB, f"{LAB}/pids", f"{LAB}/ready"):
        os.chmod(path, 0o777)
    with open("/etc/passwd", "a", encoding="utf-8") as file:
        file.write(f"somebody:x:{UID}:{UID}::/:/bin/sh\n")
    with open("/etc/group", "a", encoding="utf-8") as file:
        file.write(f"somebody:x:{UID}:\n")
    start_killer(job["killer"])
    for case in job["cases"]:
        begin = time.monotonic()
        try:
            facts["cases"][case["name"]] = {**play(case), "took_s": round(time.monotonic() - begin, 1)}
        except Exception as error:  # noqa: BLE001 - the other cases must be played
            facts["cases"][case["name"]] = {"failure": repr(error)}
        machine.save("groups.json", json.dumps(facts))
    machine.run("systemctl", "stop", UNIT)
    for kind in ("decision", "outcome"):
        facts[kind] = journal(kind)
    facts["unit_journal"] = machine.run("journalctl", "--no-pager", "-o", "cat", "-u", UNIT, check=False)
    facts["journal"] = machine.run("journalctl", "--no-pager", "-o", "short-monotonic", "-n", "60", check=False)
    facts["kernel"] = machine.run("dmesg", check=False)
    machine.save("groups.json", json.dumps(facts))


def play(case: dict[str, Any]) -> dict[str, Any]:
    """Actors, marks, go; who lives on and who does not."""
    for name in os.listdir(f"{LAB}/pids"):
        os.unlink(f"{LAB}/pids/{name}")
    for name in os.listdir(f"{LAB}/ready"):
        os.unlink(f"{LAB}/ready/{name}")
    expected, starters = start(case)
    ready_s = wait_until(lambda: len(os.listdir(f"{LAB}/ready")) >= expected)
    for group, marks in case["marks"].items():
        set_marks(f"{CGROUPS}{case['path']}/{group}", marks)
    pids = {name: int(pid) for name, _, pid in (each.rpartition(".") for each in os.listdir(f"{LAB}/pids"))}
    groups = {name: machine.read(f"/proc/{pid}/cgroup").strip().removeprefix("0::") for name, pid in pids.items()}
    machine.write(f"{LAB}/go-{case['name'] if case['actors'] else 'user'}", "now")
    died_s = wait_until(lambda: not all(map(lives, pids.values())), PATIENCE_S if case["dies"] else QUIET_S)
    time.sleep(SETTLES_S)
    facts = {"ready_s": ready_s, "died_s": died_s, "pids": pids, "groups": groups}
    facts["alive"] = sorted(name for name, pid in pids.items() if lives(pid))
    facts["oomd"] = machine.run("systemctl", "is-active", UNIT, check=False).strip()
    facts["systemd-oomd"] = machine.run("systemctl", "is-active", "systemd-oomd.service", check=False).strip()
    facts["pressure"] = machine.read(f"{CGROUPS}{case['path']}/memory.pressure")
    facts["owners"] = {name: os.stat(f"{CGROUPS}{path}").st_uid for name, path in groups.items() if _is_there(path)}
    clear(case, starters)
    return facts


def start(case: dict[str, Any]) -> tuple[int, list[subprocess.Popen[bytes]]]:
    """Every actor of the case; how many will tell that they are ready."""
    if not case["actors"]:
        machine.run("systemctl", "start", f"user@{UID}.service")
        return 3, []
    starters = [start_actor(actor) for actor in case["actors"]]
    count = 0
    for actor in case["actors"]:
        children = actor["options"].get("children", [])
        count += 1 + len(children) + sum(child.get("helpers", 0) for child in children)
    return count, starters


def set_marks(folder: str, marks: dict[str, str]) -> None:
    """By the owner of the group: a user marks his own."""
    owner = os.stat(folder).st_uid
    for name, text in marks.items():
        command = ["/usr/bin/python3", "-I", "-S", "-c", SET_MARK, folder, name, text]
        subprocess.run(command, check=True, user=owner)


def clear(case: dict[str, Any], starters: list[subprocess.Popen[bytes]]) -> None:
    """Nobody of this case disturbs the next one."""
    unit = f"user@{UID}.service" if not case["actors"] else os.path.basename(case["path"])
    machine.run("systemctl", "kill", "--signal=KILL", unit, check=False)
    machine.run("systemctl", "stop", unit, check=False)
    for starter in starters:
        starter.wait(timeout=20)


def lives(pid: int) -> bool:
    """Whether the process is there and no zombie."""
    state = machine.read(f"/proc/{pid}/stat").rpartition(")")[2].split()
    return bool(state) and state[0] not in "ZX"


def _is_there(path: str) -> bool:
    return os.path.isdir(f"{CGROUPS}{path}")

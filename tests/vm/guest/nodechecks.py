"""A Kubernetes node without Kubernetes: kubelet's cgroups by hand, with real processes of pods in them, and oomd in a
container as the DaemonSet describes it. Facts only, as /job/out/kubernetes.json.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import signal
import subprocess
import time
from typing import TYPE_CHECKING

from tests.vm.guest import machine
from tests.vm.guest.groupchecks import UID, lives
from tests.vm.guest.scenario import LAB
from tests.vm.guest.unitchecks import wait_until

if TYPE_CHECKING:
    from typing import Any

CGROUPS = "/sys/fs/cgroup"
CONTAINER = "/job/tests/vm/guest/container.py"
PYTHON = ("/usr/bin/python3", "-I", "-S")
PATIENCE_S = 120.0
QUIET_S = 6.0
NAMESPACES = ("cgroup", "ipc", "mnt", "net", "pid", "user", "uts")
FILE = "/var/tmp/read-again"
THRASHES = f"""
import os
print(flush=True)
while True:
    with open({FILE!r}, "rb", buffering=0) as file:
        while file.read(1 << 20):
            pass
"""
"""Reads a file that is larger than what its container may have."""
WRITES = """
import os
print(flush=True)
while True:
    fd = os.open("/var/tmp/written", os.O_WRONLY | os.O_CREAT | os.O_SYNC)
    for _ in range(64):
        os.write(fd, bytes(4096))
    os.close(fd)
"""


def check_kubernetes(job: dict[str, Any]) -> None:
    """Everything in one boot."""
    for folder in (f"{LAB}/pids", f"{LAB}/ready", "/var/log/containers"):
        os.makedirs(folder)
        os.chmod(folder, 0o777)
    for mount in job["spec"]["mounts"]:
        os.makedirs(mount["path"], exist_ok=True)
    machine.install_oomd(job["site"])
    facts: dict[str, Any] = {"drivers": {}, "without": {}}
    for driver, pods in job["drivers"].items():
        facts["drivers"][driver] = play(job, driver, pods)
        machine.save("kubernetes.json", json.dumps(facts))
    for missing in job["spec"]["capabilities"]:
        facts["without"][missing] = play_without(job, missing)
        machine.save("kubernetes.json", json.dumps(facts))
    facts["kernel"] = machine.run("dmesg", check=False)
    machine.save("kubernetes.json", json.dumps(facts))


def play(job: dict[str, Any], driver: str, pods: list[dict[str, Any]]) -> dict[str, Any]:
    """First what is no shortage of the node; then one pod after the other wants everything. Who lived on when."""
    made = [start_pod(pod) for pod in pods]
    pids = {process["name"]: process["pid"] for pod in made for process in pod}
    log = f"/job/out/{driver}.jsonl"
    daemon = start_oomd(job["spec"], job["own"], log)
    facts: dict[str, Any] = {"pids": pids, "start": wait_event(log, "start"), "seen": look_at(daemon.pid), "steps": []}
    quiet = [start_in(job["limited"][driver], THRASHES), start_in(job["limited"][driver], WRITES, limited=False)]
    time.sleep(QUIET_S)
    facts["quiet"] = {"alive": alive(pids), "lives": [child.poll() is None for child in quiet]}
    facts["limited"] = machine.read(f"{CGROUPS}{job['limited'][driver]['path']}/memory.events")
    facts["pressure"] = {name: machine.read(f"/proc/pressure/{name}") for name in ("memory", "io")}
    for child in quiet:
        child.kill()
        child.wait()
    for step, name in enumerate(job["order"]):
        machine.write(f"{LAB}/go-{driver}-{name}", "now")
        known = len(events(log, "outcome"))
        waited = wait_until(functools.partial(more_than, known, log), PATIENCE_S)
        time.sleep(1.0)
        facts["steps"].append({"name": name, "step": step, "waited_s": waited, "alive": alive(pids)})
    facts["groups"] = sorted(path for pod in pods if os.path.isdir(CGROUPS + (path := pod["path"])))
    stop_oomd(daemon)
    facts["decisions"], facts["outcomes"] = events(log, "decision"), events(log, "outcome")
    facts["stop"] = events(log, "stop")
    for pid in pids.values():
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return facts


def play_without(job: dict[str, Any], missing: str) -> dict[str, Any]:
    """One capability less: what it says at the start; and without KILL, what becomes of a kill."""
    spec = json.loads(json.dumps(job["spec"]))
    spec["capabilities"].remove(missing)
    log = f"/job/out/without-{missing}.jsonl"
    pids: dict[str, int] = {}
    if missing == "KILL":
        pids = {process["name"]: process["pid"] for process in start_pod(job["victim"])}
        for mount in spec["mounts"]:
            mount["files"] = {name: text.replace("3%", "99%") for name, text in mount["files"].items()}
    daemon = start_oomd(spec, job["own"], log)
    facts: dict[str, Any] = {"start": wait_event(log, "start"), "seen": look_at(daemon.pid)}
    if missing == "KILL":
        wait_until(lambda: events(log, "refused") or events(log, "outcome"), PATIENCE_S)
        facts |= {"refused": events(log, "refused"), "outcomes": events(log, "outcome"), "alive": alive(pids)}
    stop_oomd(daemon)
    for pid in pids.values():
        os.kill(pid, signal.SIGKILL)
    return facts


def start_pod(pod: dict[str, Any]) -> list[dict[str, Any]]:
    """The container's cgroup with its settings, and its processes in it, of a user who is not root; kubelet's log
    folders.
    """
    make_group(pod["path"], pod["settings"])
    os.makedirs(f"/var/log/pods/{pod['log']}", exist_ok=True)
    with open(f"/var/log/containers/{pod['container_log']}", "w", encoding="ascii"):
        pass
    started = []
    for options in pod["actors"]:
        command = [*PYTHON, "/job/tests/vm/guest/actors.py", json.dumps(options)]
        child = subprocess.Popen(["setpriv", f"--reuid={UID}", "--clear-groups", *command], stdin=subprocess.DEVNULL)
        join(pod["path"], child.pid)
        wait_until(functools.partial(is_ready, options["name"]))
        machine.write(f"/proc/{child.pid}/oom_score_adj", str(pod["adj"]))
        started.append({"name": options["name"], "pid": child.pid})
    return started


def start_in(pod: dict[str, Any], code: str, *, limited: bool = True) -> subprocess.Popen[bytes]:
    """A process that does nothing but this, in a container at its own limit or beside it."""
    if limited and not os.path.exists(FILE):
        with open(FILE, "wb") as file:
            file.write(os.urandom(48 << 20))
            os.fsync(file.fileno())
    machine.write("/proc/sys/vm/drop_caches", "1")  # whoever reads it next is charged
    path = pod["path"] if limited else pod["beside"]
    make_group(path, pod["settings"] if limited else {})
    child = subprocess.Popen([*PYTHON, "-c", code], stdout=subprocess.PIPE)
    join(path, child.pid)
    machine.write(f"/proc/{child.pid}/oom_score_adj", str(pod["adj"]))
    return child


def make_group(path: str, settings: dict[str, str]) -> None:
    """A cgroup with memory and pids accounted all the way down."""
    place = CGROUPS
    for name in path.strip("/").split("/"):
        machine.write(f"{place}/cgroup.subtree_control", "+memory +pids +cpu")
        place = f"{place}/{name}"
        os.makedirs(place, exist_ok=True)
    for name, text in settings.items():
        machine.write(f"{place}/{name}", text)


def join(path: str, pid: int) -> None:
    """This process is in that cgroup now."""
    machine.write(f"{CGROUPS}{path}/cgroup.procs", str(pid))


def start_oomd(spec: dict[str, Any], own: str, log: str) -> subprocess.Popen[bytes]:
    """The DaemonSet's container; its process stays the same from the runtime to the killer."""
    make_group(own, {"memory.max": spec["memory_limit"]})
    with open(log, "wb") as out:
        command = [*PYTHON, CONTAINER, json.dumps(spec), own]
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT)


def stop_oomd(daemon: subprocess.Popen[bytes]) -> None:
    """As kubelet does."""
    daemon.terminate()
    try:
        daemon.wait(20)
    except subprocess.TimeoutExpired:
        daemon.kill()
        daemon.wait()


def look_at(pid: int) -> dict[str, Any]:
    """What the kernel says of its rights, its namespaces and its mounts."""
    status = dict(line.split(":\t", 1) for line in machine.read(f"/proc/{pid}/status").splitlines() if ":\t" in line)
    names = ("CapEff", "CapPrm", "CapBnd", "CapInh", "CapAmb", "NoNewPrivs")
    facts: dict[str, Any] = {name: status.get(name, "").strip() for name in names}
    facts["own"] = [
        name for name in NAMESPACES if os.readlink(f"/proc/{pid}/ns/{name}") != os.readlink(f"/proc/1/ns/{name}")
    ]
    mounts = [line.split() for line in machine.read(f"/proc/{pid}/mountinfo").splitlines()]
    facts["mounts"] = {fields[4]: fields[5].split(",")[0] for fields in mounts}
    return facts


def events(log: str, kind: str) -> list[dict[str, Any]]:
    """Those of this kind so far."""
    found = []
    for line in machine.read(log).splitlines():
        with contextlib.suppress(ValueError):
            event = json.loads(line)
            if event.get("event") == kind:
                found.append(event)
    return found


def wait_event(log: str, kind: str) -> dict[str, Any]:
    """The first of this kind; what was written instead, where none comes."""
    wait_until(lambda: events(log, kind), PATIENCE_S)
    found = events(log, kind)
    return found[0] if found else {"instead": machine.read(log)[-2000:]}


def more_than(known: int, log: str) -> bool:
    """Whether more outcomes were told than that."""
    return len(events(log, "outcome")) > known


def is_ready(name: str) -> bool:
    """Whether this actor has filled its memory."""
    return any(each.startswith(f"{name}.") for each in os.listdir(f"{LAB}/ready"))


def alive(pids: dict[str, int]) -> list[str]:
    """Who lives."""
    return sorted(name for name, pid in pids.items() if lives(pid))

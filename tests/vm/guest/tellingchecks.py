"""Telling people, and hooks, with the real unit and its drop-ins: facts only, as /job/out/telling.json."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import threading
from typing import TYPE_CHECKING

from tests.vm.guest import machine
from tests.vm.guest.groupchecks import UID
from tests.vm.guest.scenario import LAB, start_actor, start_killer
from tests.vm.guest.unitchecks import journal, show, wait_until

if TYPE_CHECKING:
    from typing import Any

TTY_GROUP = 5
BUS = f"/run/user/{UID}/bus"
SHOWN, HEARD = "/job/out/desktop", "/job/out/low-memory"
DESKTOP = """
import json, sys, threading, time
from oomd.outside.served import Method, Served
from oomd.outside.station import Station
def notify(*given):
    print(json.dumps(given), flush=True)
    return (1,)
name = "org.freedesktop.Notifications"
methods = {"Notify": Method("susssasa{sv}i", "u", notify)}
station = Station(Served(name, "/org/freedesktop/Notifications", name, methods), print, sys.argv[1])
station.start()
while station._bus is None:
    time.sleep(0.05)
print("ready", flush=True)
threading.Event().wait()
"""


def check_telling(job: dict[str, Any]) -> None:
    """One kill of a process of a user who is logged in, and who was told of it."""
    for folder in ("pids", "ready"):
        os.makedirs(f"{LAB}/{folder}")
    for path in (LAB, f"{LAB}/pids", f"{LAB}/ready"):
        os.chmod(path, 0o777)
    machine.write(f"{LAB}/go", "now")
    for path, line in (("/etc/passwd", f"somebody:x:{UID}:{UID}::/:/bin/sh\n"), ("/etc/group", f"somebody:x:{UID}:\n")):
        with open(path, "a", encoding="utf-8") as file:
            file.write(line)
    calls = listen_to_calls(job["sockets"])
    for path in job["programs"]:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        machine.write(path, "")
        os.chmod(path, 0o755)
    start_killer(job["killer"])
    machine.run("journalctl", "--update-catalog")
    bus = "org.freedesktop.DBus"
    machine.run("busctl", "call", bus, "/org/freedesktop/DBus", bus, "ReloadConfig")
    machine.run("systemctl", "restart", "oomd.service")  # with the name on the bus
    programs = [start_session(), start_desktop(), start_listener()]
    terminal, path = open_terminal()
    facts: dict[str, Any] = {"user": {"ready_s": wait_until(lambda: "ready" in machine.read(SHOWN), 60)}}
    facts["owned_s"] = wait_until(lambda: "LowMemoryMonitor" in machine.run("busctl", "list", "--acquired"), 60)
    options = {"do": "leak", "name": "leaker", "rate_mib": 15, "uid": UID}
    actor = start_actor({"options": options, "slice": "user-1000.slice", "unit": "session-leaker"})
    facts["status"] = actor.wait(timeout=120)
    facts["told_s"] = wait_until(lambda: len(journal("hook")) >= 3, 60)
    facts["terminal"] = read_terminal(terminal)
    facts["path"] = path
    for program in programs:
        program.terminate()
        program.wait()
    facts |= gathered(calls)
    machine.run("systemctl", "stop", "oomd.service")
    machine.save("telling.json", json.dumps(facts))


def gathered(calls: list[str]) -> dict[str, Any]:
    """What everybody has of it."""
    kinds = ("start", "decision", "outcome", "hook", "degraded", "shortage", "escalation")
    facts: dict[str, Any] = {kind: journal(kind) for kind in kinds}
    facts["calls"] = calls
    facts["desktop"] = [json.loads(line) for line in machine.read(SHOWN).splitlines() if line.startswith("[")]
    facts["levels"] = [int(each) for each in re.findall(r"byte (\d+)", machine.read(HEARD))]
    facts["kmsg"] = [line for line in machine.run("dmesg").splitlines() if "oomd: " in line]
    facts["facts"] = {name: machine.read(f"/var/lib/oomd/{name}.json") for name in ("before", "after")}
    query = ("journalctl", "--no-pager", "-b")
    facts["explained"] = machine.run(*query, "-x", "OOMD_EVENT=decision")
    facts["of_the_unit"] = machine.run(*query, "-o", "cat", "-u", "session-leaker.scope")
    facts["rights"] = show("CapabilityBoundingSet")
    facts["journal"] = machine.run(*query, "-o", "cat", "-u", "oomd.service")
    return facts


def listen_to_calls(folder: str) -> list[str]:
    """A prekill hook: takes calls and says that it is ready; what it was told."""
    os.makedirs(folder)
    heard: list[str] = []
    server = socket.socket(socket.AF_UNIX)
    server.bind(f"{folder}/test")
    server.listen()

    def serve() -> None:
        while True:
            stream, _ = server.accept()
            with stream:
                data = b""
                while not data.endswith(b"\0"):
                    data += stream.recv(4096)
                heard.append(data[:-1].decode())
                stream.sendall(b'{"parameters":{}}\0')

    threading.Thread(target=serve, daemon=True).start()
    return heard


def start_session() -> subprocess.Popen[bytes]:
    """The user's own message bus, where every login has it."""
    os.makedirs(os.path.dirname(BUS), mode=0o700)
    os.chown(os.path.dirname(BUS), UID, UID)
    command = ["dbus-daemon", "--session", "--nofork", "--nopidfile", f"--address=unix:path={BUS}"]
    process = subprocess.Popen(command, user=UID, group=UID, cwd="/")
    wait_until(lambda: os.path.exists(BUS), 30)
    return process


def start_desktop() -> subprocess.Popen[bytes]:
    """Somebody who shows notices, as that user."""
    command = ["/opt/oomd/bin/python3", "-P", "-c", DESKTOP, f"unix:path={BUS}"]
    with open(SHOWN, "wb") as file:
        return subprocess.Popen(command, user=UID, group=UID, cwd="/", stdout=file, stderr=file)


def start_listener() -> subprocess.Popen[bytes]:
    """Somebody who hears how short memory is."""
    with open(HEARD, "wb") as file:
        rule = "type='signal',interface='org.freedesktop.LowMemoryMonitor'"
        return subprocess.Popen(["dbus-monitor", "--system", rule], stdout=file)


def open_terminal() -> tuple[int, str]:
    """The user's terminal, as a login leaves it: his own, and writable for its group."""
    ours, theirs = os.openpty()
    path = os.ttyname(theirs)
    os.chown(path, UID, TTY_GROUP)
    os.chmod(path, 0o620)
    os.set_blocking(ours, False)
    return ours, path


def read_terminal(fd: int) -> str:
    """What was written there."""
    try:
        return os.read(fd, 65536).decode()
    except BlockingIOError:
        return ""

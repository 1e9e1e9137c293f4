"""oomd in the place of Android's lmkd: children that register and allocate until they are killed; facts only, as
/job/out/lmkd.json.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import struct
import subprocess
import time
from typing import TYPE_CHECKING

from tests.vm.guest import machine
from tests.vm.guest.scenario import start_killer
from tests.vm.guest.unitchecks import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

UNIT = "oomd-lmkd.service"
SOCKET = "/dev/socket/lmkd"
PATIENCE_S = 200.0
"""A busy host emulates slowly."""
GROWS = """
import mmap, sys, time
name, start, rate = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
open("/proc/self/comm", "w").write(name)
held = []
def grow():
    area = mmap.mmap(-1, 1 << 20)
    for at in range(0, 1 << 20, 4096):
        area[at] = 1 + at % 251
    held.append(area)
for _ in range(start):
    grow()
print(flush=True)
input()
while True:
    grow()
    time.sleep(1 / rate)
"""
"""Grows by so many MiB per second until it is killed."""


def check_lmkd(job: dict[str, Any]) -> None:
    """Eleven of falling importance, then one that takes most of the memory."""
    machine.lock_memory()
    machine.be_realtime()
    machine.set_up_swap(job["swap"], job["swap_mib"])
    start_killer(job["killer"])
    facts: dict[str, Any] = {}
    client = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    client.connect(SOCKET)
    for event in (0, 1):
        client.send(struct.pack(">2i", 5, event))
    facts["eleven"] = play(client, job["eleven"])
    machine.save("lmkd.json", json.dumps(facts))
    facts["large"] = play(client, job["large"])
    client.send(struct.pack(">3i", 4, 0, 1000))
    facts["counted"] = answer(client)
    machine.save("lmkd.json", json.dumps(facts))
    facts["hung"] = hang(client, job["hung"])
    machine.run("systemctl", "stop", UNIT)
    tags = ("-t", "lowmemorykiller", "-t", "killinfo")
    facts["journal"] = machine.run("journalctl", "--no-pager", "-o", "cat", *tags, check=False)
    facts["unit"] = machine.run("journalctl", "--no-pager", "-o", "cat", "-u", UNIT, check=False)[-4000:]
    facts["kernel"] = machine.run("dmesg", check=False)
    machine.save("lmkd.json", json.dumps(facts))


class Deaths:
    """In which order processes die, however late we look: the kernel keeps the queue."""

    def __init__(self, pids: dict[int, int]) -> None:
        self.order: list[int] = []
        self._epoll = select.epoll()
        self._left = {os.pidfd_open(pid): adj for adj, pid in pids.items()}
        for pidfd in self._left:
            self._epoll.register(pidfd, select.EPOLLIN)

    def __enter__(self) -> Deaths:
        return self

    def __exit__(self, *_: object) -> None:
        self._epoll.close()
        for pidfd in self._left:
            os.close(pidfd)

    def all_dead(self) -> bool:
        """Whether nobody is left, after those were noted who have died meanwhile."""
        for pidfd, _ in self._epoll.poll(0):
            self._epoll.unregister(pidfd)
            os.close(pidfd)
            self.order.append(self._left.pop(pidfd))
        return not self._left


def play(
    client: socket.socket, cast: list[dict[str, Any]], between: Callable[[], object] = lambda: None
) -> dict[str, Any]:
    """Start them, register them, (``between``,) let them grow; in which order they died."""
    children = {}
    for each in cast:
        arguments = [f"adj-{each['adj']}", str(each["start_mib"]), str(each["rate_mib"])]
        child = subprocess.Popen(
            ["/usr/bin/python3", "-I", "-S", "-c", GROWS, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert child.stdout is not None
        child.stdout.readline()
        children[each["adj"]] = child
        client.send(struct.pack(">4i", 1, child.pid, 10000 + each["adj"], each["adj"]))
    client.send(struct.pack(">3i", 4, 1, 0))
    assert answer(client) == 0
    written = {adj: machine.read(f"/proc/{child.pid}/oom_score_adj").strip() for adj, child in children.items()}
    between()
    for child in children.values():
        assert child.stdin is not None
        child.stdin.write(b"\n")
        child.stdin.flush()
    begin = time.monotonic()
    with Deaths({adj: child.pid for adj, child in children.items()}) as deaths:
        took_s = wait_until(deaths.all_dead, PATIENCE_S)
    order = deaths.order
    facts = {"order": order, "took_s": took_s, "written": written, "elapsed_s": time.monotonic() - begin}
    facts["statuses"] = {adj: child.poll() for adj, child in children.items()}
    facts["pids"] = {adj: child.pid for adj, child in children.items()}
    for child in children.values():
        child.kill()
        child.wait()
    facts["notices"] = drain(client)
    return facts


def hang(client: socket.socket, cast: list[dict[str, Any]]) -> dict[str, Any]:
    """The same while the killer is stopped, until somebody has died; then it goes on."""
    pid = int(machine.run("systemctl", "show", "-P", "MainPID", UNIT))
    facts = play(client, cast, between=lambda: os.kill(pid, signal.SIGSTOP))
    os.kill(pid, signal.SIGCONT)
    wait_until(lambda: facts["notices"].extend(drain(client)) or facts["notices"], PATIENCE_S)
    client.send(struct.pack(">3i", 4, 0, 1000))
    facts["counted"] = answer(client)
    facts["same_pid"] = int(machine.run("systemctl", "show", "-P", "MainPID", UNIT)) == pid
    return facts


def answer(client: socket.socket) -> int:
    """The next reply to GETKILLCNT; notices before it are passed over."""
    while True:
        data = client.recv(4096)
        if len(data) == 8:
            return int(struct.unpack(">2i", data)[1])


def drain(client: socket.socket) -> list[list[int]]:
    """The kill notices that have come."""
    notices = []
    client.setblocking(False)
    try:
        while data := client.recv(4096):
            if len(data) == 16:
                notices.append(list(struct.unpack(">4i", data)))
    except BlockingIOError:
        pass
    client.setblocking(True)
    return notices

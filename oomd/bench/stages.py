"""Brings victims into the state in which they are to be killed. Every one is a child of the bench."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field

from oomd.kernel.cgroup_levers import parse_lever_mounts, write_value
from oomd.kernel.files import find_kib
from oomd.kernel.process import read_pid_file
from oomd.kernel.smaps import read_rollup
from oomd.kernel.swaps import parse_swaps
from oomd.model.units import format_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from oomd.bench.guardian import Guardian
    from oomd.kernel.cgroup_levers import LeverMount
    from oomd.kernel.swaps import SwapDevice

KINDS = ("running", "busy", "stopped", "starved", "frozen", "throttled", "swapped", "threads", "many", "thp")
ABOUT = {
    "running": "asleep, and nothing hinders it from running to its end",
    "busy": "spinning on a CPU",
    "stopped": "SIGSTOP",
    "starved": "SCHED_IDLE, nice 19, and a hog on every CPU",
    "frozen": "in a frozen control group",
    "throttled": "in a control group with 1 % of a CPU",
    "swapped": "half of it in swap",
    "threads": "filled by 32 threads that go on living",
    "many": "100 processes in one process group",
    "thp": "on huge pages",
}
MANY = 100
MOST_PART = 0.8
"""Of what should be in swap or on huge pages: the rest may lie at the edges, or be needed at once."""
SETTLE_S = 0.05
READY_S = 60.0
_VICTIM = os.path.join(os.path.dirname(os.path.abspath(__file__)), "victim.py")


class CannotStage(Exception):  # noqa: N818 - a fact about the machine, not a fault
    """This machine cannot have such a victim; the message says why."""


@dataclass(slots=True)
class Staged:
    """Victims ready to be killed."""

    kind: str
    size_bytes: int
    """That all of them together were to take."""
    victims: list[subprocess.Popen[bytes]]
    held_bytes: int = 0
    """What they have in memory, all their own: what must come back. An interpreter is part of each of them; what is in
    swap counts only where that is memory too."""
    fill_seconds: float | None = None
    """How long one process took to touch its memory; None where others were involved."""
    hogs: list[subprocess.Popen[bytes]] = field(default_factory=list)


@contextlib.contextmanager
def staged(kind: str, size_bytes: int, guardian: Guardian) -> Iterator[Staged]:
    """The victims; they and whatever was made for them are gone afterwards. Raises CannotStage."""
    stage = Staged(kind, size_bytes, [])
    groups: list[str] = []
    if kind == "swapped":
        _require_swap(size_bytes // 2)
    try:
        count = MANY if kind == "many" else 1
        for number in range(count):
            leader = stage.victims[0].pid if number else 0
            stage.victims.append(_start(kind, size_bytes // count, guardian, group=leader))
        for victim in stage.victims:
            seconds = _wait_ready(victim)
            stage.fill_seconds = seconds if count == 1 else None
        _measure(stage)
        try:
            _hinder(stage, groups, guardian)
        except OSError as error:
            raise CannotStage(f"{error.filename or kind}: {error.strerror}") from error
        time.sleep(SETTLE_S)
        yield stage
    finally:
        for child in (*stage.victims, *stage.hogs):
            child.kill()
        for group in groups:
            _let_go(group)
        for child in (*stage.victims, *stage.hogs):
            child.wait()
            if child.stdout is not None:
                child.stdout.close()
        for group in groups:
            os.rmdir(group)


def _start(kind: str, size: int, guardian: Guardian, *, group: int = 0) -> subprocess.Popen[bytes]:
    argv = [sys.executable, "-I", "-S", _VICTIM, kind, str(size), str(os.getpid())]
    child = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, process_group=group)
    try:
        guardian.guard_process(child.pid)
    except BaseException:  # nobody knows of it yet
        child.kill()
        child.wait()
        raise
    return child


def _wait_ready(child: subprocess.Popen[bytes]) -> float | None:
    assert child.stdout is not None
    line = child.stdout.readline()
    seconds = None
    if line and line != b"ready\n":
        seconds, line = float(line), child.stdout.readline()
    if line != b"ready\n":
        raise CannotStage(f"a victim ended with {child.wait(READY_S)} before it had its memory")
    return seconds


def _measure(stage: Staged) -> None:
    """What they hold, and that it is where the kind of victim says."""
    proc_fd = os.open("/proc", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        found = [read_rollup(proc_fd, victim.pid) for victim in stage.victims]
        huge = read_pid_file(proc_fd, stage.victims[0].pid, "smaps_rollup") if stage.kind == "thp" else None
    finally:
        os.close(proc_fd)
    rollups = [rollup for rollup in found if rollup is not None]
    if len(rollups) < len(found):
        raise CannotStage("a victim has ended by itself, or may not be looked at")
    stage.held_bytes = sum(rollup.anonymous_bytes for rollup in rollups)
    swapped = sum(rollup.swap_bytes for rollup in rollups)
    if stage.kind == "swapped" and swapped < MOST_PART * stage.size_bytes / 2:
        raise CannotStage(f"no more than {format_size(swapped)} of it went to swap")
    if swapped and all(device.kind == "zram" for device in _read_swaps()):
        stage.held_bytes += swapped  # it cannot be made smaller, so zram holds it as it was
    if huge is not None:
        held = find_kib(huge, b"\nAnonHugePages:", "smaps_rollup")
        if held < MOST_PART * stage.size_bytes:
            raise CannotStage(f"the kernel had huge pages for no more than {format_size(held)} of it")


def _hinder(stage: Staged, groups: list[str], guardian: Guardian) -> None:
    (victim, *_) = stage.victims
    if stage.kind == "stopped":
        victim.send_signal(signal.SIGSTOP)
    elif stage.kind == "starved":
        for _ in range(os.cpu_count() or 1):
            hog = _start("hog", 0, guardian)
            stage.hogs.append(hog)
            _wait_ready(hog)
        os.setpriority(os.PRIO_PROCESS, victim.pid, 19)
        os.sched_setscheduler(victim.pid, os.SCHED_IDLE, os.sched_param(0))
    elif stage.kind == "frozen":
        _freeze(victim.pid, groups, guardian)
    elif stage.kind == "throttled":
        _throttle(victim.pid, groups, guardian)


def why_not(kind: str) -> str:
    """Why such a victim cannot be had here, as far as that can be told before; empty when it can."""
    try:
        if kind == "frozen":
            _find_mount("freezer")
        elif kind == "throttled":
            _find_mount("cpu")
        elif kind == "swapped":
            _require_swap(1)
        elif kind == "thp":
            with open("/sys/kernel/mm/transparent_hugepage/enabled", encoding="ascii") as file:
                return "transparent huge pages are off" if "[never]" in file.read() else ""
    except CannotStage as error:
        return str(error)
    except OSError as error:
        return f"{error.filename}: {error.strerror}"
    return ""


def _read_swaps() -> tuple[SwapDevice, ...]:
    with open("/proc/swaps", "rb") as file:
        return parse_swaps(file.read())


def _require_swap(wanted: int) -> None:
    free = sum(device.size_bytes - device.used_bytes for device in _read_swaps())
    if free < wanted:
        raise CannotStage("there is no swap" if not free else "there is not so much free swap")


def _find_mount(controller: str) -> LeverMount:
    with open("/proc/self/mountinfo", "rb") as file:
        mounts = parse_lever_mounts(file.read())
    # Version 1 first: there a frozen victim does not die by itself.
    for mount in sorted(mounts, key=lambda mount: mount.version):
        if controller in mount.controllers and _usable(mount, controller):
            return mount
    raise CannotStage(f"no control group hierarchy has the {controller} controller, or it may not be written")


def _usable(mount: LeverMount, controller: str) -> bool:
    if not os.access(mount.point, os.W_OK):
        return False
    if mount.version == 1 or controller == "freezer":
        return True
    with open(f"{mount.point}/cgroup.subtree_control", encoding="ascii") as file:
        return controller in file.read().split()


def _make_group(controller: str, groups: list[str], guardian: Guardian) -> tuple[str, LeverMount]:
    mount = _find_mount(controller)
    # Nobody else has made one of this name: what the guardian is told of, it removes.
    directory = f"{mount.point}/oomd-bench-{os.getpid()}-{os.urandom(4).hex()}"
    guardian.guard_group(directory)
    try:
        os.mkdir(directory)
    except OSError as error:
        raise CannotStage(f"{directory}: {error.strerror}") from error
    groups.append(directory)
    return directory, mount


def _freeze(pid: int, groups: list[str], guardian: Guardian) -> None:
    directory, mount = _make_group("freezer", groups, guardian)
    write_value(f"{directory}/cgroup.procs", str(pid))
    name, value, told, done = (
        ("freezer.state", "FROZEN", "freezer.state", "FROZEN")
        if mount.version == 1
        else ("cgroup.freeze", "1", "cgroup.events", "frozen 1")
    )
    write_value(f"{directory}/{name}", value)
    end = time.monotonic() + READY_S
    while True:
        with open(f"{directory}/{told}", encoding="ascii") as file:
            if done in file.read():
                return
        if time.monotonic() > end:
            raise CannotStage("the control group does not freeze")
        time.sleep(0.001)


def _throttle(pid: int, groups: list[str], guardian: Guardian) -> None:
    directory, mount = _make_group("cpu", groups, guardian)
    if mount.version == 1:
        write_value(f"{directory}/cpu.cfs_quota_us", "1000")
    else:
        write_value(f"{directory}/cpu.max", "1000 100000")
    write_value(f"{directory}/cgroup.procs", str(pid))
    time.sleep(0.2)  # until it has used up its share


def _let_go(directory: str) -> None:
    """Thaw it and lift its limit: whoever was killed in it can end."""
    for name, value in (("freezer.state", "THAWED"), ("cgroup.freeze", "0"), ("cpu.cfs_quota_us", "-1")):
        if os.path.exists(f"{directory}/{name}"):
            write_value(f"{directory}/{name}", value)
    if os.path.exists(f"{directory}/cpu.max"):
        write_value(f"{directory}/cpu.max", "max")

"""A whole cgroup killed by one write: only when everybody in it is under warrant. The processes are real."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from oomd.kernel.cgroup_dir import CgroupDirectory
from oomd.kill.cgroup_kill import MOST_LOOKS, kill_cgroup
from oomd.kill.warrant import Refused
from tests.reap.levers import control_group, find_mount

if TYPE_CHECKING:
    from collections.abc import Iterator


class Stage:
    """Children of ours, in a directory that looks like a cgroup, or in a real one."""

    def __init__(self, group: Path) -> None:
        self.group = group
        self.children: list[subprocess.Popen[bytes]] = []
        self.pidfds: dict[int, int] = {}

    def start(self, *, granted: bool = True) -> int:
        """One more; whether it is under warrant."""
        child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
        self.children.append(child)
        with open(self.group / "cgroup.procs", "a", encoding="ascii") as file:
            file.write(f"{child.pid}\n")
        if granted:
            self.grant(child.pid)
        return child.pid

    def grant(self, pid: int) -> int:
        """A pidfd of it."""
        self.pidfds[pid] = os.pidfd_open(pid)
        return self.pidfds[pid]

    def kill(self) -> bool:
        """Of everybody there."""
        with CgroupDirectory(str(self.group)) as cgroup:
            return kill_cgroup(cgroup, self.pidfds, self.grant)

    def close(self) -> None:
        """Leave nobody behind."""
        for child in self.children:
            child.kill()
            child.communicate()
        for pidfd in self.pidfds.values():
            os.close(pidfd)


def refuse(pid: int) -> int | None:
    """Nobody else may be touched."""
    raise Refused(f"{pid} is outside")


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    """A directory of plain files: what is written there kills nobody."""
    (tmp_path / "cgroup.procs").write_text("", "ascii")
    (tmp_path / "cgroup.kill").write_text("", "ascii")
    stage = Stage(tmp_path)
    yield stage
    stage.close()


def written(stage: Stage) -> str:
    """What cgroup.kill was told."""
    return (stage.group / "cgroup.kill").read_text("ascii")


@pytest.fixture
def real() -> Iterator[Stage]:
    """A cgroup of the kernel's."""
    mount = find_mount("freezer", 2)
    if mount is None or not os.access(f"{mount.point}/cgroup.procs", os.W_OK):
        pytest.skip("no cgroups of version 2 that we may make")
    with control_group(mount) as group, contextlib.ExitStack() as stack:
        stage = Stage(group)
        stack.callback(stage.close)
        yield stage


def test_everybody_is_under_warrant(stage: Stage) -> None:
    """Then it is one write."""
    stage.start()
    stage.start()
    assert stage.kill()
    assert written(stage) == "1"


def test_a_stranger_saves_all(stage: Stage) -> None:
    """One that may not be touched: the verdict goes to the caller, and nothing was written."""
    stage.start()
    stage.start(granted=False)
    with CgroupDirectory(str(stage.group)) as cgroup, pytest.raises(Refused, match="is outside"):
        kill_cgroup(cgroup, stage.pidfds, refuse)
    assert written(stage) == ""


def test_newcomers_are_granted_first(stage: Stage) -> None:
    """Who was not there when the others were granted is asked for; their descriptors come to the others'."""
    first = stage.start()
    late = stage.start(granted=False)
    assert stage.kill()
    assert set(stage.pidfds) == {first, late}


def test_a_number_that_means_another_now(stage: Stage) -> None:
    """The pidfd of a dead process proves nothing of whoever has its pid."""
    pid = stage.start()
    dead = subprocess.Popen([sys.executable, "-c", ""])
    pidfd = os.pidfd_open(dead.pid)
    dead.wait()
    with CgroupDirectory(str(stage.group)) as cgroup, pytest.raises(Refused):
        kill_cgroup(cgroup, {pid: pidfd}, refuse)
    os.close(pidfd)
    assert written(stage) == ""


def test_never_the_same_people(stage: Stage) -> None:
    """Where somebody new is found at every look, signals must do it: nothing is written, and it ends."""
    looks = []

    def grant(pid: int) -> int | None:
        looks.append(pid)
        with open(stage.group / "cgroup.procs", "a", encoding="ascii") as file:
            file.write(f"{pid + 1}\n")
        return None

    stage.start()
    with open(stage.group / "cgroup.procs", "a", encoding="ascii") as file:
        file.write("1000001\n")
    with CgroupDirectory(str(stage.group)) as cgroup:
        assert not kill_cgroup(cgroup, stage.pidfds, grant)
    assert max(looks) == 1000000 + MOST_LOOKS
    assert written(stage) == ""


def test_what_cannot_be_done_so(stage: Stage) -> None:
    """An empty cgroup, one that was removed, a kernel before 5.14, pids of another namespace: no, and no error."""
    assert not stage.kill()
    stage.start()
    (stage.group / "cgroup.kill").unlink()
    assert not stage.kill()
    (stage.group / "cgroup.kill").write_text("", "ascii")
    (stage.group / "cgroup.procs").write_text("0\n", "ascii")
    with CgroupDirectory(str(stage.group)) as cgroup:
        assert not kill_cgroup(cgroup, {}, lambda _: None)
        (stage.group / "cgroup.procs").unlink()
        assert not kill_cgroup(cgroup, {}, lambda _: None)
    assert written(stage) == ""


@pytest.mark.integration
def test_real_cgroup(real: Stage) -> None:
    """All die by the kernel's hand, and those below with them."""
    below = real.group / "below"
    below.mkdir()
    pids = [real.start() for _ in range(3)]
    (below / "cgroup.procs").write_text(str(pids[0]), "ascii")
    assert real.kill()
    assert [child.wait(90) for child in real.children] == [-signal.SIGKILL] * 3
    real.close()
    real.children, real.pidfds = [], {}
    below.rmdir()

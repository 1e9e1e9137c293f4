"""What is counted on units' directories, on trees of plain files; the signals of the last test are real."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from oomd.kernel.scope import ScopeGuard
from oomd.kill.tally import KILLS, MOST_MEMBERS, OOMS, Tally, count_up
from oomd.model.decision import KILL
from oomd.model.scope import parse_scope
from oomd.model.units import SECOND_US
from tests.descriptors import open_descriptors
from tests.fakes.builders import process
from tests.fakes.proc_tree import ProcTree
from tests.kill.test_executor import Stage, begin, decision

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from oomd.kill.tally import Counted
    from oomd.model.snapshot import Process

WEB = "/system.slice/web.service"
MANAGER = "/user.slice/user-1000.slice/user@1000.service"
APP = f"{MANAGER}/app.slice/app-a.scope"


@pytest.fixture(autouse=True)
def attributes(tmp_path: Path) -> None:
    """Where the file system keeps no attributes of users there is nothing to be counted."""
    os.setxattr(tmp_path, "user.oomd_probe", b"1")


class Place:
    """A tree of cgroups, a fake /proc, and a tally over both."""

    def __init__(self, folder: Path, scope: str = "machine") -> None:
        self.root = folder / "cgroup"
        self.proc = ProcTree(folder / "proc")
        self.proc.add_process(1, comm="systemd", cgroup="/init.scope")
        self.proc_fd = os.open(self.proc.root, os.O_RDONLY | os.O_DIRECTORY)
        self.tally = Tally(str(self.root), ScopeGuard(parse_scope(scope), self.proc_fd), self.proc_fd)

    def add(self, pid: int, cgroup: str, *, ppid: int = 1, uid: int = 0) -> Process:
        """A process in a cgroup, which is made where it is not there."""
        directory = self.root / cgroup.lstrip("/")
        directory.mkdir(parents=True, exist_ok=True)
        with open(directory / "cgroup.procs", "a", encoding="ascii") as file:
            file.write(f"{pid}\n")
        self.proc.add_process(pid, ppid=ppid, cgroup=cgroup, uid=uid)
        return process(pid, ppid=ppid, cgroup=cgroup, uid=uid)

    def kill(self, *victims: Process) -> None:
        """As the executor does around the signal."""
        self.tally.count_kills(self.tally.count_ooms(victims))

    def counts(self, cgroup: str) -> tuple[int, int]:
        """Both counters."""
        path = self.root / cgroup.lstrip("/")
        names = os.listxattr(path)
        ooms, kills = (int(os.getxattr(path, name)) if name in names else 0 for name in (OOMS, KILLS))
        return ooms, kills


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    """On a machine without a scope."""
    place = Place(tmp_path)
    yield place
    place.tally.close()
    os.close(place.proc_fd)


def test_counters_rise(tmp_path: Path) -> None:
    """1 and 2, then 2 and 4, as systemd-oomd's own test has it; what is no number counts as none."""
    fd = os.open(tmp_path, os.O_RDONLY)
    try:
        for expected in ((b"1", b"2"), (b"2", b"4")):
            count_up(fd, OOMS, 1)
            count_up(fd, KILLS, 2)
            assert (os.getxattr(fd, OOMS), os.getxattr(fd, KILLS)) == expected
        os.setxattr(fd, OOMS, b"many")
        count_up(fd, OOMS, 1)
        assert os.getxattr(fd, OOMS) == b"1"
    finally:
        os.close(fd)


def test_main_process(place: Place) -> None:
    """A process whose parent is PID 1 is noticed at once: its unit ran out of memory, whoever else is in it."""
    main = place.add(10, WEB)
    place.add(11, WEB, ppid=10)
    place.kill(main)
    place.kill(main)
    assert place.counts(WEB) == (2, 2)


def test_worker(place: Place) -> None:
    """A worker among others: nobody would notice before the unit's next clean stop, so nothing is counted."""
    place.add(10, WEB)
    place.kill(place.add(11, WEB, ppid=10))
    assert place.counts(WEB) == (0, 0)


def test_whole_unit(place: Place) -> None:
    """All of a scope that somebody outside forked, those below as well: out of memory once, and all of them killed."""
    scope = "/work.slice/run-u5.scope"
    victims = [place.add(20, scope, ppid=5), place.add(21, f"{scope}/inner", ppid=20)]
    place.kill(victims[0])
    assert place.counts(scope) == (0, 0)
    place.kill(*victims)
    assert place.counts(scope) == (1, 2)
    assert place.counts(f"{scope}/inner") == (0, 0)


def test_units_apart(place: Place) -> None:
    """Several units that go as one each count their own; a slice, a container of a runtime without systemd and the
    root have no result to set.
    """
    other = "/system.slice/other.service"
    victims = [place.add(10, WEB), place.add(11, WEB, ppid=10), place.add(12, other)]
    victims += [place.add(13, "/system.slice"), place.add(14, "/docker/abc"), replace(victims[0], cgroup="")]
    place.kill(*victims)
    assert (place.counts(WEB), place.counts(other)) == ((1, 2), (1, 1))
    assert place.counts("/system.slice") == place.counts("/docker/abc") == (0, 0)


def test_users_manager(place: Place) -> None:
    """Below a user's manager it is that one who is told, of his own children; a process that merely lives in
    somebody's init.scope is no manager.
    """
    place.add(30, f"{MANAGER}/init.scope")
    place.add(32, APP, ppid=30)
    place.kill(place.add(31, APP, ppid=30))
    assert place.counts(APP) == (1, 1)
    stranger = MANAGER.replace("1000", "1001")
    place.add(40, f"{stranger}/init.scope")
    place.kill(place.add(33, APP, ppid=40))
    assert place.counts(APP) == (1, 1)


@pytest.mark.parametrize(("stranger", "marked"), [(1000, "unit"), (0, "own")])
def test_scope(tmp_path: Path, stranger: int, marked: str) -> None:
    """Where a scope holds, a unit is marked only if all in it are in scope; else the victim's own cgroup alone."""
    place = Place(tmp_path, "uid:1000")
    leaf = f"{WEB}/leaf"
    place.add(12, WEB, ppid=10, uid=stranger)
    place.kill(place.add(11, leaf, uid=1000))
    assert place.counts(WEB) == ((1, 1) if marked == "unit" else (0, 0))
    assert place.counts(leaf) == ((0, 0) if marked == "unit" else (1, 1))
    os.close(place.proc_fd)


def test_crowd(place: Place) -> None:
    """A unit of very many, none of them its manager's child, is not counted through on the way to a kill."""
    scope = "/work.slice/crowd.scope"
    place.kill(*[place.add(100 + number, scope, ppid=5) for number in range(MOST_MEMBERS + 1)])
    assert place.counts(scope) == (0, 0)


def test_kept_ahead(place: Place) -> None:
    """The directory of a leader's unit is open before; one that was made anew meanwhile is found again."""
    main = place.add(10, WEB)
    place.tally.keep([WEB, "/docker/abc", "/system.slice/gone.service"], 0)
    (place.root / "system.slice").rename(place.root / "elsewhere")
    place.kill(main)
    assert place.counts("/elsewhere/web.service") == (1, 1)
    (place.root / WEB.lstrip("/")).mkdir(parents=True)
    place.tally.keep([WEB], SECOND_US)  # too soon
    place.kill(main)
    assert place.counts("/elsewhere/web.service") == (2, 2)
    place.tally.keep([WEB], 2 * SECOND_US)
    place.kill(main)
    assert place.counts(WEB) == (1, 1)


def test_nothing_there(place: Place) -> None:
    """A cgroup that is gone costs no kill."""
    place.kill(process(10, ppid=1, cgroup="/system.slice/gone.service"))
    assert not (place.root / "system.slice").exists()


class Watching(Tally):
    """Notes whether the victim lives, and what its directory bears, once the first counter was raised."""

    watched: tuple[subprocess.Popen[bytes], Path]

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.seen: list[tuple[bool, list[str]]] = []

    def count_ooms(self, processes: Iterable[Process]) -> Counted:
        """As the executor calls it."""
        child, directory = self.watched
        alive = child.poll() is None
        counted = super().count_ooms(processes)
        self.seen.append((alive, sorted(os.listxattr(directory))))
        return counted


def test_around_the_signal(tmp_path: Path) -> None:
    """The executor counts under warrant: before the signal the one, after it the other, and every descriptor is let
    go of.
    """
    stage = Stage()
    try:
        victim = stage.start("hold", "victim", "8")
        victim = replace(victim, process=replace(victim.process, cgroup=WEB, ppid=1))
        directory = tmp_path / WEB.lstrip("/")
        directory.mkdir(parents=True)
        guard = ScopeGuard(parse_scope("machine"), stage.proc_fd)
        tally = stage.executor.tally = Watching(str(tmp_path), guard, stage.proc_fd)
        tally.watched = (stage.children[0], directory)
        state = begin(stage, decision(victim, KILL))
        assert str(directory) not in open_descriptors().values()
        assert tally.seen == [(True, [OOMS])]
        assert os.getxattr(directory, KILLS) == b"1"
        assert len(state.credits) == 1
        assert stage.children[0].wait(timeout=120) == -9
    finally:
        stage.close()

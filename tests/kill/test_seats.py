"""What the user is looking at: sessions as logind writes them down, terminals as /proc tells them."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from oomd.kill.seats import Onlooker, active_users, shown_terminal
from tests.fakes.proc_tree import ProcTree

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SESSION = """# This is private data. Do not parse.
UID=%d
USER=somebody
ACTIVE=%d
IS_DISPLAY=1
STATE=active
REMOTE=0
TYPE=%s
CLASS=user
SCOPE=session-%s.scope
%s"""
APP = "/user.slice/user-1000.slice/user@1000.service/app.slice/app-a.scope"
BACKGROUND = "/user.slice/user-1000.slice/user@1000.service/background.slice/indexer.service"
TTY2 = 4 << 8 | 2
PTS3 = 136 << 8 | 3


class Machine:
    """Sessions, a shown terminal, processes."""

    def __init__(self, folder: Path) -> None:
        self.sessions = folder / "sessions"
        self.terminal = folder / "active"
        self.proc = ProcTree(folder / "proc")
        self.proc_fd = os.open(self.proc.root, os.O_RDONLY | os.O_DIRECTORY)

    def session(self, name: str, uid: int, kind: str, *, active: bool = True, seat: str = "seat0") -> None:
        """One that somebody has opened."""
        self.sessions.mkdir(exist_ok=True)
        text = SESSION % (uid, active, kind, name, f"SEAT={seat}\n" if seat else "")
        (self.sessions / name).write_text(text, "ascii")

    def why(self, path: str, *pids: int) -> str:
        """Whether a cgroup with these is looked at."""
        return Onlooker(self.proc_fd, str(self.sessions), str(self.terminal)).why_looked_at(path, pids)


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    """Nobody is there."""
    machine = Machine(tmp_path)
    yield machine
    os.close(machine.proc_fd)


def test_users_in_front_of_it(machine: Machine) -> None:
    """Active on a seat, or graphical and active wherever it is shown; not who is logged in over ssh, or was switched
    away from.
    """
    assert active_users(str(machine.sessions)) is None
    machine.session("1", 1000, "wayland")
    machine.session("2", 1001, "tty", seat="")
    machine.session("3", 1002, "x11", active=False)
    machine.session("4", 1003, "x11", seat="")
    machine.session("5", 1004, "tty")
    os.mkfifo(machine.sessions / "5.ref")
    (machine.sessions / "6").write_bytes(b"UID=x\nACTIVE=1\nSEAT=seat0\n\xff\n")
    assert active_users(str(machine.sessions)) == frozenset({1000, 1003, 1004})


def test_apps_of_that_user(machine: Machine) -> None:
    """All of them, but for what the desktop itself runs in the background; nobody else's."""
    machine.session("1", 1000, "wayland")
    machine.proc.add_process(10, comm="firefox", uid=1000)
    machine.proc.add_process(11, comm="importer", uid=1001)
    machine.proc.add_process(12, comm="daemon", uid=0)
    assert machine.why(APP, 11, 10) == "holds firefox (10) of user 1000, who sits in front of the machine"
    assert machine.why(BACKGROUND, 10) == ""
    assert machine.why("/system.slice/a.service", 11, 12) == ""
    assert machine.why(APP, 99) == ""


def test_foreground_of_a_terminal(machine: Machine) -> None:
    """Whatever terminal it is; a job in the background of one may be frozen, and so may what has none."""
    machine.proc.add_process(10, comm="vim", pgrp=10, tty=PTS3, tpgid=10)
    machine.proc.add_process(11, comm="make", pgrp=11, tty=PTS3, tpgid=10)
    machine.proc.add_process(12, comm="daemon", pgrp=12, tty=0, tpgid=-1)
    assert machine.why("/a", 11, 12, 10) == "holds vim (10), which is in the foreground of a terminal"
    assert machine.why("/a", 11, 12) == ""
    assert machine.why(BACKGROUND, 10) != ""


def test_without_logind(machine: Machine) -> None:
    """The user of the virtual terminal that is shown, told from who runs on it."""
    machine.proc.add_process(10, comm="bash", uid=1000, pgrp=10, tty=TTY2, tpgid=20)
    machine.proc.add_process(11, comm="app", uid=1000)
    machine.proc.add_process(12, comm="other", uid=1001)
    assert machine.why(APP, 11) == ""
    machine.terminal.write_text("tty2\n", "ascii")
    assert shown_terminal(str(machine.terminal)) == TTY2
    assert "of user 1000" in machine.why(APP, 12, 11)
    assert machine.why(APP, 12) == ""
    for text in ("", "tty", "ttyS0", "tty0", "tty99", "console"):
        machine.terminal.write_text(text, "ascii")
        assert shown_terminal(str(machine.terminal)) == 0


def test_this_machine() -> None:
    """Whatever is there can be read."""
    proc_fd = os.open("/proc", os.O_RDONLY | os.O_DIRECTORY)
    try:
        assert isinstance(Onlooker(proc_fd).why_looked_at("/", [os.getpid(), 1]), str)
    finally:
        os.close(proc_fd)

"""The terminals of the victim's owner: whose, how, and that none is waited for."""

from __future__ import annotations

import os
import pty
import termios
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from oomd.outside.notices import Notice
from oomd.outside.wall import Wall, message_of, terminals_of, write_to
from tests.outside.events import DECISION
from tests.waiting import is_ready

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

OTHER = 12345
"""A uid of nobody here."""


@contextmanager
def terminal(mode: int = 0o620) -> Iterator[tuple[int, str]]:
    """A real pseudo-terminal of ours: our end, and the path of the other."""
    ours, theirs = pty.openpty()
    path = os.ttyname(theirs)
    os.chmod(path, mode)
    try:
        yield ours, path
    finally:
        os.close(ours)
        os.close(theirs)


def read(fd: int) -> bytes:
    """What was written to a terminal."""
    return os.read(fd, 4096) if is_ready(fd, 0) else b""


def decision(uid: int) -> dict[str, object]:
    """A decision whose victim is this user's."""
    chosen = DECISION["decision"]
    return {**DECISION, "decision": {**chosen, "target": {**chosen["target"], "uid": uid}}}


def test_owner_is_told_and_nobody_else() -> None:
    """The words arrive on a terminal that is the owner's; a victim of somebody else says nothing there."""
    with terminal() as (ours, _):
        wall = Wall()
        wall(decision(OTHER))
        assert read(ours) == b""
        wall(decision(os.getuid()))
        said = read(ours)
    assert b"leaker (7) was ended; it gives back 500 MiB." in said
    assert b"Out of memory" in said
    assert said.endswith(b"\r\n")


def test_who_refuses_messages_gets_none() -> None:
    """mesg n takes the group's right to write."""
    with terminal(0o600) as (ours, path):
        assert path not in terminals_of(os.getuid())
        Wall()(decision(os.getuid()))
        assert read(ours) == b""
        with pytest.raises(PermissionError):
            write_to(path, os.getuid(), b"x")


def test_terminal_that_changed_hands_is_left_alone() -> None:
    """Between the look and the opening it may have become somebody else's."""
    with terminal() as (ours, path):
        with pytest.raises(PermissionError):
            write_to(path, OTHER, b"x")
        assert read(ours) == b""


def test_terminal_that_hangs_is_not_waited_for() -> None:
    """Somebody has typed Ctrl-S: the write is given up at once."""
    with terminal() as (ours, path):
        theirs = os.open(path, os.O_RDWR | os.O_NOCTTY)
        termios.tcflow(theirs, termios.TCOOFF)
        with pytest.raises(BlockingIOError):
            write_to(path, os.getuid(), b"x")
        Wall()(decision(os.getuid()))
        termios.tcflow(theirs, termios.TCOON)
        os.close(theirs)
        assert read(ours) == b""


def test_what_is_no_terminal_is_never_written(tmp_path: Path) -> None:
    """A file, a link or a pipe where a terminal should be."""
    (tmp_path / "pts").mkdir()
    file, link = tmp_path / "pts" / "1", tmp_path / "pts" / "2"
    file.write_text("mine")
    file.chmod(0o620)
    with terminal() as (ours, path):
        link.symlink_to(path)
        os.mkfifo(tmp_path / "tty7", 0o620)
        assert list(terminals_of(os.getuid(), str(tmp_path))) == []
        for victim in (str(file), str(link), str(tmp_path / "tty7")):
            with pytest.raises(OSError, match=r".*"):
                write_to(victim, os.getuid(), b"x")
        assert read(ours) == b""
    assert file.read_text() == "mine"


def test_consoles_are_told_but_not_roots(tmp_path: Path) -> None:
    """A console where nobody is logged in belongs to root."""
    names = ["tty1", "tty63", "ttyS0", "tty", "ttyprintk", "pts"]
    for name in names:
        if os.geteuid() == 0 and name != "pts":
            os.mknod(tmp_path / name, 0o020620, os.makedev(1, 3))
            os.chmod(tmp_path / name, 0o620)
            os.chown(tmp_path / name, OTHER, 0)
    if os.geteuid() != 0:
        pytest.skip("needs root to make devices")
    assert list(terminals_of(OTHER, str(tmp_path))) == [f"{tmp_path}/tty1", f"{tmp_path}/tty63"]
    for name in ("tty1", "tty63"):
        os.chown(tmp_path / name, 0, 0)
    assert list(terminals_of(0, str(tmp_path))) == []


def test_message_is_ascii() -> None:
    """A terminal that knows no UTF-8 would take bytes of it for commands."""
    data = message_of(Notice(1, "t", "Û€ was ended", urgent=True))
    assert data.isascii()
    assert b"\\xdb\\u20ac was ended" in data


def test_no_terminals_at_all(tmp_path: Path) -> None:
    """A container without /dev/pts."""
    assert list(terminals_of(0, str(tmp_path / "absent"))) == []

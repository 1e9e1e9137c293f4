"""The socket's place: its rights from the first moment on, what stood there before, and its end."""

from __future__ import annotations

import os
import socket
import stat
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from oomd.kernel.acl import grant_group, granted_groups
from oomd.outside.doorway import NAME, Doorway, address_of

if TYPE_CHECKING:
    from pathlib import Path

ROOT = os.geteuid() == 0


def mode_of(path: str) -> int:
    """The permissions of a file."""
    return stat.S_IMODE(os.lstat(path).st_mode)


def connect(path: str) -> None:
    """Whoever listens there takes it."""
    with socket.socket(socket.AF_UNIX) as client, address_of(path) as address:
        client.settimeout(10)
        client.connect(address)


def test_made_removed(tmp_path: Path) -> None:
    """For its owner only, whatever the umask; nothing is left of the name that it had before, nor at the end."""
    before = os.umask(0)
    doorway = Doorway(str(tmp_path))
    try:
        with closing(doorway.open()):
            assert mode_of(doorway.path) == 0o600
            assert os.listdir(tmp_path) == [NAME]
            assert doorway.is_there()
            connect(doorway.path)
    finally:
        os.umask(before)
    doorway.remove()
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("kind", ["socket", "file", "link", "half"])
def test_what_stood_there_before(tmp_path: Path, kind: str) -> None:
    """A socket that a daemon left, a file, a link to somebody's file, one that was half made: replaced at once, and
    what a link points to stays as it was.
    """
    theirs = tmp_path / "theirs"
    theirs.write_text("precious")
    place = tmp_path / "run" / (f".{NAME}.new" if kind == "half" else NAME)
    place.parent.mkdir()
    if kind in ("socket", "half"):
        with socket.socket(socket.AF_UNIX) as stale, address_of(str(place)) as address:
            stale.bind(address)
    elif kind == "file":
        place.write_text("x")
    else:
        place.symlink_to(theirs)
    doorway = Doorway(str(place.parent))
    with closing(doorway.open()):
        connect(doorway.path)
    doorway.remove()
    assert theirs.read_text() == "precious"
    assert mode_of(str(theirs)) != 0o600
    assert os.listdir(place.parent) == []


def test_somebody_elses_is_not_removed(tmp_path: Path) -> None:
    """The next daemon has taken the place already."""
    first, second = Doorway(str(tmp_path)), Doorway(str(tmp_path))
    with closing(first.open()), closing(second.open()):
        assert not first.is_there()
        first.remove()
        assert second.is_there()
        connect(second.path)


def test_a_long_path(tmp_path: Path) -> None:
    """Longer than an address has room for."""
    deep = tmp_path / ("d" * 100) / ("e" * 100)
    deep.mkdir(parents=True)
    doorway = Doorway(str(deep))
    with closing(doorway.open()):
        connect(doorway.path)


def test_where_others_may_write_there_is_none(tmp_path: Path) -> None:
    """They could put their own in its place; in a sticky directory they cannot."""
    tmp_path.chmod(0o777)
    with pytest.raises(PermissionError, match="others may write to that directory"):
        Doorway(str(tmp_path)).open()
    tmp_path.chmod(0o1777)
    with closing(Doorway(str(tmp_path)).open()):
        assert os.listdir(tmp_path) == [NAME]
    tmp_path.chmod(0o700)


@pytest.mark.skipif(not ROOT, reason="gives a file to a group")
def test_a_group(tmp_path: Path) -> None:
    """Its members may connect too."""
    doorway = Doorway(str(tmp_path), 12345)
    with closing(doorway.open()):
        found = os.lstat(doorway.path)
        assert (found.st_gid, stat.S_IMODE(found.st_mode)) == (12345, 0o660)
        assert granted_groups(doorway.path) == ()


def test_a_group_without_the_right_to_give_files_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As under the unit: an access list does it; where there are none, that is told, and only the owner may connect."""

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "chown", refuse)
    probe = tmp_path / "probe"
    probe.touch()
    try:
        grant_group(str(probe), 4711)
    except OSError:
        pytest.skip("this file system has no access lists")
    told: list[str] = []
    doorway = Doorway(str(tmp_path), 4711, told.append)
    with closing(doorway.open()):
        assert granted_groups(doorway.path) == (4711,)
        assert mode_of(doorway.path) & 0o007 == 0
        connect(doorway.path)
    assert told == []
    monkeypatch.setattr(os, "setxattr", lambda *_, **__: refuse())
    with closing(doorway.open()):
        assert mode_of(doorway.path) == 0o600
    assert told == [f"control.group: {doorway.path} can be given neither group nor list: Operation not permitted"]

"""Where the listening socket comes from."""

from __future__ import annotations

import os
import socket
import stat
from typing import TYPE_CHECKING

import pytest

from oomd.lmkd.listening import ANDROID, ListenError, inherited_listener, open_listener

if TYPE_CHECKING:
    from pathlib import Path


def test_made_at_a_path(tmp_path: Path) -> None:
    """Owner and group may connect, nobody else."""
    path = tmp_path / "lmkd"
    fd = open_listener(str(path))
    assert stat.S_IMODE(path.stat().st_mode) == 0o660
    os.close(fd)


def test_left_over_is_replaced_and_a_living_one_is_not(tmp_path: Path) -> None:
    """What an ended daemon left is removed; where somebody listens, or something else stands, nothing is touched."""
    path = str(tmp_path / "lmkd")
    os.close(open_listener(path))
    with socket.socket(fileno=open_listener(path)) as listener:
        listener.listen(1)
        with pytest.raises(ListenError, match="somebody listens there already"):
            open_listener(path)
    other = tmp_path / "file"
    other.write_text("mine", encoding="ascii")
    with pytest.raises(ListenError, match="is there already, and is no socket"):
        open_listener(str(other))
    assert other.read_text(encoding="ascii") == "mine"
    with pytest.raises(ListenError, match="No such file or directory"):
        open_listener(str(tmp_path / "missing" / "lmkd"))


def test_inherited(tmp_path: Path) -> None:
    """Android's init names the descriptor; systemd passes number 3 to the process that it names."""
    assert inherited_listener({}, 1) is None
    assert inherited_listener({"LISTEN_PID": "2", "LISTEN_FDS": "1"}, 1) is None
    fd = open_listener(str(tmp_path / "lmkd"))
    os.set_inheritable(fd, True)
    assert inherited_listener({ANDROID: str(fd)}, 1) == fd
    assert not os.get_inheritable(fd)
    os.close(fd)


@pytest.mark.parametrize(
    ("environment", "text"),
    [
        ({ANDROID: "x"}, "ANDROID_SOCKET_lmkd: 'x' is no descriptor"),
        ({ANDROID: "999999"}, "ANDROID_SOCKET_lmkd: descriptor 999999 is no socket"),
        ({"LISTEN_PID": "1", "LISTEN_FDS": "2"}, "LISTEN_FDS: 2 sockets were passed; lmkd has one"),
    ],
)
def test_inherited_nonsense(environment: dict[str, str], text: str) -> None:
    """What cannot be a listening socket is named."""
    with pytest.raises(ListenError) as error:
        inherited_listener(environment, 1)
    assert str(error.value).startswith(text)


def test_inherited_stream_socket() -> None:
    """A stream has no packets: refused."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as stream, pytest.raises(ListenError, match="SEQPACKET"):
        inherited_listener({ANDROID: str(stream.fileno())}, 1)


@pytest.mark.parametrize("path", ["", "\0lmkd"])
def test_no_path_of_the_file_system(path: str) -> None:
    """The kernel would bind to a name that no client knows, or that no mode guards."""
    with pytest.raises(ListenError, match="is no path"):
        open_listener(path)

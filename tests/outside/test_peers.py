"""Who is there, by the kernel's word, and what he may do."""

from __future__ import annotations

import os
import pwd
import socket
import struct
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from oomd.outside.peers import Peer, Rights, group_id, group_name, peer_of, user_name

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = os.geteuid() == 0


def test_myself() -> None:
    """Pid, user and all groups."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        peer = peer_of(ours)
    assert (peer.pid, peer.uid) == (os.getpid(), os.geteuid())
    assert {os.getegid(), *os.getgroups()} <= peer.groups
    assert peer.words == f"uid {os.geteuid()} ({pwd.getpwuid(os.geteuid()).pw_name})"


@pytest.mark.skipif(not ROOT, reason="becomes somebody else")
def test_somebody_with_groups_of_his_own() -> None:
    """Supplementary groups that no database knows: they were those of the process when it connected."""
    address = f"\0oomd-test-{os.getpid()}"
    code = "import os, socket, sys; os.setgroups([4321, 4322]); os.setgid(4320); os.setuid(54321)\n"
    code += f"client = socket.socket(socket.AF_UNIX); client.connect({address!r}); client.recv(1)"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(address)
        listener.listen()
        listener.settimeout(90)
        with subprocess.Popen([sys.executable, "-c", code]) as child:
            stream, _ = listener.accept()
            with stream:
                peer = peer_of(stream)
    assert peer == Peer(child.pid, 54321, frozenset({4320, 4321, 4322}))
    assert peer.words == "uid 54321"


def test_more_groups_than_python_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Then the user database has the word."""

    class Stream:
        def getsockopt(self, _: int, name: int, __: int) -> bytes:
            if name == socket.SO_PEERCRED:
                return struct.pack("3i", 7, os.geteuid(), 99)
            raise OSError(34, "Numerical result out of range")

    monkeypatch.setattr(os, "getgrouplist", lambda name, gid: [gid, 77])
    assert peer_of(Stream()).groups == {99, 77}  # type: ignore[arg-type] # plays a socket


READ: Callable[[Rights, Peer], bool] = Rights.may_read
CHANGE: Callable[[Rights, Peer], bool] = Rights.may_change


@pytest.mark.parametrize(
    ("rights", "uid", "groups", "reads", "changes"),
    [
        (Rights(0), 0, {0}, True, True),
        (Rights(0), 1000, {0}, False, False),
        (Rights(0, "adm", 4), 1000, {1000, 4}, True, False),
        (Rights(0, "adm", 4), 1000, {1000, 5}, False, False),
        (Rights(0, "nobody-has", None), 1000, {1000, 4}, False, False),
        (Rights(1000), 1000, {1000}, True, True),
        (Rights(1000), 0, {0}, True, True),
        (Rights(1000), 1001, {1000}, False, False),
    ],
)
def test_rights(rights: Rights, uid: int, groups: set[int], reads: bool, changes: bool) -> None:
    """Root and the daemon's own user change things, a group reads, nobody else does anything."""
    peer = Peer(1, uid, frozenset(groups))
    assert (READ(rights, peer), CHANGE(rights, peer)) == (reads, changes)


def test_words() -> None:
    """Who may, for people."""
    assert Rights(0).readers == "root"
    assert Rights(0, "adm", 4).readers == "root and members of the group adm"
    assert Rights(0, "missing", None).readers == "root"
    assert Rights(7).changers == "root and uid 7"


def test_names() -> None:
    """Of users and groups; numbers stand for themselves."""
    assert (group_id("root"), group_id("77"), group_id("no-such-group-here")) == (0, 77, None)
    assert (group_name(0), group_name(3_999_999_999)) == ("root", "3999999999")
    assert user_name(3_999_999_999) == ""

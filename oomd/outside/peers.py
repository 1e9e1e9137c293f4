"""Who is at the other end of a UNIX socket, by the kernel's word, and what he may do."""

from __future__ import annotations

import contextlib
import functools
import grp
import os
import pwd
import socket
import struct

from oomd.model.values import dataclass

_CREDENTIALS = struct.Struct("3i")
"""struct ucred: pid, uid, gid; unix(7)."""
SO_PEERGROUPS = 59
"""Linux 4.13: the peer's supplementary groups when it connected."""
_MOST_GROUPS_BYTES = 1024
"""As much as Python's getsockopt gives: 256 groups."""


@dataclass(frozen=True, slots=True)
class Peer:
    """Somebody who connected."""

    pid: int
    uid: int
    groups: frozenset[int]

    @property
    def words(self) -> str:
        """``uid 1000 (alice)``."""
        name = user_name(self.uid)
        return f"uid {self.uid} ({name})" if name else f"uid {self.uid}"


@dataclass(frozen=True, slots=True)
class Rights:
    """Who may read, who may change something."""

    own_uid: int
    group: str = ""
    """May read; empty: nobody else."""
    gid: int | None = None

    def may_read(self, peer: Peer) -> bool:
        """Ask how things stand."""
        return self.may_change(peer) or (self.gid is not None and self.gid in peer.groups)

    def may_change(self, peer: Peer) -> bool:
        """Pause, reload, kill."""
        return peer.uid in (0, self.own_uid)

    @property
    def readers(self) -> str:
        """Who may read, in words."""
        group = f" and members of the group {self.group}" if self.gid is not None else ""
        return f"{self.changers}{group}"

    @property
    def changers(self) -> str:
        """Who may change something, in words."""
        return "root" if self.own_uid == 0 else f"root and uid {self.own_uid}"


def peer_of(stream: socket.socket) -> Peer:
    """Raises OSError."""
    data = stream.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    pid, uid, gid = _CREDENTIALS.unpack(data)
    return Peer(pid, uid, frozenset({gid, *_groups_of(stream, uid, gid)}))


def _groups_of(stream: socket.socket, uid: int, gid: int) -> list[int]:
    try:
        data = stream.getsockopt(socket.SOL_SOCKET, SO_PEERGROUPS, _MOST_GROUPS_BYTES)
        return [group for (group,) in struct.iter_unpack("I", data)]
    except OSError:  # more than that, or a kernel without it: by the user database
        name = user_name(uid)
        with contextlib.suppress(OSError, KeyError):
            return os.getgrouplist(name, gid) if name else []
        return []


@functools.lru_cache(maxsize=64)
def user_name(uid: int) -> str:
    """Empty where there is none."""
    with contextlib.suppress(KeyError, OverflowError):
        return pwd.getpwuid(uid).pw_name
    return ""


def group_id(name: str) -> int | None:
    """The group's number; None where there is no such group."""
    if name.isascii() and name.isdigit():
        return int(name)
    with contextlib.suppress(KeyError):
        return grp.getgrnam(name).gr_gid
    return None


def group_name(gid: int) -> str:
    """The group's name, or its number as text."""
    with contextlib.suppress(KeyError, OverflowError):
        return grp.getgrgid(gid).gr_name
    return str(gid)

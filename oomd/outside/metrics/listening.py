"""Listening sockets: TCP over IPv4 and IPv6, or a path."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from oomd.config.addresses import Address

BACKLOG = 32
"""Connections that the kernel keeps until they are accepted."""
SOCKET_MODE = 0o666
"""Of a socket in the file system: as on the loopback address, who is on this machine may read. The folder may say
otherwise.
"""


def open_listener(address: Address) -> socket.socket:
    """A socket that takes connections there, non-blocking. Raises OSError; a host name may take its time."""
    if address.path:
        return _open_path(address.path)
    if not address.host:
        return _open_everywhere(address.port)
    found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    found.sort(key=lambda each: each[0] != socket.AF_INET)  # localhost: where everybody looks first
    family, *_, place = found[0]
    return _open(family, place, v6_only=True)


def inherited_listener(fd: int) -> socket.socket:
    """A socket that systemd listens on; it goes on to when we have ended, and whoever connects then waits for the
    next of us.
    """
    listener = socket.socket(fileno=fd)
    listener.setblocking(False)
    return listener


def remove_path(address: Address) -> None:
    """Leave no socket behind in the file system."""
    if address.path:
        with contextlib.suppress(OSError):
            os.unlink(address.path)


def _open_everywhere(port: int) -> socket.socket:
    """Both families by one socket, or IPv4 where this machine has no other."""
    try:
        return _open(socket.AF_INET6, ("::", port), v6_only=False)
    except OSError as error:
        if error.errno not in (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL):
            raise
    return _open(socket.AF_INET, ("0.0.0.0", port), v6_only=False)  # noqa: S104 - asked for


def _open(family: int, place: tuple[object, ...], *, v6_only: bool) -> socket.socket:
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        # Connections of the process before us that linger must not keep us from its port.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, v6_only)
        listener.bind(place)
        return _listen(listener)
    except BaseException:
        listener.close()
        raise


def _open_path(path: str) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        _remove_stale(path)
        listener.bind(path)
        os.chmod(path, SOCKET_MODE)
        return _listen(listener)
    except BaseException:
        listener.close()
        raise


def _listen(listener: socket.socket) -> socket.socket:
    listener.listen(BACKLOG)
    listener.setblocking(False)
    return listener


def _remove_stale(path: str) -> None:
    """What a process that was killed has left there. Raises OSError when somebody listens there, or it is no socket."""
    try:
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            raise FileExistsError(errno.EEXIST, "is there already, and is no socket")
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as probe:
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
            return
    raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))

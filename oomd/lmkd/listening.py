"""The listening socket, opened before the killer's image is loaded: handed to us by init or systemd, or made at a path.

Only commands import this.
"""

from __future__ import annotations

import errno
import os
import socket
import stat

ANDROID = "ANDROID_SOCKET_lmkd"
FIRST_PASSED = 3
"""SD_LISTEN_FDS_START; sd_listen_fds(3)."""
MODE_MASK = 0o117
"""Leaves 0660: whoever may connect may register."""


class ListenError(Exception):
    """There is no socket to listen on; the message says why."""


def open_listener(path: str) -> int:
    """A bound socket at this path, which takes connections once somebody calls listen. What a daemon that ended has
    left there is removed first. Raises ListenError.
    """
    if not path or "\0" in path:  # the kernel would choose a name of its own, or none of the file system
        raise ListenError(f"lmkd's socket: {path!r} is no path")
    listener = _new_socket()
    try:
        _remove_stale(path)
        before = os.umask(MODE_MASK)
        try:
            listener.bind(path)
        finally:
            os.umask(before)
    except OSError as error:
        listener.close()
        raise ListenError(f"{path}: {error.strerror or error}") from error
    except BaseException:
        listener.close()
        raise
    return listener.detach()


def inherited_listener(environment: dict[str, str], pid: int) -> int | None:
    """The descriptor that Android's init or systemd's socket activation left us; None when neither did. Raises
    ListenError for one that is no SOCK_SEQPACKET socket.
    """
    text, source = environment.get(ANDROID, ""), ANDROID
    if not text and environment.get("LISTEN_PID") == str(pid):
        count = environment.get("LISTEN_FDS", "")
        if count != "1":
            raise ListenError(f"LISTEN_FDS: {count or 'no'} sockets were passed; lmkd has one")
        text, source = str(FIRST_PASSED), "LISTEN_FDS"
    if not text:
        return None
    if not text.isascii() or not text.isdigit():
        raise ListenError(f"{source}: {text!r} is no descriptor")
    why = _why_unfit(int(text))
    if why:
        raise ListenError(f"{source}: descriptor {text} {why}")
    os.set_inheritable(int(text), False)
    return int(text)


def _new_socket() -> socket.socket:
    return socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)


def _remove_stale(path: str) -> None:
    """Raises ListenError when somebody listens there, or it is no socket."""
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(found.st_mode):
        raise ListenError(f"{path}: is there already, and is no socket")
    with _new_socket() as probe:
        try:
            probe.connect(path)
        except OSError as error:
            if error.errno != errno.ECONNREFUSED:
                raise
            os.unlink(path)
            return
    raise ListenError(f"{path}: somebody listens there already; two lmkds would each kill for the same shortage")


def _why_unfit(fd: int) -> str:
    try:
        with socket.socket(fileno=os.dup(fd)) as listener:
            kind = (listener.family, listener.type)
    except OSError as error:
        return f"is no socket ({error.strerror})"
    fits = kind == (socket.AF_UNIX, socket.SOCK_SEQPACKET)
    return "" if fits else "is no SOCK_SEQPACKET socket of the file system"

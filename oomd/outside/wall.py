"""A few words on the terminals of the victim's owner, and on nobody else's.

A terminal may hang (somebody has typed Ctrl-S), refuse (``mesg n``), or belong to somebody else by the time that it is
open; nothing of that is waited for. Root needs no capability where it is in the group tty, to which terminals are
writable as long as they accept messages.
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
import stat
import time
from typing import TYPE_CHECKING

from oomd.outside.notices import Allowance, notice_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from oomd.model.report import Plain
    from oomd.outside.notices import Notice

DEV = "/dev"
MOST_TERMINALS = 64
_CONSOLE = re.compile(r"tty[1-9][0-9]?")
"""A virtual console, and not ``ttyS0``: what is written to a serial line may be waited for at the end."""
_FLAGS = os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_NOFOLLOW | os.O_CLOEXEC


class Wall:
    """Writes to whoever is concerned."""

    def __init__(self, dev: str = DEV) -> None:
        self._dev = dev
        self._allowance = Allowance(time.monotonic)

    def __call__(self, event: Plain) -> None:
        """Tell what this event has to say to anybody, if it has."""
        notice = notice_of(event)
        if notice is None or not self._allowance.take(notice.uid):
            return
        data = message_of(notice)
        for path in terminals_of(notice.uid, self._dev):
            with contextlib.suppress(OSError):
                write_to(path, notice.uid, data)


def message_of(notice: Notice) -> bytes:
    """In ASCII: a terminal that is not set to UTF-8 would take parts of other letters for commands."""
    stamp = time.strftime("%H:%M:%S")
    text = f"\r\n\aoomd on {socket.gethostname()} at {stamp}: {notice.title}\r\n{notice.text}\r\n"
    return text.encode("ascii", "backslashreplace")


def terminals_of(uid: int, dev: str = DEV) -> Iterator[str]:
    """Paths of this user's terminals that take messages. Root's are pseudo-terminals only: a console at which nobody is
    logged in is root's as well.
    """
    found = [f"{dev}/pts/{name}" for name in _names(f"{dev}/pts") if name.isdigit()]
    if uid != 0:
        found += [f"{dev}/{name}" for name in _names(dev) if _CONSOLE.fullmatch(name)]
    count = 0
    for path in found:
        with contextlib.suppress(OSError):
            if count < MOST_TERMINALS and _takes_messages(os.lstat(path), uid):
                count += 1
                yield path


def write_to(path: str, uid: int, data: bytes) -> None:
    """Write as much as is taken at once. Raises OSError, and PermissionError where it is not that user's any more."""
    fd = os.open(path, _FLAGS)
    try:
        if not _takes_messages(os.fstat(fd), uid) or not os.isatty(fd):
            raise PermissionError(path)
        os.write(fd, data)
    finally:
        os.close(fd)


def _takes_messages(facts: os.stat_result, uid: int) -> bool:
    """A terminal of that user that takes messages: mesg(1) gives and takes the group's right to write."""
    return stat.S_ISCHR(facts.st_mode) and facts.st_uid == uid and bool(facts.st_mode & stat.S_IWGRP)


def _names(folder: str) -> list[str]:
    try:
        return sorted(os.listdir(folder))
    except OSError:
        return []

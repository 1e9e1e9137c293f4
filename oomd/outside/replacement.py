"""Files that are replaced as a whole: no reader ever sees half of one."""

from __future__ import annotations

import contextlib
import os

OWN, PUBLIC = 0o600, 0o644
"""Modes: readable for the owner only, or for everybody."""


def replace_file(path: str, data: bytes, mode: int) -> None:
    """Put ``data`` in the place of the file at once, with this mode whatever the umask is. Raises OSError, and leaves
    the file as it was.

    It is written under another name first (``….new``); what a process that was killed has left there is removed, and a
    link that somebody has put there is not followed.
    """
    fresh = f"{path}.new"
    with contextlib.suppress(FileNotFoundError):
        os.unlink(fresh)
    fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, OWN)
    try:
        with os.fdopen(fd, "wb") as file:
            file.write(data)
            os.fchmod(fd, mode)
        os.rename(fresh, path)
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(fresh)
        raise

"""The figures as a file for node_exporter's textfile collector, which must never see half of one."""

from __future__ import annotations

import contextlib
import os

MODE = 0o644


def write_textfile(path: str, data: bytes) -> None:
    """Put a whole file in the place of the one before. Raises OSError, and leaves the one before.

    The other name begins with a dot and does not end in .prom, so that the collector passes it over; what is left there
    by a process that was killed in between is removed.
    """
    folder, name = os.path.split(path)
    other = os.path.join(folder, f".{name}.new")
    with contextlib.suppress(FileNotFoundError):
        os.unlink(other)
    fd = os.open(other, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, MODE)
    try:
        with os.fdopen(fd, "wb") as file:
            os.fchmod(file.fileno(), MODE)  # whatever our umask is: another user reads it
            file.write(data)
        os.rename(other, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(other)
        raise

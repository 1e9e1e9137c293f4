"""lmkd's file of properties, read where waiting for a disk holds up nobody: before the killer's image is loaded, and by
the outside process.
"""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from oomd.model.report import Plain

REQUEST = "lmkd_properties"
MOST_BYTES = 1 << 16
"""A file larger than this is somebody else's."""


class PropertiesError(Exception):
    """The file cannot be used; the message names it and says why."""


def read_properties(path: str) -> str:
    """Its text. Raises PropertiesError."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                raise PropertiesError(f"{path}: is no file")
            data = os.read(fd, MOST_BYTES + 1)
        finally:
            os.close(fd)
    except OSError as error:
        raise PropertiesError(f"{path}: {error.strerror}") from error
    if len(data) > MOST_BYTES:
        raise PropertiesError(f"{path}: is larger than {MOST_BYTES >> 10} KiB, no file of properties")
    return data.decode("utf-8", "backslashreplace")


def answer_properties(path: str) -> Plain:
    """What the killer is answered that asks for it."""
    try:
        return {"ok": True, "properties": read_properties(path)}
    except PropertiesError as error:
        return {"ok": False, "text": str(error)}

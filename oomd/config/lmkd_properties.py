"""lmkd's file of properties, read where waiting for a disk holds up nobody: by commands and by the outside process."""

from __future__ import annotations

import os
import stat

from oomd.config.problems import Problem
from oomd.model.lmkd_properties import find_mistakes

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


def problems_of_file(path: str) -> list[Problem]:
    """Everything that is wrong with it, each in its place."""
    try:
        text = read_properties(path)
    except PropertiesError as error:
        return [Problem(path, 0, 0, "", str(error).removeprefix(f"{path}: "))]
    return [Problem(path, line, 1, name, message) for line, name, message in find_mistakes(text)]

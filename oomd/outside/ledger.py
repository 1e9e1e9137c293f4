"""What outlives this process: counts and the history of kills, in memory that the killer keeps for the next one.

The killer holds a descriptor of an anonymous file (memfd_create(2)) and never looks into it; every outside process that
it starts inherits it. Two places are written in turns, each with a number and a checksum, so that whoever is killed in
the middle of a write leaves the one before.
"""

from __future__ import annotations

import contextlib
import marshal
import os
import struct
import threading
import zlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from oomd.model.report import Plain

PLACE_BYTES = 512 * 1024
"""The most that a place holds."""
_HEAD = struct.Struct("<QII")
"""Number of the write, length, CRC-32 of the content."""


class Ledger:
    """Pages of plain values, each under the name of whoever keeps it. Any thread may use it."""

    def __init__(self, fd: int) -> None:
        """``fd``: the descriptor of the file; -1: nothing is kept."""
        self._fd = fd
        self._lock = threading.Lock()
        found = [each for each in map(self._read, (0, 1)) if each is not None]
        self._number, self._pages = max(found, key=lambda each: each[0]) if found else (0, {})

    def page(self, name: str) -> Plain:
        """What was kept last under this name; empty where there is nothing that can be trusted."""
        with self._lock:
            page = self._pages.get(name)
        return page if isinstance(page, dict) else {}

    def keep(self, name: str, page: Plain) -> bool:
        """Keep this page in the place of the last one. Whether it was kept: what is too large is not."""
        with self._lock:
            pages = {**self._pages, name: page}
            data = marshal.dumps(pages)
            if self._fd < 0 or len(data) > PLACE_BYTES - _HEAD.size:
                return False
            self._number += 1
            self._pages = pages
            head = _HEAD.pack(self._number, len(data), zlib.crc32(data))
            with contextlib.suppress(OSError):
                return os.pwrite(self._fd, head + data, self._number % 2 * PLACE_BYTES) == len(head) + len(data)
            return False

    def _read(self, place: int) -> tuple[int, Plain] | None:
        """Number and content of a place."""
        if self._fd < 0:
            return None
        try:
            head = os.pread(self._fd, _HEAD.size, place * PLACE_BYTES)
            number, length, checksum = _HEAD.unpack(head)
            data = os.pread(self._fd, min(length, PLACE_BYTES), place * PLACE_BYTES + _HEAD.size)
            if len(data) != length or zlib.crc32(data) != checksum:
                return None
            content = marshal.loads(data)  # noqa: S302 - written by a process like this one, for no other to see
        except (OSError, struct.error, ValueError, EOFError, TypeError):
            return None
        return (number, content) if isinstance(content, dict) else None

"""Files of the kernel, kept open and read again and again, and what all their parsers share."""

from __future__ import annotations

import os

PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
"""Bytes per page: 4096 on x86, 4096, 16384 or 65536 on ARM."""


MARGIN_BYTES = 128
"""By how much counters may grow before what is wanted of them has to be read twice."""


class KernelFormatError(ValueError):
    """A kernel file does not look as its manual page says: a needed field is missing or is not a number."""

    def __init__(self, file: str, field: str) -> None:
        super().__init__(f"{file}: {field} is missing or malformed")
        self.file = file
        self.field = field


class KernelFile:
    """A file of procfs, sysfs or cgroupfs that stays open: re-reading costs one call, not three.

    ``path`` is relative to ``dir_fd`` where that is given. ``size`` is how many bytes are made ready; the
    buffer grows when a file outgrows it. ``single_record`` is for files that the kernel gives whole in one
    read when the buffer has room (``single_open`` in the kernel's source: meminfo, pressure, loadavg,
    PID/status, cgroup files): it spares the read that meets the end of the file. Files made of many records
    (vmstat, zoneinfo, swaps) may come a page at a time and must be read to their end, unless ``enough`` says how the
    last line begins that is wanted (with the newline before it): a first read that holds all of it is the only one.
    """

    __slots__ = ("_enough", "_fd", "_first", "_single_record", "_view", "path")

    def __init__(
        self,
        path: str,
        *,
        dir_fd: int | None = None,
        size: int = 16384,
        single_record: bool = False,
        enough: bytes = b"",
    ) -> None:
        """Opens it; raises OSError as the kernel gives it."""
        self.path = path
        self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC, dir_fd=dir_fd)
        self._view = memoryview(bytearray(size))
        self._single_record = single_record
        self._enough = enough
        self._first = self._view
        """Where the first read goes: the kernel makes no more text of many records than there is room for."""

    def read(self) -> bytes:
        """What the file says now. Raises OSError as the kernel gives it: ESRCH for a process that is gone,
        ENODEV for a removed cgroup.
        """
        view = self._first
        length = os.preadv(self._fd, (view,), 0)
        if self._single_record and length < len(view):
            return bytes(view[:length])
        if self._enough:
            first = bytes(view[:length])
            if self._holds_enough(first):
                return first
            if view is not self._view:
                self._first = self._view
                return self.read()
        while length:
            if length == len(view):
                view = self._grow(length)
            # The next offset is where seq_file stands, so the kernel goes on there and does not make the
            # text anew.
            more = os.preadv(self._fd, (view[length:],), length)
            if not more:
                break
            length += more
        return bytes(view[:length])

    def _holds_enough(self, first: bytes) -> bool:
        at = first.rfind(self._enough)  # it is near the end, where so much was read the last time too
        end = first.find(b"\n", at + 1) if at >= 0 else -1
        if 0 <= end < len(self._first) - 2 * MARGIN_BYTES:
            self._first = self._view[: end + MARGIN_BYTES]
        return end >= 0

    def _grow(self, length: int) -> memoryview:
        larger = memoryview(bytearray(2 * length))
        larger[:length] = self._view
        self._view = self._first = larger
        return larger

    def fileno(self) -> int:
        """Its descriptor; -1 once closed."""
        return self._fd

    def close(self) -> None:
        """Closes it; again does nothing. Reading afterwards raises OSError (EBADF)."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> KernelFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def parse_number(text: bytes, file: str, field: str, base: int = 10) -> int:
    """The number that ``text`` is, spaces around it allowed. Raises :class:`KernelFormatError` for anything
    else and below zero.
    """
    try:
        value = int(text, base)
    except ValueError:
        raise KernelFormatError(file, field) from None
    if value < 0:
        raise KernelFormatError(file, field)
    return value


def find_number(
    data: bytes, key: bytes, file: str, *, default: int | None = None, base: int = 10, hint: int = 0
) -> int:
    """The number between ``key`` and the end of its line.

    ``key`` begins with the newline before its line, so that it matches at the beginning of a line only (put
    one before the first line). ``default`` is for a line that is absent; without it, and for a line that
    holds no number, :class:`KernelFormatError` is raised. ``hint`` is where to look first.
    """
    start = data.find(key, hint)
    if start < 0 and hint:
        start = data.find(key)
    if start < 0:
        if default is None:
            raise KernelFormatError(file, _field_of(key))
        return default
    start += len(key)
    end = data.find(b"\n", start)
    try:
        value = int(data[start:end], base) if end >= 0 else -1
    except ValueError:
        value = -1
    if value < 0:
        raise KernelFormatError(file, _field_of(key))
    return value


def _field_of(key: bytes) -> str:
    return key.strip(b"\n: \t").decode()


def find_kib(data: bytes, key: bytes, file: str, *, default: int | None = None) -> int:
    """Bytes of a ``Name:  123 kB`` line; otherwise like :func:`find_number`."""
    start = data.find(key)
    if start < 0:
        if default is None:
            raise KernelFormatError(file, _field_of(key))
        return default
    start += len(key)
    end = data.find(b" kB\n", start)
    try:
        value = int(data[start:end]) if end >= 0 else -1
    except ValueError:
        value = -1
    if value < 0:
        raise KernelFormatError(file, _field_of(key))
    return value * 1024


def unescape_octal(text: bytes) -> bytes:
    """A path as it is, of the form in which mountinfo and swaps give it (``\\040`` for a space; mangle_path
    in fs/seq_file.c).
    """
    if b"\\" not in text:
        return text
    first, *rest = text.split(b"\\")
    return first + b"".join(_unescape(part) for part in rest)


def _unescape(part: bytes) -> bytes:
    try:
        return bytes((int(part[:3], 8),)) + part[3:]
    except ValueError:
        return b"\\" + part


def open_optional(path: str, *, single_record: bool = False, enough: bytes = b"") -> KernelFile | None:
    """The file kept open, or None where there is none: recorded trees hold what they hold."""
    try:
        return KernelFile(path, single_record=single_record, enough=enough)
    except OSError:
        return None

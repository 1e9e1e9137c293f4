"""ZFS keeps its cache outside of the page cache: /proc/spl/kstat/zfs/arcstats says how much of it could be
had back.
"""

from __future__ import annotations

from oomd.kernel.files import KernelFormatError, parse_number

ARCSTATS = "/proc/spl/kstat/zfs/arcstats"


def parse_arcstats(data: bytes) -> int:
    """Bytes that ZFS gives back when asked: the size of its cache above its minimum (``size`` - ``c_min``).

    The file is not part of the kernel and its fields come and go with releases. 0, the careful answer, where
    one of the two is absent or unreadable; never an error.
    """
    size, minimum = _find_value(data, b"\nsize "), _find_value(data, b"\nc_min ")
    if size is None or minimum is None:
        return 0
    return max(0, size - minimum)


def _find_value(data: bytes, key: bytes) -> int | None:
    start = data.find(key) + 1
    end = data.find(b"\n", start)
    if start == 0 or end < 0:
        return None
    fields = data[start:end].split()  # name, type, data
    try:
        return parse_number(fields[2], ARCSTATS, "data") if len(fields) == 3 else None
    except KernelFormatError:
        return None

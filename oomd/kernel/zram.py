"""/sys/block/zramN/mm_stat: swap in compressed memory; Documentation/admin-guide/blockdev/zram.rst.

Such swap fills memory as it fills: what matters is how much memory it takes, not how much of it is free.
"""

from __future__ import annotations

import os

from oomd.kernel.files import KernelFile, KernelFormatError, parse_number
from oomd.model.snapshot import Zram

_FILE = "mm_stat"


def parse_mm_stat(data: bytes, page_bytes: int) -> Zram:
    """The :class:`Zram` of one device: eight columns since 4.17, without ``huge_pages`` before. Raises
    KernelFormatError.
    """
    fields = data.split()
    if len(fields) < 7:
        raise KernelFormatError(_FILE, "a column")
    original, compressed, used = (parse_number(field, _FILE, "size") for field in fields[:3])
    same = parse_number(fields[5], _FILE, "same_pages")
    huge = parse_number(fields[7], _FILE, "huge_pages") if len(fields) > 7 else 0
    return Zram(original, compressed, used, same * page_bytes, huge * page_bytes)


def open_devices(sys_dir: str) -> list[KernelFile]:
    """mm_stat of every zram device below ``sys_dir``, kept open; none where there is none."""
    files: list[KernelFile] = []
    try:
        names = sorted(name for name in os.listdir(f"{sys_dir}/block") if name.startswith("zram"))
    except OSError:
        return files
    for name in names:
        try:
            files.append(KernelFile(f"{sys_dir}/block/{name}/mm_stat", size=256))
        except OSError:
            continue  # a device without compressed memory, or gone
    return files

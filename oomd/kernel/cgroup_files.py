"""The files of one cgroup of version 2, parsed; Documentation/admin-guide/cgroup-v2.rst.

Every reader here takes what a file says and answers with a fact; who reads which file when is the monitor's affair.
"""

from __future__ import annotations

import os

from oomd.kernel.files import find_number, parse_number
from oomd.model.snapshot import DeviceIo

NO_LIMIT = 1 << 62
"""Bytes of a protection (memory.min, memory.low) that is ``max``."""

MARKS = (
    "user.oomd_avoid",
    "user.oomd_omit",
    "user.oomd_prefer",
    "trusted.oomd_avoid",
    "trusted.oomd_omit",
    "trusted.oomd_prefer",
)
"""Extended attributes that say who is to be spared or taken first. systemd writes the ``user.`` ones
(systemd.resource-control(5), ManagedOOMPreference=), Meta's oomd reads both. ``trusted.`` is visible to
CAP_SYS_ADMIN only; xattr(7).
"""

MEMORY_STAT = (
    ("anon", "anon_bytes"),
    ("file", "file_bytes"),
    ("shmem", "shmem_bytes"),
    ("active_anon", "active_anon_bytes"),
    ("inactive_anon", "inactive_anon_bytes"),
    ("active_file", "active_file_bytes"),
    ("inactive_file", "inactive_file_bytes"),
    ("pgscan", "pgscan"),
    ("workingset_refault_anon", "refault_anon"),
    ("workingset_refault_file", "refault_file"),
)
"""Keys of memory.stat and the fields of :class:`oomd.model.snapshot.Cgroup` that take them."""

_DEVICE_FIELDS = {
    b"rbytes": "read_bytes",
    b"wbytes": "written_bytes",
    b"rios": "reads",
    b"wios": "writes",
    b"dbytes": "discarded_bytes",
    b"dios": "discards",
}


def parse_memory_stat(data: bytes) -> dict[str, int]:
    """The fields of memory.stat that :data:`MEMORY_STAT` names; those that the kernel lacks are left out.

    Raises KernelFormatError when a wanted one is no number.
    """
    data = b"\n" + data
    found = {}
    for key, name in MEMORY_STAT:
        value = find_number(data, b"\n%b " % key.encode(), "memory.stat", default=-1)
        if value >= 0:
            found[name] = value
    return found


def parse_amount(data: bytes, file: str) -> int | None:
    """Bytes of memory.max and the like; None for ``max``. Raises KernelFormatError."""
    text = data.strip()
    return None if text == b"max" else parse_number(text, file, "bytes")


def parse_protection(data: bytes, file: str) -> int:
    """Bytes of memory.min and memory.low; :data:`NO_LIMIT` for ``max``. Raises KernelFormatError."""
    amount = parse_amount(data, file)
    return NO_LIMIT if amount is None else amount


def parse_populated(data: bytes) -> bool:
    """Whether cgroup.events says that a live process is in the cgroup or below. Raises KernelFormatError."""
    return find_number(b"\n" + data, b"\npopulated ", "cgroup.events") != 0


def parse_dying_descendants(data: bytes) -> int:
    """nr_dying_descendants of cgroup.stat. Raises KernelFormatError."""
    return find_number(b"\n" + data, b"\nnr_dying_descendants ", "cgroup.stat")


def parse_io_stat(data: bytes) -> tuple[DeviceIo, ...]:
    """The lines of io.stat. Words other than the six counters (``cost.usage=…``) are passed over, and so are devices
    without any, which the kernel may print as a bare ``MAJ:MIN``. Raises KernelFormatError when a counter is no number.
    """
    devices = []
    for line in data.split(b"\n"):
        device, *words = line.split()[:64] or [b""]
        counters = {}
        for word in words:
            key, _, value = word.partition(b"=")
            if key in _DEVICE_FIELDS:
                counters[_DEVICE_FIELDS[key]] = parse_number(value, "io.stat", key.decode())
        if counters:
            devices.append(DeviceIo(device.decode("ascii", "replace"), **counters))
    return tuple(devices)


def parse_pids(data: bytes) -> tuple[int, ...]:
    """The pids of cgroup.procs; a pid of another namespace shows as 0 and is left out. Raises KernelFormatError."""
    pids = (parse_number(line, "cgroup.procs", "pid") for line in data.split())
    return tuple(pid for pid in pids if pid)


def read_marks(directory: int | str) -> tuple[tuple[str, str], ...]:
    """The marks that the cgroup bears (its directory is given by descriptor or path), of :data:`MARKS`; none where its
    file system knows no extended attributes, or they may not be read.
    """
    try:
        names = os.listxattr(directory)
    except OSError:
        return ()
    marks = []
    for name in MARKS:
        if name in names:
            try:
                marks.append((name, os.getxattr(directory, name).decode("utf-8", "backslashreplace")))
            except OSError:
                continue  # removed just now
    return tuple(marks)

"""What the machine shows only when a configured rule asks for it: a file or two more at every tick."""

from __future__ import annotations

import os

from oomd.kernel.files import KernelFile
from oomd.kernel.loadavg import parse_tasks
from oomd.kernel.psi import parse_pressure
from oomd.kernel.vmstat import parse_vmstat
from oomd.kernel.zoneinfo import parse_zones, watermark_margins
from oomd.kernel.zram import open_devices, parse_mm_stat
from oomd.model.snapshot import Counters, Details, Watermarks, Zram

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

FILES = {
    "counters": "vmstat",
    "watermarks": "zoneinfo",
    "memory_pressure": "pressure/memory",
    "io_pressure": "pressure/io",
    "cpu_pressure": "pressure/cpu",
    "tasks": "loadavg",
}
"""Fields of :class:`Details` and the files of procfs that they come from; ``zram`` comes from sysfs."""


class DetailReader:
    """Reads the fields that are wanted, through files that stay open."""

    def __init__(self, proc_dir: str, page_bytes: int, wanted: frozenset[str]) -> None:
        """A file that is not there leaves its field None. sysfs is looked for beside procfs, so that a recorded tree
        is never mixed with the machine's own.
        """
        self._page_bytes = page_bytes
        self._files: dict[str, KernelFile] = {}
        for field, name in FILES.items():
            file = _open(f"{proc_dir}/{name}") if field in wanted else None
            if file is not None:
                self._files[field] = file
        sys_dir = os.path.join(os.path.dirname(proc_dir.rstrip("/")), "sys")
        self._zram = open_devices(sys_dir) if "zram" in wanted else []
        self._parsers: dict[str, Callable[[bytes], Any]] = {
            "counters": _counters,
            "watermarks": self._watermarks,
            "tasks": parse_tasks,
        }

    def read(self) -> Details:
        """The details now; what cannot be read (any more) is None."""
        values: dict[str, Any] = {}
        for field, file in self._files.items():
            try:
                values[field] = self._parsers.get(field, parse_pressure)(file.read())
            except (OSError, ValueError):
                values[field] = None  # PSI switched off (EOPNOTSUPP), or a form that this kernel alone has
        return Details(**values, zram=self._read_zram(), page_bytes=self._page_bytes)

    def close(self) -> None:
        """Close every file."""
        for file in (*self._files.values(), *self._zram):
            file.close()

    def _watermarks(self, data: bytes) -> Watermarks | None:
        margins = watermark_margins(parse_zones(data))
        return None if margins is None else Watermarks(*(pages * self._page_bytes for pages in margins))

    def _read_zram(self) -> Zram | None:
        devices = []
        for file in self._zram:
            try:
                devices.append(parse_mm_stat(file.read(), self._page_bytes))
            except (OSError, ValueError):
                continue  # reset just now
        if not devices:
            return None
        return Zram(
            original_bytes=sum(each.original_bytes for each in devices),
            compressed_bytes=sum(each.compressed_bytes for each in devices),
            used_bytes=sum(each.used_bytes for each in devices),
            same_bytes=sum(each.same_bytes for each in devices),
            huge_bytes=sum(each.huge_bytes for each in devices),
        )


def _counters(data: bytes) -> Counters:
    vmstat = parse_vmstat(data)
    return Counters(
        pgscan=vmstat.pgscan,
        pgscan_direct=vmstat.pgscan_direct,
        allocstall=vmstat.allocstall,
        pswpin=vmstat.pswpin,
        pswpout=vmstat.pswpout,
        refault_anon=vmstat.workingset_refault_anon,
        refault_file=vmstat.workingset_refault_file,
    )


def _open(path: str) -> KernelFile | None:
    try:
        return KernelFile(path)
    except OSError:
        return None

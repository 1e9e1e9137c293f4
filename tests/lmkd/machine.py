"""The files that lmkd's mind reads, written by a test."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from oomd.lmkd.facts import Facts, Marks
from oomd.model.snapshot import Pressure, PressureLine

if TYPE_CHECKING:
    from pathlib import Path

PAGE_KB = os.sysconf("SC_PAGE_SIZE") // 1024
MEMINFO = {
    "MemTotal": 4_000_000,
    "MemFree": 1_000_000,
    "CmaFree": 0,
    "SwapTotal": 1_000_000,
    "SwapFree": 1_000_000,
    "Active(anon)": 500_000,
    "Inactive(anon)": 500_000,
    "Active(file)": 200_000,
    "Inactive(file)": 200_000,
    "Shmem": 0,
    "Dirty": 0,
}
"""kB: nothing is short."""
MARKS = Marks(10_000, 20_000, 30_000)
"""Pages."""


class Machine:
    """A folder with meminfo, vmstat, zoneinfo and pressure."""

    def __init__(self, root: Path) -> None:
        self.root = root
        (root / "pressure").mkdir(parents=True, exist_ok=True)
        self.set_meminfo()
        self.set_vmstat()
        self.set_marks(10_000, 20_000, 30_000)
        line = "{} avg10=0.00 avg60=0.00 avg300=0.00 total=0\n"
        for name in ("memory", "io", "cpu"):
            (root / "pressure" / name).write_text(line.format("some") + line.format("full"), encoding="ascii")

    def set_meminfo(self, **changes: int) -> None:
        """KB by name."""
        values = MEMINFO | changes
        self._write("meminfo", "".join(f"{name}: {kb:>12} kB\n" for name, kb in values.items()))

    def set_vmstat(self, **changes: int) -> None:
        """Counters."""
        values = {"pgscan_kswapd": 0, "pgscan_direct": 0, "pgrefill": 0, "workingset_refault_file": 0} | changes
        self._write("vmstat", "".join(f"{name} {count}\n" for name, count in values.items()))

    def set_marks(self, *pages: int, nodes: int = 1) -> None:
        """Min, low and high, of each of so many nodes."""
        zone = (
            "Node {}, zone   Normal\n  pages free     1\n"
            "        min      {}\n        low      {}\n        high     {}\n"
            "        spanned  9\n        present  9\n        managed  9\n        protection: (0, 0)\n"
        )
        self._write("zoneinfo", "".join(zone.format(node, *pages) for node in range(nodes)))

    def _write(self, name: str, text: str) -> None:
        with open(self.root / name, "w", encoding="ascii") as file:
            file.write(text)


def facts(
    seconds: float = 0.0,
    *,
    stall: Any = 0.0,
    pcp_pages: Any = 0,
    marks: Any = MARKS,
    page_kb: Any = 4,
    **changes: Any,
) -> Facts:
    """One look; capitals change meminfo (kB), small letters vmstat."""
    names = {"Active_file": "Active(file)", "Inactive_file": "Inactive(file)"}
    meminfo = {names.get(name, name): value for name, value in changes.items() if name[0].isupper()}
    line = PressureLine(stall, 0.0, 0.0, 0)
    return Facts(
        time_us=int(seconds * 1_000_000),
        meminfo=MEMINFO | meminfo,
        vmstat={name: value for name, value in changes.items() if not name[0].isupper()},
        marks=marks,
        page_kb=page_kb,
        pcp_pages=pcp_pages,
        memory=Pressure(line, line),
    )

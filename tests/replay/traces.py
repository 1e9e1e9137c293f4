"""Traces as tests write them: one fake machine per step."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.fakes.proc_tree import GIB, MIB, ProcTree

if TYPE_CHECKING:
    from pathlib import Path

LOW = 300 * MIB
"""Below the default level (5 %), above the critical one."""
CRITICAL = 100 * MIB
PLENTY = 4 * GIB


def add_step(
    root: Path, name: str, available: int, processes: dict[int, dict[str, Any]], stall_us: int = 0
) -> ProcTree:
    """A step of a machine of 8 GiB without swap."""
    tree = ProcTree(root / name / "proc")
    tree.set_meminfo(total=8 * GIB, available=available, anon=8 * GIB - max(available, GIB))
    tree.set_pressure(stall_us, stall_us)
    for pid, values in {1: {"comm": "systemd"}, **processes}.items():
        tree.add_process(pid, **{"start_ticks": pid, "uid": 1000 if pid > 1 else 0, **values})
    return tree


BIG_AND_SMALL: dict[int, dict[str, Any]] = {
    50: {"comm": "big", "rss_anon": 3 * GIB},
    60: {"comm": "small", "rss_anon": GIB},
}

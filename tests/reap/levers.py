"""Control groups of our own with a limit or a freezer, for victims of ours; version 1 or 2, whatever is there."""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

from oomd.kernel.cgroup_levers import LeverMount, parse_lever_mounts

if TYPE_CHECKING:
    from collections.abc import Iterator


def find_mount(controller: str, version: int | None = None) -> LeverMount | None:
    """A hierarchy in which this controller can be used."""
    for mount in parse_lever_mounts(Path("/proc/self/mountinfo").read_bytes()):
        usable = mount.version == 1 or controller == "freezer" or controller in _enabled(mount)
        if controller in mount.controllers and version in (None, mount.version) and usable:
            return mount
    return None


def _enabled(mount: LeverMount) -> list[str]:
    return Path(mount.point, "cgroup.subtree_control").read_text("ascii").split()


@contextlib.contextmanager
def control_group(mount: LeverMount, name: str = "") -> Iterator[Path]:
    """A new one, removed afterwards: whoever is left in it moves up."""
    group = Path(mount.point) / f"oomd-test-{os.getpid()}{name}"
    group.mkdir()
    try:
        yield group
    finally:
        with contextlib.suppress(OSError):
            (group / "freezer.state").write_text("THAWED", "ascii")
        for pid in (group / "cgroup.procs").read_text("ascii").split():
            with contextlib.suppress(OSError):
                (group.parent / "cgroup.procs").write_text(pid, "ascii")
        _remove(group, time.monotonic() + 90)


def _remove(group: Path, end: float) -> None:
    """Zombies and those on their way out still count for a moment."""
    while group.exists():
        try:
            group.rmdir()
        except OSError:
            if time.monotonic() > end:
                raise
            os.sched_yield()

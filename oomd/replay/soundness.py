"""Whether a step's trees are what a kernel could have said: replay tells a broken file, where the daemon, which must
live with whatever it meets, goes on as though the file were not there.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from oomd.kernel.cgroup_files import parse_pids
from oomd.kernel.files import KernelFormatError
from oomd.kernel.process import parse_cgroup, parse_stat, parse_statm, parse_status
from oomd.kernel.smaps import parse_smaps_rollup
from oomd.monitor.cgroups import FILES
from oomd.replay.trace import ReplayError, Step

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    Parsers = Mapping[str, Callable[[bytes], Any]]

OF_PROCESSES: Parsers = {
    "stat": parse_stat,
    "statm": parse_statm,
    "status": parse_status,
    "cgroup": parse_cgroup,
    "smaps_rollup": parse_smaps_rollup,
    "oom_score_adj": int,
}
"""Files of ``proc/PID``, and who takes them apart."""
OF_CGROUPS: Parsers = {**FILES, "cgroup.procs": parse_pids}
MOST_BYTES = 1 << 20


class Soundness:
    """Looks at every tree once; steps that take over the tree of the step before cost nothing."""

    def __init__(self) -> None:
        self._seen = ("", "")

    def check(self, step: Step) -> None:
        """Raises ReplayError that names the first broken file. Files that are missing or empty are no mistake: the
        kernel lacks them, or nobody could copy them.
        """
        proc_dir, cgroup_dir = self._seen
        self._seen = (step.proc_dir, step.cgroup_dir)
        if step.proc_dir != proc_dir:
            for name in sorted(filter(_is_pid, os.listdir(step.proc_dir)), key=int):
                _check(step, f"{step.proc_dir}/{name}", OF_PROCESSES)
        if step.cgroup_dir and step.cgroup_dir != cgroup_dir:
            for folder, _, files in os.walk(step.cgroup_dir):
                _check(step, folder, {name: OF_CGROUPS[name] for name in files if name in OF_CGROUPS})


def _is_pid(name: str) -> bool:
    return name.isascii() and name.isdigit()


def _check(step: Step, folder: str, parsers: Parsers) -> None:
    for name, parse in parsers.items():
        data = _read(f"{folder}/{name}")
        if not data.strip():
            continue
        try:
            parse(data)
        except KernelFormatError as error:
            broken = f"{folder}/{name}: {error.field} is missing or malformed"
            raise ReplayError(f"step {step.name}: {broken}") from error
        except ValueError as error:
            raise ReplayError(f"step {step.name}: {folder}/{name}: is malformed") from error


def _read(path: str) -> bytes:
    """Its text; empty where there is none, or nobody may read it."""
    try:
        with open(path, "rb") as file:
            return file.read(MOST_BYTES)
    except OSError:
        return b""

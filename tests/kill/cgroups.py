"""Directories that look like cgroups, with real processes of ours in them, and what the workers need besides."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

from oomd.debts import Debts
from oomd.kernel.scope import ScopeGuard
from oomd.kill.warrant import Gate
from oomd.kill.worker import Results
from oomd.model.scope import parse_scope
from tests.fakes.cgroup_tree import CgroupTree
from tests.waiting import is_ready

if TYPE_CHECKING:
    from pathlib import Path

    from oomd.model.decision import StepResult

PATIENCE_S = 90.0


class Site:
    """A hierarchy of plain files, a runtime directory, a gate around the tree of this process."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "cgroup"
        self.tree = CgroupTree(self.root)
        self.run = folder / "run"
        self.run.mkdir()
        self.debts = Debts(str(self.run), "me")
        self.proc_fd = os.open("/proc", os.O_RDONLY | os.O_DIRECTORY)
        self.results = Results()
        self._results_fd = self.results.fd  # a test may put others' in their place
        self.children: dict[int, subprocess.Popen[bytes]] = {}

    def gate(self) -> Gate:
        """One more; each thread has its own."""
        guard = ScopeGuard(parse_scope(f"tree:{os.getpid()}"), self.proc_fd)
        return Gate(guard, self.proc_fd, frozenset())

    def add(self, path: str, **values: int) -> Path:
        """A cgroup with one child of ours in it."""
        self.tree.add_group(path, pids=(self.child(),), **values)
        directory = self.root / path.lstrip("/")
        (directory / "cgroup.freeze").write_text("0\n", "ascii")
        return directory

    def child(self) -> int:
        """A process of ours, waiting for its end."""
        child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
        self.children[child.pid] = child
        return child.pid

    def start_ticks(self, pid: int) -> int:
        """When it was started, as the kernel counts."""
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            return int(file.read().rsplit(")", 1)[1].split()[19])

    def end(self, pid: int) -> None:
        """It ends."""
        child = self.children.pop(pid)
        child.kill()
        child.communicate()

    def join(self, directory: Path, *pids: int) -> None:
        """These come to those that are there."""
        with open(directory / "cgroup.procs", "a", encoding="ascii") as file:
            file.writelines(f"{pid}\n" for pid in pids)

    def pids(self, directory: Path) -> list[int]:
        """Who is there."""
        return [int(line) for line in (directory / "cgroup.procs").read_text("ascii").split()]

    def wait(self, count: int = 1) -> list[StepResult]:
        """So many results, as soon as they are there."""
        found: list[StepResult] = []
        while len(found) < count:
            assert is_ready(self.results.fd, PATIENCE_S), found
            found += self.results.take()
        return found

    def written_down(self) -> bool:
        """Whether anything must be put back."""
        return bool(os.listdir(self.run))

    def close(self) -> None:
        """Leave nobody behind."""
        for pid in [*self.children]:
            self.end(pid)
        os.close(self.proc_fd)
        os.close(self.debts._fd)
        os.close(self._results_fd)


def text_of(path: Path) -> str:
    """What a small file says."""
    return path.read_text("ascii").strip()

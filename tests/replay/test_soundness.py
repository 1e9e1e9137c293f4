"""Broken files of a step's trees are told by their name."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from oomd.replay.soundness import OF_CGROUPS, OF_PROCESSES, Soundness
from oomd.replay.trace import ReplayError, read_trace
from tests.fakes.cgroup_tree import CgroupTree
from tests.fakes.proc_tree import GIB
from tests.replay.traces import BIG_AND_SMALL, LOW, add_step

if TYPE_CHECKING:
    from pathlib import Path

NEVER_BROKEN = ("cgroup", "memory.stat")
"""Their parsers take what they know, and pass over the rest."""


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    """One step with two cgroups."""
    add_step(tmp_path, "0", LOW, BIG_AND_SMALL)
    tree = CgroupTree(tmp_path / "0" / "cgroup")
    tree.add_group("/a/b", anon=GIB, pids=(50,))
    tree.add_group("/a", anon=GIB)
    return tmp_path


def check(trace: Path) -> None:
    """Every step."""
    soundness = Soundness()
    for step in read_trace(str(trace)):
        soundness.check(step)


def test_whole_trees(trace: Path) -> None:
    """Nothing is found in them, nor in the same trees a step later."""
    (trace / "1").mkdir()
    check(trace)


@pytest.mark.parametrize(
    "file", [*(f"proc/50/{name}" for name in OF_PROCESSES), *(f"cgroup/a/b/{n}" for n in OF_CGROUPS)]
)
def test_each_file(trace: Path, file: str) -> None:
    """Broken: named with its step. Empty, or not there: the kernel lacks it."""
    path = trace / "0" / file
    path.write_bytes(b"\xff= 12monkeys rbytes=many\n")
    if path.name not in NEVER_BROKEN:
        with pytest.raises(ReplayError, match=rf"^step 0: {path}: .*malformed$"):
            check(trace)
    path.write_bytes(b"")
    check(trace)
    path.unlink()
    check(trace)


def test_of_a_later_step(trace: Path) -> None:
    """A tree is looked at where it is new, and the step is told."""
    CgroupTree(trace / "2.5" / "cgroup").add_group("/a", anon=GIB)
    (trace / "2.5" / "cgroup" / "a" / "memory.current").write_text("much\n")
    with pytest.raises(
        ReplayError, match=r"step 2\.5: .*/2\.5/cgroup/a/memory\.current: bytes is missing or malformed"
    ):
        check(trace)

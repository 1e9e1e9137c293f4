"""Cold pages taken from a cgroup in pieces, on files that a thread of the test answers as the kernel does; and from a
real process.
"""

from __future__ import annotations

import errno
import os
import time
from typing import TYPE_CHECKING, Any

import pytest

from oomd.kernel.cgroup_dir import CgroupDirectory
from oomd.kill import reclaim
from oomd.kill.reclaim import CHUNK_BYTES, MOST_IN_VAIN, PROBE_BYTES, Reclaimer, Take, reclaim_piece
from oomd.model.units import MIB
from tests.fakes.builders import process
from tests.kill.cgroups import PATIENCE_S, Site

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from oomd.model.decision import StepResult


class Kernel(CgroupDirectory):
    """A cgroup of which the kernel takes what is cold, and no more."""

    cold_bytes = 0
    asked: list[int] = []

    def write(self, name: str, value: str) -> None:
        """memory.reclaim."""
        assert name == "memory.reclaim"
        wanted = int(value)
        Kernel.asked.append(wanted)
        taken = min(wanted, Kernel.cold_bytes)
        Kernel.cold_bytes -= taken
        super().write("memory.current", str(int(self.read("memory.current")) - taken))
        if taken < wanted:
            raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))


class Stage:
    """A reclaimer over a site."""

    def __init__(self, folder: Path) -> None:
        self.site = Site(folder)
        self.reclaimer = Reclaimer(self.site.gate, self.site.proc_fd, self.site.results)
        self.reclaimer.start()
        Kernel.asked = []

    def add(self, cold_mib: int) -> Path:
        """A cgroup of 500 MiB, so much of it cold."""
        directory = self.site.add("/a", current=500 * MIB)
        (directory / "memory.reclaim").write_text("", "ascii")
        Kernel.cold_bytes = cold_mib * MIB
        return directory

    def take(self, **changes: Any) -> StepResult:
        """Ask for it, and wait for what comes of it."""
        values: dict[str, Any] = {"decision_id": "1", "amount_bytes": 100 * MIB, "until_s": time.monotonic() + 90}
        self.reclaimer.take(Take(**(values | changes)))
        (result,) = self.site.wait()
        return result

    def close(self) -> None:
        """Let go of everything."""
        self.reclaimer.stop(PATIENCE_S)
        self.site.close()


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    """A fresh one, whose cgroups are answered for."""
    monkeypatch.setattr(reclaim, "CgroupDirectory", Kernel)
    stage = Stage(tmp_path)
    yield stage
    stage.close()


def test_in_pieces(stage: Stage) -> None:
    """So much as was asked for, never more at once than a piece."""
    result = stage.take(directory=str(stage.add(400)))
    assert (result.status, result.why, result.taken_bytes) == ("done", "", 100 * MIB)
    assert max(Kernel.asked) == CHUNK_BYTES
    assert sum(Kernel.asked) == 100 * MIB


def test_nothing_cold_left(stage: Stage) -> None:
    """What there was is told, and it ends soon."""
    result = stage.take(directory=str(stage.add(40)))
    assert (result.status, result.taken_bytes) == ("done", 40 * MIB)
    assert result.why == "there is nothing cold left"
    assert len(Kernel.asked) <= 40 * MIB // CHUNK_BYTES + 1 + MOST_IN_VAIN


def test_time_and_will(stage: Stage) -> None:
    """It ends between two pieces when its time is over, or nobody wants it any more; the next one is not touched by
    that.
    """
    directory = str(stage.add(400))
    result = stage.take(directory=directory, until_s=time.monotonic() - 1)
    assert (result.status, result.why, result.taken_bytes) == ("done", "its time is over", 0)
    stage.reclaimer._dropped.add("1")
    assert stage.take(directory=directory).why == "it is wanted no longer"
    stage.reclaimer.let_go("1")
    assert stage.take(directory=directory).taken_bytes == 100 * MIB
    stage.reclaimer.drop_all()
    assert stage.take(directory=directory, decision_id="2").why == "it is wanted no longer"


def test_ends_as_soon_as_somebody_stalls(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """In small pieces, and not one more once the stall is above what is allowed."""
    directory = stage.add(400)
    taken = reclaim_piece

    def stalling(cgroup: CgroupDirectory, size_bytes: int) -> int:
        stage.site.tree.change_group("/a", some_us=1000 * (len(Kernel.asked) + 1), current=500 * MIB)
        return taken(cgroup, size_bytes)

    monkeypatch.setattr(reclaim, "reclaim_piece", stalling)
    result = stage.take(directory=str(directory), stall_us=3500)
    assert (result.status, result.why) == ("done", "somebody there stalls for it")
    assert Kernel.asked == [PROBE_BYTES] * 4
    assert result.taken_bytes == 4 * PROBE_BYTES


def test_refused(stage: Stage) -> None:
    """A stranger in it, a kernel without the file, a cgroup that is gone or another one: nothing is taken."""
    directory = stage.add(400)
    assert stage.take(directory=str(directory), inode=1).status == "impossible"
    assert stage.take(directory=f"{directory}-gone").why == "No such file or directory"
    stage.site.join(directory, 1)
    result = stage.take(directory=str(directory))
    assert result.status == "impossible"
    assert "which is pid 1" in result.why
    (directory / "memory.reclaim").unlink()
    assert "has no memory.reclaim" in stage.take(directory=str(directory)).why
    assert Kernel.asked == []


def test_a_stranger_who_joins_ends_it(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who is there is looked at again before every piece; what was taken until then is told."""
    directory = stage.add(400)
    taken = reclaim_piece

    def joined(cgroup: CgroupDirectory, size_bytes: int) -> int:
        stage.site.join(directory, 1)
        return taken(cgroup, size_bytes)

    monkeypatch.setattr(reclaim, "reclaim_piece", joined)
    result = stage.take(directory=str(directory))
    assert (result.status, result.taken_bytes) == ("done", CHUNK_BYTES)
    assert "which is pid 1" in result.why
    assert len(Kernel.asked) == 1


def test_from_a_process(stage: Stage) -> None:
    """By process_madvise: the kernel takes the advice; where there is no swap nothing comes of it, and it is said."""
    pid = stage.site.child()
    start = stage.site.start_ticks(pid)
    result = stage.take(processes=(process(pid, 10, start_ticks=start),), amount_bytes=1 << 40)
    assert result.status == "done", result
    assert result.why == "there is nothing left that can be swapped out"
    assert stage.take(processes=(process(pid, 10, start_ticks=start + 1),)).why == "is gone"
    late = stage.take(processes=(process(pid, 10, start_ticks=start),), until_s=time.monotonic() - 1)
    assert (late.status, late.why) == ("done", "its time is over")

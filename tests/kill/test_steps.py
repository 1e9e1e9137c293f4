"""Steps by their declaration: each reaches its thread, and the end waits for what must be put back."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from oomd.kill import held
from oomd.kill.steps import NO_CGROUPS, Steps, open_debts
from oomd.model.decision import Candidate
from oomd.model.proactive import Probe
from oomd.model.snapshot import Cgroup
from oomd.model.steps import FreezeStep, NotifyStep, ReclaimStep, RestartStep, ThrottleStep
from oomd.model.threshold import Threshold
from oomd.model.units import GIB, MIB, SECOND_US
from tests.ends import until_end
from tests.fakes.builders import process, status
from tests.kill.cgroups import Site, text_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from oomd.model.decision import StepResult
    from oomd.model.steps import Gentle

MACHINE = status(swap_total_bytes=GIB, swap_free_bytes=GIB)


class Stage:
    """All workers over a site."""

    def __init__(self, folder: Path) -> None:
        self.site = Site(folder)
        self.steps = Steps(self.site.gate, self.site.proc_fd, str(self.site.root), self.site.debts)
        self.site.results = self.steps._results
        until_end(self.steps.fd)

    def begin(self, step: Gentle, path: str, inode: int = 0) -> StepResult:
        """Ask for it, and wait for the first that comes of it."""
        target = Candidate(process(1), 1, "size", "normal", 1, kind="cgroup", name=path, cgroup=Cgroup(path, inode))
        self.steps.begin("1", step, target, MACHINE, {})
        return self.site.wait()[0]

    def close(self) -> None:
        """Let go of everything."""
        self.steps.close()
        self.site.close()


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    """A fresh one, which does not look at what it holds between two steps of the test."""
    monkeypatch.setattr(held, "LOOK_AGAIN_S", 3600.0)
    stage = Stage(tmp_path)
    yield stage
    stage.close()


def test_each_reaches_its_thread(stage: Stage) -> None:
    """And does what it is for."""
    directory = stage.site.add("/a", current=100 * MIB)
    (directory / "memory.reclaim").write_text("", "ascii")
    assert stage.begin(ThrottleStep(to=0.5), "/a").status == "done"
    assert text_of(directory / "memory.high") == str(50 * MIB)
    assert stage.begin(FreezeStep(), "/a").status == "done"
    assert text_of(directory / "cgroup.freeze") == "1"
    taken = stage.begin(ReclaimStep(Threshold(size_bytes=20 * MIB)), "/a")
    assert (taken.status, taken.taken_bytes) == ("done", 20 * MIB)
    assert stage.begin(RestartStep(), "/a").status == "proved"
    stage.site.join(directory, 1)
    assert "pid 1" in stage.begin(RestartStep(), "/a").why
    assert stage.begin(RestartStep(), "/none").status == "impossible"
    stage.steps.let_go("1", "enough")
    assert {result.status for result in stage.site.wait(2)} == {"put_back"}
    assert text_of(directory / "cgroup.freeze") == "0"


def test_a_probe(stage: Stage) -> None:
    """Proactive reclaim goes the same way; without cgroups it says so."""
    directory = stage.site.add("/a", current=100 * MIB)
    (directory / "memory.reclaim").write_text("", "ascii")
    asked = Probe("/a", os.stat(directory).st_ino, 8 * MIB, 6000)
    stage.steps.probe("probe 1 /a", asked, 60 * SECOND_US)
    (result,) = stage.site.wait()
    assert (result.decision_id, result.taken_bytes) == ("probe 1 /a", 8 * MIB)
    bare = Steps(stage.site.gate, stage.site.proc_fd, None, None)
    until_end(bare.fd)
    bare.probe("probe 2 /a", asked, SECOND_US)
    assert bare.take_results()[0].why == NO_CGROUPS


def test_the_end_puts_back(tmp_path: Path) -> None:
    """All of it before it returns."""
    stage = Stage(tmp_path)
    directory = stage.site.add("/a", current=100 * MIB)
    stage.begin(ThrottleStep(), "/a")
    stage.begin(FreezeStep(), "/a")
    stage.steps.close()
    assert text_of(directory / "memory.high") == "max"
    assert text_of(directory / "cgroup.freeze") == "0"
    assert {result.why for result in stage.steps.take_results()} == {"oomd ends"}
    assert not stage.site.written_down()
    stage.site.close()


def test_threads_are_started_before_they_are_needed(stage: Stage) -> None:
    """Those that the rules may need, and no others."""
    before = set(os.listdir("/proc/self/task"))
    stage.steps.prepare((NotifyStep(), ThrottleStep(), ReclaimStep(), ThrottleStep()))
    assert len(set(os.listdir("/proc/self/task")) - before) == 2
    stage.steps.prepare((FreezeStep(), RestartStep()))
    assert len(set(os.listdir("/proc/self/task")) - before) == 4
    stage.steps.spare(frozenset({4711}))
    assert {worker.gate.own_pids for worker in stage.steps._workers()} == {frozenset({4711})}


def test_another_cgroup_of_that_name(stage: Stage) -> None:
    """The inode that was seen when it was chosen counts."""
    stage.site.add("/a", current=100 * MIB)
    assert "another one" in stage.begin(ThrottleStep(), "/a", inode=1).why


def test_without_cgroups(stage: Stage) -> None:
    """Nothing can be done, and it is said; a process can be swapped out all the same."""
    steps = Steps(stage.site.gate, stage.site.proc_fd, None, None)
    until_end(steps.fd)
    stage.site.results, mine = steps._results, stage.site.results
    target = Candidate(process(1), 1, "size", "normal", 1, kind="cgroup", name="/a")
    steps.begin("1", FreezeStep(), target, MACHINE, {})
    assert stage.site.wait()[0].why == NO_CGROUPS
    pid = stage.site.child()
    start = stage.site.start_ticks(pid)
    victim = Candidate(process(pid, 10, start_ticks=start), 1, "size", "normal", 1)
    steps.begin("2", ReclaimStep(timeout_us=60 * SECOND_US), victim, MACHINE, {})
    assert stage.site.wait()[0].status == "done"
    steps.note("3", "done", "somebody else did it")
    assert stage.site.wait()[0].decision_id == "3"
    steps.close()
    stage.site.results = mine


def test_debts_of_a_folder(tmp_path: Path) -> None:
    """None where there is no folder."""
    assert open_debts("", "me") is None
    assert open_debts(f"{tmp_path}/none", "me") is None
    debts = open_debts(str(tmp_path), "me")
    assert debts is not None
    os.close(debts._fd)

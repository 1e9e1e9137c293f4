"""A chosen cgroup killed as a whole: by the executor and its sets, on real processes."""

from __future__ import annotations

import os
import signal
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from oomd.engine.levels import parts_of
from oomd.kill.targets import begin_all
from oomd.kill.whole import WholeCgroups
from oomd.model.decision import KILL, Candidate, Decision
from tests.descriptors import open_descriptors, opened_since
from tests.kill.test_executor import FRESH, LOW, Stage
from tests.reap.levers import control_group, find_mount

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def stage() -> Iterator[Stage]:
    """A fresh stage."""
    stage = Stage()
    yield stage
    stage.close()


def chosen(path: str, *parts: Candidate, whole: bool = True) -> Decision:
    """To kill this cgroup, of which these were seen."""
    members = tuple(part.process for part in parts)
    target = Candidate(members[0], 1, "size", "normal", 1, kind="cgroup", name=path, members=members)
    return Decision(KILL, "test", LOW, ruleset="level", target=target, whole_cgroup=whole)


def fake_group(folder: Path, *pids: int) -> Path:
    """A directory that looks like one."""
    group = folder / "a"
    group.mkdir()
    (group / "cgroup.procs").write_text("".join(f"{pid}\n" for pid in pids), "ascii")
    (group / "cgroup.kill").write_text("", "ascii")
    return group


def begin(stage: Stage, decision: Decision) -> None:
    """Carry it out."""
    assert decision.target is not None
    begin_all(stage.executor, "1", decision, parts_of(decision.target), FRESH, lambda _: -1)


def test_one_write_beside_the_signals(stage: Stage, tmp_path: Path) -> None:
    """Newcomers of ours are among those who are killed by it; no descriptor stays open for them. The signals come in
    any case.
    """
    victim, late = stage.start("hold", "one", "8"), stage.start("hold", "late", "4")
    group = fake_group(tmp_path, victim.process.id.pid, late.process.id.pid)
    stage.executor.whole = WholeCgroups(str(tmp_path), stage.executor._gate, stage.proc_fd)  # type: ignore[arg-type]
    before = open_descriptors()
    assert stage.executor.whole.kill(chosen("/a", victim).target, ())  # type: ignore[arg-type]
    assert opened_since(before) == []
    assert (group / "cgroup.kill").read_text("ascii") == "1"
    begin(stage, chosen("/a", victim))
    assert stage.children[0].wait(timeout=120) == -signal.SIGKILL
    assert stage.children[1].poll() is None  # plain files kill nobody


def test_a_stranger_saves_the_cgroup_and_not_the_victims(stage: Stage, tmp_path: Path) -> None:
    """Nothing is written; those who were chosen get their signals."""
    victim = stage.start("hold", "one", "8")
    group = fake_group(tmp_path, victim.process.id.pid, 1)
    stage.executor.whole = WholeCgroups(str(tmp_path), stage.executor._gate, stage.proc_fd)  # type: ignore[arg-type]
    begin(stage, chosen("/a", victim))
    assert (group / "cgroup.kill").read_text("ascii") == ""
    assert stage.children[0].wait(timeout=120) == -signal.SIGKILL


def test_only_where_the_ladder_says_so(stage: Stage, tmp_path: Path) -> None:
    """`kill` is signals; and what is no cgroup cannot be killed as one."""
    victim = stage.start("hold", "one", "8")
    group = fake_group(tmp_path, victim.process.id.pid)
    whole = stage.executor.whole = WholeCgroups(str(tmp_path), stage.executor._gate, stage.proc_fd)  # type: ignore[arg-type]
    plain = chosen("/a", victim, whole=False)
    assert not stage.executor.kill_whole(plain)
    assert plain.target is not None
    assert not whole.kill(replace(plain.target, kind="session"), ())
    assert not whole.kill(replace(plain.target, name="/none"), ())
    assert (group / "cgroup.kill").read_text("ascii") == ""
    stage.executor.whole = None
    assert not stage.executor.kill_whole(chosen("/a", victim))


@pytest.mark.integration
def test_real_cgroup(stage: Stage) -> None:
    """Who was never seen by anybody dies with the others."""
    mount = find_mount("freezer", 2)
    if mount is None or not os.access(f"{mount.point}/cgroup.procs", os.W_OK):
        pytest.skip("no cgroups of version 2 that we may make")
    victim, late = stage.start("hold", "one", "8"), stage.start("hold", "late", "4")
    with control_group(mount) as group:
        for each in (victim, late):
            (group / "cgroup.procs").write_text(str(each.process.id.pid), "ascii")
        gate = stage.executor._gate
        assert gate is not None
        stage.executor.whole = WholeCgroups(mount.point, gate, stage.proc_fd)
        begin(stage, chosen(f"/{group.name}", victim))
        assert [child.wait(timeout=120) for child in stage.children] == [-signal.SIGKILL] * 2

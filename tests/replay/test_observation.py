"""What a step's trees say, and how a broken one is told."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oomd.config.loader import default_config, load_config
from oomd.model.config import Config
from oomd.model.units import GIB
from oomd.replay.observation import Observation, Observer
from oomd.replay.trace import ReplayError, read_trace
from tests.ends import until_end
from tests.fakes.cgroup_tree import CgroupTree
from tests.replay.traces import BIG_AND_SMALL, LOW, add_step

if TYPE_CHECKING:
    from pathlib import Path


def observed(root: Path, config: Config | None = None, step: int = 0) -> Observation:
    """One step of the trace."""
    seen = Observer(config or default_config()).observe(read_trace(str(root))[step])
    until_end(seen.watch)
    return seen


def test_everybody_is_seen(tmp_path: Path) -> None:
    """Every process with its exact size and what only it holds, at the step's time."""
    tree = add_step(tmp_path, "7.5", LOW, BIG_AND_SMALL)
    tree.change_process(50, private=GIB)
    seen = observed(tmp_path)
    assert seen.status.time_us == 7_500_000
    assert seen.status.mem_available_bytes == LOW
    assert [process.id.pid for process in seen.snapshot.processes] == [50, 60, 1]
    assert abs((seen.snapshot.processes[0].private_bytes or 0) - GIB) < 4096
    assert seen.snapshot.complete


def test_optional_files_may_be_missing(tmp_path: Path) -> None:
    """Without pressure, counters, roll-ups and lists a step still has its processes."""
    tree = add_step(tmp_path, "0", LOW, BIG_AND_SMALL)
    for name in ("vmstat", "loadavg", "zoneinfo", "swaps", "pressure/memory", "50/smaps_rollup", "50/oom_score_adj"):
        (tree.root / name).unlink()
    seen = observed(tmp_path)
    assert seen.status.psi_full_us is None
    assert seen.snapshot.processes[0].private_bytes is None
    assert seen.snapshot.processes[0].size_bytes == 3 * GIB


def test_owners_of_processes(tmp_path: Path) -> None:
    """meta.yaml may say whose a process is."""
    add_step(tmp_path, "0", LOW, BIG_AND_SMALL)
    (tmp_path / "0" / "meta.yaml").write_text("owners: {proc/50: 33}")
    assert [process.uid for process in observed(tmp_path).snapshot.processes] == [33, 1000, 0]


def test_budget_of_a_cgroup(tmp_path: Path) -> None:
    """Usage comes from the step's cgroup tree; without one that is told."""
    add_step(tmp_path, "0", LOW, BIG_AND_SMALL)
    config = load_config(None, overrides={"scope": "cgroup:/a", "budget": "4GiB"})
    assert isinstance(config, Config)
    with pytest.raises(ReplayError, match="step 0: cgroup /a: the trace has no cgroup/ tree"):
        observed(tmp_path, config)
    CgroupTree(tmp_path / "0" / "cgroup").add_group("/a", anon=3 * GIB)
    budget = observed(tmp_path, config).status.budget
    assert budget is not None
    assert budget.usage_bytes == 3 * GIB


def test_broken_files_are_named(tmp_path: Path) -> None:
    """A broken meminfo of one step is told with the step and its path."""
    add_step(tmp_path, "0", LOW, {})
    tree = add_step(tmp_path, "3", LOW, {})
    (tree.root / "meminfo").write_text("MemTotal: many\n")
    with pytest.raises(ReplayError, match=rf"step 3: {tree.root}/meminfo: MemTotal is missing or malformed"):
        observed(tmp_path, step=1)
    (tree.root / "meminfo").unlink()
    with pytest.raises(ReplayError, match=rf"step 3: {tree.root}/meminfo: No such file"):
        observed(tmp_path, step=1)


def test_scope_is_of_the_trace(tmp_path: Path) -> None:
    """A tree scope names a pid of the recorded machine; who is outside is not taken."""
    add_step(tmp_path, "0", LOW, BIG_AND_SMALL)
    config = load_config(None, overrides={"scope": "tree:60"})
    assert isinstance(config, Config)
    outside = {process.id.pid: bool(process.out_of_scope) for process in observed(tmp_path, config).snapshot.processes}
    assert outside == {50: True, 60: False, 1: True}
    config = load_config(None, overrides={"scope": "tree:61"})
    assert isinstance(config, Config)
    with pytest.raises(ReplayError, match="step 0: tree:61: there is no process 61"):
        observed(tmp_path, config)


@given(
    data=st.binary(max_size=300),
    name=st.sampled_from(["meminfo", "pressure/memory", "50/stat", "50/status", "zoneinfo"]),
)
def test_any_bytes(tmp_path_factory: pytest.TempPathFactory, data: bytes, name: str) -> None:
    """Whatever a file holds, the step is read without it or told to be broken."""
    root = tmp_path_factory.mktemp("bytes")
    tree = add_step(root, "0", LOW, BIG_AND_SMALL)
    (tree.root / name).write_bytes(data)
    try:
        assert observed(root).status.mem_total_bytes >= 0
    except ReplayError as error:
        assert "step 0" in str(error)  # noqa: PT017 - either outcome is right

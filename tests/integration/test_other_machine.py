"""``oomd run --dry-run --proc DIR``: the whole daemon on a machine that is a tree of files, whose memory the test
moves.
"""

from __future__ import annotations

import os
import sys
import time
from typing import TYPE_CHECKING

import pytest

from oomd.model.units import GIB, MIB
from tests.fakes.proc_tree import ProcTree
from tests.integration.harness import PATIENCE_S, Guarded

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.integration


@pytest.fixture
def machine(tmp_path: Path) -> ProcTree:
    """8 GiB, half of it available, a database and a leaker."""
    tree = ProcTree(tmp_path / "proc")
    tree.set_meminfo(total=8 * GIB, available=4 * GIB, anon=3 * GIB)
    tree.set_pressure(0, 0)
    tree.set_vmstat(pgalloc_normal=1, pgfault=1)
    tree.add_process(1, comm="init", rss_anon=10 * MIB)
    tree.add_process(50, comm="database", rss_anon=900 * MIB, oom_score_adj=-900)
    tree.add_process(60, comm="leaker", rss_anon=800 * MIB)
    return tree


@pytest.fixture
def run(machine: ProcTree, tmp_path: Path) -> Iterator[Guarded]:
    """The daemon, watching that machine."""
    argv = [sys.executable, "-m", "oomd", "run", "--dry-run", "--proc", str(machine.root), "--log-format", "json"]
    with Guarded([*argv, "--runtime-dir", str(tmp_path / "run")], env={"OOMD_SCOPE": ""}) as run:
        run.wait_event("start")
        yield run


def test_level_of_a_machine(machine: ProcTree, run: Guarded) -> None:
    """Below 5 % of what is available and anonymous the leaker would be asked to go: the database is protected in
    proportion.
    """
    machine.set_meminfo(total=8 * GIB, available=300 * MIB, anon=7 * GIB)
    event = run.wait_event("decision")
    assert (event["decision"]["action"], event["decision"]["target"]["comm"]) == ("term", "leaker")
    assert event["dry_run"] is True
    assert event["status"]["available_bytes"] == 300 * MIB
    assert run.of("decision") == [event]


def test_critical_level_of_a_machine(machine: ProcTree, run: Guarded) -> None:
    """Below half of that there is no time to ask."""
    machine.set_meminfo(total=8 * GIB, available=100 * MIB, anon=7 * GIB)
    assert run.wait_event("decision")["decision"]["action"] == "kill"


def test_stall_with_swap_free(machine: ProcTree, run: Guarded) -> None:
    """F3, F5: with swap nearly empty of use the level is silent; full stall while memory is short is not."""
    machine.set_meminfo(total=8 * GIB, available=400 * MIB, anon=6 * GIB, swap_total=4 * GIB, swap_free=3 * GIB)
    begin, stalled, longest = time.monotonic(), 0, 0
    while not run.of("decision") and time.monotonic() - begin < PATIENCE_S:
        before, stalled = stalled, int((time.monotonic() - begin) * 0.6e6)
        longest = max(longest, stalled - before)
        machine.set_pressure(stalled, stalled)
        os.sched_yield()
    event = run.wait_event("decision")
    assert event["decision"]["ruleset"] == "stall"
    assert event["decision"]["action"] == "term"
    # After five seconds of it, and what nobody has written or looked at meanwhile because the machine is busy.
    assert event["status"]["psi_full_us"] < 3_000_000 + longest + event["times"]["lag_us"]


def test_some_stall_is_no_alarm(machine: ProcTree, run: Guarded) -> None:
    """F7: ``some`` may rise as it likes; as long as others can run, nobody dies."""
    machine.set_meminfo(total=8 * GIB, available=700 * MIB, anon=6 * GIB, swap_total=4 * GIB, swap_free=3 * GIB)
    begin = time.monotonic()
    while time.monotonic() - begin < 4:
        machine.set_pressure(int((time.monotonic() - begin) * 1e6), 0)
        os.sched_yield()
    assert run.of("decision") == []

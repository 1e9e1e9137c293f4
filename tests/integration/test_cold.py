"""The rule that takes whoever uses his memory least, on real processes: the one that lets it lie goes before the larger
one that works with it.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest

from oomd.config.loader import load_config
from oomd.kernel.files import PAGE_BYTES, KernelFile
from oomd.kernel.scope import ScopeGuard
from oomd.kill.executor import Executor
from oomd.kill.forgetting import Forgetting
from oomd.kill.warrant import Gate
from oomd.loop import Loop
from oomd.model.config import Config
from oomd.model.scope import parse_scope
from oomd.monitor.bound import GrowthBound
from oomd.monitor.process_table import ProcessTable
from oomd.monitor.sampler import Sampler
from oomd.monitor.selfcheck import own_and_ancestors
from oomd.monitor.sharing import SharingMeter
from oomd.monitor.waiter import Waiter
from oomd.parts import Parts
from tests.ends import stop_at_end, until_end
from tests.fakes.proc_tree import GIB, ProcTree
from tests.integration.harness import ACTORS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.integration

RULES = """
rulesets:
  - name: low
    when: {all: [{memory_available: {below: 1GiB}}]}
    choose: {policy: {cold: {clear_refs: %s}}}
    then: [{kill: {}}]
"""


@pytest.fixture
def actors() -> Iterator[dict[str, int]]:
    """The pids of one that works with 96 MiB, and of one that lets 64 MiB lie."""
    with (
        subprocess.Popen([sys.executable, ACTORS, "churn", "worker", "96"], stdout=subprocess.PIPE) as worker,
        subprocess.Popen([sys.executable, ACTORS, "hold", "idler", "64"], stdout=subprocess.PIPE) as idler,
    ):
        for actor in (worker, idler):
            assert actor.stdout is not None
            actor.stdout.readline()
        yield {"worker": worker.pid, "idler": idler.pid}
        worker.kill()
        idler.kill()


def loop_of(machine: ProcTree, rules: str, told: list[Any]) -> Loop:
    """A dry run of the loop on the real processes of this test, whose memory is what the fake machine says. Touches are
    watched all the same: what a dry run may not do is what the test is about.
    """
    proc_fd = until_end(os.open("/proc", os.O_RDONLY | os.O_DIRECTORY))
    guard = ScopeGuard(parse_scope(f"tree:{os.getpid()}"), proc_fd)
    own = own_and_ancestors(proc_fd)
    sharing, waiter = SharingMeter(proc_fd), until_end(Waiter())
    sharing.forgets = Forgetting(Gate(guard, proc_fd, own), proc_fd).prepare
    sharing.start()
    stop_at_end(sharing)
    parts = Parts(
        waiter=waiter,
        sampler=until_end(Sampler(str(machine.root), PAGE_BYTES)),
        table=ProcessTable(
            proc_fd,
            guard,
            own,
            bound=GrowthBound(until_end(KernelFile("/proc/vmstat")), PAGE_BYTES),
            loadavg=until_end(KernelFile("/proc/loadavg")),
            page_bytes=PAGE_BYTES,
        ),
        sharing=sharing,
        executor=Executor(None, None, waiter),
        on_event=lambda key, lost: None,
        report=told.append,
        on_tick=lambda now: None,
    )
    config = load_config("x", text=rules.encode())
    assert isinstance(config, Config)
    return Loop(parts, config.rules)


@pytest.mark.parametrize(("clear_refs", "victim"), [("true", "idler"), ("false", "worker")])
def test_who_lets_his_memory_lie_goes_first(
    tmp_path: Path, actors: dict[str, int], clear_refs: str, victim: str
) -> None:
    """While memory is plentiful the kernel takes everything for touched, and size decides; watched, the worker lives.
    It is watched while danger nears, long before anybody is chosen.
    """
    machine = ProcTree(tmp_path / "proc")
    machine.set_meminfo(available=GIB + GIB // 2)
    told: list[Any] = []
    loop = loop_of(machine, RULES % clear_refs, told)
    rows = loop.parts.table.rows

    def known() -> bool:
        rows_there = [rows[pid] for pid in actors.values() if pid in rows]
        if clear_refs == "true":
            return len(rows_there) == 2 and all(row.touches.over_us for row in rows_there)
        return len(rows_there) == 2 and all(row.measured_us for row in rows_there)

    end = time.monotonic() + 90
    while not known():
        assert time.monotonic() < end
        loop.tick()
        rows = loop.parts.table.rows
    assert [event for event in told if event["event"] == "decision"] == []
    machine.set_meminfo(available=GIB // 2)
    while not told:
        assert time.monotonic() < end
        loop.tick()
    assert [event["decision"]["target"]["pid"] for event in told if event["event"] == "decision"] == [actors[victim]]
    loop.parts.table.close()

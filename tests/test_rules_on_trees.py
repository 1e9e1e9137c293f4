"""Rules over cgroups from files to the decision: the real readers on trees of plain files; nobody is signalled."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oomd.__main__ import main
from oomd.config.loader import load_config
from oomd.engine.detection import initial_state, observe
from oomd.engine.selection import select
from oomd.kernel.files import PAGE_BYTES, KernelFile
from oomd.kernel.scope import ScopeGuard
from oomd.kill.executor import Executor
from oomd.loop import Loop
from oomd.model.config import Config
from oomd.model.ruleset import Rules
from oomd.model.scope import Scope
from oomd.model.snapshot import Cgroup, Counters, Details, Watermarks, Zram
from oomd.model.units import GIB, MIB
from oomd.monitor.bound import GrowthBound
from oomd.monitor.process_table import ProcessTable
from oomd.monitor.sampler import Sampler
from oomd.monitor.sharing import SharingMeter
from oomd.monitor.waiter import Waiter
from oomd.monitor.watch import CgroupWatch
from oomd.parts import Parts, clock_us
from tests.ends import until_end
from tests.fakes.builders import pressure, process, snapshot, status
from tests.fakes.cgroup_tree import CgroupTree
from tests.fakes.proc_tree import ProcTree

RULES_FILE = Path(__file__).parents[1] / "configs" / "rules.yaml"

SLICE = """
rulesets:
  - name: slice
    when:
      any:
        - all: [{memory_above: {of: "/system.slice/*", above: 3GiB}}]
        - all: [{reclaim: {of: /system.slice}}]
    choose: {from: ["/system.slice/*"], level: LEVEL, policy: growth_or_size, recursive: RECURSIVE}
    then: [{kill: {}}]
"""


@pytest.fixture
def trees(tmp_path: Path) -> tuple[ProcTree, CgroupTree]:
    """A web service with two workers beneath it, a database that holds less, a user's hog that no rule asks about."""
    proc, cgroups = ProcTree(tmp_path / "proc"), CgroupTree(tmp_path / "cgroup")
    proc.set_meminfo(total=16 * GIB, available=2 * GIB, anon=12 * GIB)
    web, database, user = "/system.slice/web", "/system.slice/database", "/user.slice/hog"
    for pid, size, cgroup in (
        (1001, 2 * GIB, f"{web}/worker1"),
        (1002, GIB, f"{web}/worker2"),
        (1003, 2 * GIB, database),
        (1004, 6 * GIB, user),
    ):
        proc.add_process(pid, rss_anon=size, cgroup=cgroup, comm=cgroup.rpartition("/")[2])
    for path, size in ((web, 3 * GIB + MIB), (f"{web}/worker1", 2 * GIB), (f"{web}/worker2", GIB), (database, 2 * GIB)):
        cgroups.add_group(path, anon=size)
    cgroups.add_group(user, anon=6 * GIB)
    return proc, cgroups


def write(folder: Path, level: str, *, recursive: bool) -> str:
    """The configuration at this level."""
    path = folder / "rules.yaml"
    path.write_text(SLICE.replace("LEVEL", level).replace("RECURSIVE", "true" if recursive else "false"))
    return str(path)


def explained(capsys: pytest.CaptureFixture[str], trees: tuple[ProcTree, CgroupTree], config: str) -> dict[str, Any]:
    """``oomd explain --json`` on these trees."""
    proc, cgroups = trees
    assert main(["explain", "--json", "--config", config, "--proc", str(proc.root), "--cgroup", str(cgroups.root)]) == 0
    decision: dict[str, Any] = json.loads(capsys.readouterr().out)["decision"]
    return decision


@pytest.mark.parametrize(
    ("level", "recursive", "name", "pids"),
    [
        ("cgroup", False, "/system.slice/web", [1001, 1002]),
        ("cgroup", True, "/system.slice/web/worker1", [1001]),
        ("process_in", False, None, [1001]),
        ("process", False, None, [1001]),
    ],
)
def test_explain_at_every_level(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    trees: tuple[ProcTree, CgroupTree],
    level: str,
    recursive: bool,
    name: str | None,
    pids: list[int],
) -> None:
    """The slice's alarm takes of the slice: the unit, its worst worker, or one process; never the hog outside."""
    decision = explained(capsys, trees, write(tmp_path, level, recursive=recursive))
    assert (decision["action"], decision["pids"], decision["target"].get("name")) == ("kill", pids, name)


def test_oom_group_is_one_whole(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], trees: tuple[ProcTree, CgroupTree]
) -> None:
    """memory.oom.group=1 ends the way down."""
    trees[1].change_group("/system.slice/web", oom_group=True)
    decision = explained(capsys, trees, write(tmp_path, "cgroup", recursive=True))
    assert decision["pids"] == [1001, 1002]


@pytest.fixture
def loop(tmp_path: Path, trees: tuple[ProcTree, CgroupTree]) -> tuple[Loop, list[Any]]:
    """The daemon's loop in a dry run on the trees, with what it reports."""
    proc, cgroups = trees
    config = load_config(write(tmp_path, "cgroup", recursive=False))
    assert isinstance(config, Config)
    proc_fd = until_end(os.open(proc.root, os.O_RDONLY | os.O_DIRECTORY))
    told: list[Any] = []
    waiter = until_end(Waiter())
    parts = Parts(
        waiter=waiter,
        sampler=until_end(Sampler(str(proc.root), PAGE_BYTES)),
        table=until_end(
            ProcessTable(
                proc_fd,
                ScopeGuard(Scope(), proc_fd),
                frozenset(),
                bound=GrowthBound(until_end(KernelFile(f"{proc.root}/vmstat")), PAGE_BYTES),
                loadavg=until_end(KernelFile(f"{proc.root}/loadavg")),
                page_bytes=PAGE_BYTES,
            )
        ),
        sharing=SharingMeter(proc_fd),
        executor=Executor(None, None, waiter),
        on_event=lambda key, lost: None,
        report=told.append,
        on_tick=lambda now: None,
        cgroups=until_end(CgroupWatch(str(cgroups.root))),
    )
    return Loop(parts, config.rules), told


def test_loop_takes_a_cgroup_with_one_credit_for_each_process(loop: tuple[Loop, list[Any]]) -> None:
    """From the cgroup's files through the alarm to a decision on all its processes, told once."""
    one, told = loop
    one.tick()
    assert [event["event"] for event in told] == ["decision"]
    assert told[0]["decision"]["target"]["name"] == "/system.slice/web"
    assert told[0]["detections"][0]["evidence"][0]["cgroups"] == ["/system.slice/web"]
    assert sorted(credit.process.id.pid for credit in one.state.credits) == [1001, 1002]
    one.tick()
    assert len(told) == 1


def test_who_was_moved_since_the_last_look_dies_with_its_cgroup(
    loop: tuple[Loop, list[Any]], trees: tuple[ProcTree, CgroupTree]
) -> None:
    """A service manager forks first and moves then: at the decision cgroup.procs is asked, too."""
    one, told = loop
    proc, cgroups = trees
    web = "/system.slice/web"
    cgroups.change_group(web, anon=GIB)  # no alarm yet
    proc.set_vmstat(pgalloc_normal=1000, pgfault=1000)  # nobody can have grown: no scan is wanted
    proc.change_process(1004, cgroup=f"{web}/worker2")
    one.parts.table.scan(one.parts.sampler.read_status(0), clock_us)
    one.tick()
    assert told == []
    proc.change_process(1004, cgroup="/user.slice/hog")  # out again
    proc.change_process(1003, cgroup=f"{web}/worker1")
    cgroups.change_group(f"{web}/worker1", pids=(1001, 1003))
    cgroups.change_group(f"{web}/worker2", pids=(1002,))
    cgroups.change_group(web, anon=3 * GIB + MIB)
    for _ in range(20):  # files of cgroups are not read at every tick
        if not told:
            one.tick()
    assert sorted(told[0]["decision"]["pids"]) == [1001, 1002, 1003]


def test_reload_reads_what_the_new_rules_want(loop: tuple[Loop, list[Any]], trees: tuple[ProcTree, CgroupTree]) -> None:
    """Rules that look at other cgroups see those from the next tick on."""
    one, told = loop
    trees[1].change_group("/system.slice/web", anon=GIB)
    one.tick()
    assert told == []
    path = Path(str(trees[0].root)).parent / "rules.yaml"
    path.write_text(
        "rulesets: [{name: user, when: {all: [{memory_above: {of: /user.slice/hog, kind: anon, above: 5GiB}}]},"
        " choose: {from: [/user.slice/hog], policy: cold}, then: [{kill: {}}]}]\n"
    )
    config = load_config(str(path))
    assert isinstance(config, Config)
    one.replace_rules(config.rules)
    one.tick()
    assert [event["decision"]["pids"] for event in told] == [[1004]]


def _every_ruleset() -> list[Any]:
    config = load_config(str(RULES_FILE))
    assert isinstance(config, Config)
    return list(config.rules.rulesets)


@given(
    st.sampled_from(_every_ruleset()),
    st.integers(0, 8192),
    st.integers(0, 8192),
    st.integers(0, 4096),
    st.booleans(),
)
def test_more_available_memory_never_turns_none_into_kill_from_a_fresh_state(
    ruleset: Any, one: int, other: int, growth: int, busy: bool
) -> None:
    """For every ruleset of the collection: from a fresh state, more available memory and all else equal is never
    answered by a kill where less was not.
    """
    poor, rich = sorted((one, other))
    rules = Rules((ruleset,))
    paths = ["/system.slice/web.slice/a", "/system.slice/web.slice", "/system.slice/importer.service", "/user.slice/x"]
    answers = []
    for available in (rich, poor):
        state = initial_state(rules)
        decision = None
        for step in range(8):
            busyness = step * 1_000_000 if busy else 0
            stall = pressure(0.9, 0.9, total_us=busyness)
            groups = tuple(
                Cgroup(
                    path,
                    time_us=step * 1_000_000,
                    current_bytes=GIB + step * growth * MIB,
                    anon_bytes=GIB + step * growth * MIB,
                    pgscan=busyness,
                    memory_pressure=stall,
                    pids=6000,
                )
                for path in (*paths, "/system.slice/postgresql.service", "/user.slice", "/")
            )
            counters = Counters(busyness, busyness, busyness, 0, busyness, 0, busyness)
            details = Details(counters, Watermarks(-1, -1, -1), Zram(GIB, GIB, GIB, 0, GIB), stall, stall, stall, 9000)
            now = status(
                time_us=step * 1_000_000,
                mem_available_bytes=available * MIB,
                anon_bytes=8192 * MIB - available * MIB,
                details=details,
                file_bytes=MIB,
            )
            detections, state = observe(rules, now, state, groups)
            machine = snapshot(
                *(process(100 + place, 50, cgroup=path) for place, path in enumerate(paths)), status=now, cgroups=groups
            )
            decision = select(rules, machine, detections, state)
        assert decision is not None
        answers.append({"term": 1, "kill": 2}.get(decision.action, 0))
    assert answers[0] <= answers[1]

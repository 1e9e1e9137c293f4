"""The search for a victim on fake trees: what is read of whom before anybody dies."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from oomd.config.loader import load_config
from oomd.engine import nobody
from oomd.engine.preferences import wanted_of
from oomd.kernel.files import PAGE_BYTES, KernelFile
from oomd.kernel.scope import ScopeGuard
from oomd.kill.executor import Executor
from oomd.loop import Loop
from oomd.model.config import Config
from oomd.model.decision import KILL
from oomd.model.scope import Scope
from oomd.monitor.bound import GrowthBound
from oomd.monitor.facts import FactsReader, MarkReader
from oomd.monitor.process_table import ProcessTable
from oomd.monitor.sampler import Sampler
from oomd.monitor.sharing import SharingMeter
from oomd.monitor.waiter import Waiter
from oomd.monitor.watch import CgroupWatch
from oomd.parts import Parts
from oomd.search import LEADING, PATIENCE_US
from tests.ends import stop_at_end, until_end
from tests.fakes.cgroup_tree import CgroupTree
from tests.fakes.proc_tree import GIB, MIB, ProcTree

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Watching = Callable[[str], tuple[Loop, list[Any]]]

RULES = """
rulesets:
  - name: low
    when: {all: [{memory_available: {below: 1GiB}}]}
    choose: {%s}
    then: [{kill: {}}]
"""


@pytest.fixture
def proc(tmp_path: Path) -> ProcTree:
    """A machine that has run out of memory, without processes."""
    tree = ProcTree(tmp_path / "proc")
    tree.set_meminfo(total=16 * GIB, available=GIB // 2, anon=12 * GIB)
    return tree


@pytest.fixture
def watching(tmp_path: Path, proc: ProcTree, monkeypatch: pytest.MonkeyPatch) -> Watching:
    """The daemon's loop in a dry run on the tree, by these rules; and what it reports. It has time."""
    monkeypatch.setitem(PATIENCE_US, KILL, 60_000_000)
    proc_fd = until_end(os.open(proc.root, os.O_RDONLY | os.O_DIRECTORY))
    cgroups = CgroupTree(tmp_path / "cgroup")

    def make(text: str) -> tuple[Loop, list[Any]]:
        config = load_config("x", text=text.encode())
        assert isinstance(config, Config), config
        told: list[Any] = []
        waiter = until_end(Waiter())
        marks = until_end(MarkReader(str(cgroups.root)))
        facts = FactsReader(proc_fd, marks, wanted_of(config.rules.preferences))
        sharing = SharingMeter(proc_fd)
        facts.start()
        sharing.start()
        stop_at_end(facts)
        stop_at_end(sharing)
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
            sharing=sharing,
            executor=Executor(None, None, waiter),
            on_event=lambda key, lost: None,
            report=told.append,
            on_tick=lambda now: None,
            cgroups=until_end(CgroupWatch(str(cgroups.root))),
            facts=facts,
        )
        return Loop(parts, config.rules), told

    return make


def decided(loop: Loop, told: list[Any]) -> dict[str, Any]:
    """Tick until something is decided."""
    end = time.monotonic() + 90
    while not any(event["event"] == "decision" for event in told):
        assert time.monotonic() < end
        loop.tick()
    decision: dict[str, Any] = next(event["decision"] for event in told if event["event"] == "decision")
    return decision


def crowd(proc: ProcTree, first: int, **more: Any) -> None:
    """More and larger processes than are read ahead."""
    for number in range(LEADING + 4):
        proc.add_process(first + number, comm="hog", rss_anon=(400 - number) * MIB, session=first, **more)


@pytest.mark.parametrize("level", ["session", "group"])
def test_a_small_member_that_is_protected_by_its_command_line_saves_the_set(
    proc: ProcTree, watching: Watching, level: str
) -> None:
    """It is too small to be read ahead; before its set dies it is read all the same."""
    crowd(proc, 1000, pgrp=1000)
    proc.add_process(1100, comm="helper", rss_anon=MIB, session=1000, pgrp=1000, cmdline=("helper", "--vital"))
    proc.add_process(2000, comm="other", rss_anon=50 * MIB, session=2000, pgrp=2000, cmdline=("other",))
    loop, told = watching(f"{RULES % f'level: {level}'}protect: [{{cmdline: '*--vital*'}}]\n")
    decision = decided(loop, told)
    assert (decision["target"]["name"], decision["pids"]) == ("2000", [2000])


def test_who_comes_last_only_because_nobody_read_him_is_read(proc: ProcTree, watching: Watching) -> None:
    """The youngest is small, so its command line is not known yet; it is the rule's victim all the same, and the one
    before it in the order, which is protected by its own, is not.
    """
    crowd(proc, 1000, start_ticks=100, cmdline=("hog",))
    proc.add_process(1100, comm="young", rss_anon=MIB, start_ticks=900, cmdline=("young",))
    proc.add_process(1101, comm="younger", rss_anon=MIB, start_ticks=950, cmdline=("younger", "--vital"))
    loop, told = watching(f"{RULES % 'policy: youngest'}protect: [{{cmdline: '*--vital*'}}]\n")
    assert decided(loop, told)["pids"] == [1100]


def test_newcomers_count_against_the_cap(proc: ProcTree, watching: Watching) -> None:
    """Of those who join a set while it dies no more are taken than the rule lets one action take in all."""
    for pid in (1000, 1001):
        proc.add_process(pid, comm="hog", rss_anon=200 * MIB, session=1000)
    loop, told = watching(RULES % "level: session, most: 4")
    assert decided(loop, told)["pids"] == [1000, 1001]
    (under_way,) = {credit.part_of for credit in loop.state.credits}
    assert under_way == "session 1000"
    decision = next(iter(loop.act._sets.values()))
    for pid in (1100, 1101, 1102):
        proc.add_process(pid, comm="late", rss_anon=MIB, session=1000)
    late = loop.search.late(loop.rules, decision, loop.state)
    assert [each.process.id.pid for each in late] == [1100, 1101]
    joined = replace(loop.state.credits[0], process=late[0].process)
    state = replace(loop.state, credits=(*loop.state.credits, joined))
    assert [each.process.id.pid for each in loop.search.late(loop.rules, decision, state)] == [1101]


@pytest.mark.parametrize("big", [True, False])
@pytest.mark.parametrize("change", ["renamed", "dying", "gone"])
def test_what_was_looked_at_by_its_size_is_known_before_it_is_chosen(
    proc: ProcTree, watching: Watching, big: bool, change: str
) -> None:
    """A name, an owner, a death of a moment ago count, of the large and of the small, though all that was read of them
    since is how much they own.
    """
    mib = 300 if big else 30
    for number in range(40):
        proc.add_process(100 + number, comm=f"hold-{number}", rss_anon=(mib - number // 2) * MIB, uid=1000)
    proc.set_vmstat(pgalloc_normal=1000, pgfault=1000)
    proc.set_loadavg(139)
    proc.set_meminfo(total=16 * GIB, available=GIB + GIB // 4, anon=12 * GIB)
    loop, told = watching(RULES % "policy: freeable" + "protect: [kept]\n")
    table = loop.parts.table
    loop.pace = replace(loop.pace, interval_us=0)
    loop.tick()
    assert table.looked_us
    assert not told
    if change == "renamed":
        proc.change_process(100, comm="kept")
        proc.change_process(101, comm="kept")
    elif change == "dying":
        proc.change_process(100, kill_pending=True)
    else:
        proc.remove_process(100)
        proc.remove_process(101)
    proc.set_meminfo(total=16 * GIB, available=GIB // 2, anon=12 * GIB)
    if change == "dying" and big:  # somebody else killed it, and what it owns is worth waiting for
        until = time.monotonic() + 90
        while not loop.state.credits:
            assert time.monotonic() < until
            loop.tick()
        assert (loop.state.credits[0].process.id.pid, loop.state.credits[0].ruleset) == (100, "")
        return
    decision = decided(loop, told)
    expected = {"renamed": 102, "dying": 101, "gone": 102}[change]
    assert (decision["action"], decision["target"]["pid"]) == ("kill", expected)


def test_nobody_among_all_is_not_found_out_twice_a_second(
    proc: ProcTree, watching: Watching, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reading everybody takes time from those who are to be saved, so it is spared until some time is over; whoever is
    large by then and may be killed is found all the same.
    """
    monkeypatch.setattr(nobody, "COST", 1_000_000)
    for number in range(40):
        proc.add_process(100 + number, comm="kept", rss_anon=(300 - number) * MIB)
    proc.set_vmstat(pgalloc_normal=1000, pgfault=1000)
    proc.set_loadavg(139)
    loop, told = watching(RULES % "policy: freeable" + "protect: [kept]\n")
    table = loop.parts.table
    everybody: list[int] = []
    read_everybody = table.read_everybody

    def noted() -> None:
        everybody.append(table.scans)
        read_everybody()

    monkeypatch.setattr(table, "read_everybody", noted)
    loop.pace = replace(loop.pace, interval_us=0)
    assert decided(loop, told)["action"] == "notify"
    assert len(everybody) == 1
    scans, looks = table.scans, []
    for _ in range(5):
        loop.act.nobody_until_us = 0
        loop.tick()
        looks.append(loop.acted)
    assert (looks, len(everybody), table.scans) == ([True] * 5, 1, scans)

    assert loop.search._nobody is not None
    loop.search._nobody = replace(loop.search._nobody, until_us=0)
    loop.act.nobody_until_us = 0
    loop.tick()
    assert len(everybody) == 2

    loop.replace_rules(loop.rules)
    loop.act.nobody_until_us = 0
    loop.tick()
    assert len(everybody) == 3

    told.clear()
    proc.add_process(200, comm="hog", rss_anon=500 * MIB)
    proc.set_loadavg(200)
    loop.act.nobody_until_us = 0
    assert decided(loop, told)["pids"] == [200]


def test_whoever_is_asked_for_by_hand_is_sought_among_all(
    proc: ProcTree, watching: Watching, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is believed where a person waits for the answer."""
    monkeypatch.setattr(nobody, "COST", 1_000_000)
    proc.add_process(100, comm="kept", rss_anon=300 * MIB)
    proc.set_vmstat(pgalloc_normal=1000, pgfault=1000)
    proc.set_loadavg(139)
    loop, told = watching(RULES % "policy: freeable" + "protect: [kept]\n")
    decided(loop, told)
    before = loop.parts.table.scans
    assert loop.status is not None
    chosen = (loop.rules, loop.state, loop.detections, loop.status)
    assert loop.search.select(*chosen, known=True).action == "notify"
    assert loop.parts.table.scans == before
    assert loop.search.select(*chosen).action == "notify"
    assert loop.parts.table.scans > before

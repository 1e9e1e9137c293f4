"""The process table on a fake procfs: the leaders' answer is the full scan's."""

from __future__ import annotations

import os
import random
from typing import TYPE_CHECKING, Any

import pytest

from oomd.kernel.files import PAGE_BYTES, KernelFile
from oomd.kernel.scope import ScopeGuard
from oomd.kernel.smaps import Rollup
from oomd.model.scope import parse_scope
from oomd.model.units import GIB, MIB
from oomd.monitor.bound import GrowthBound
from oomd.monitor.podium import LEADERS, NORMAL, PREFER
from oomd.monitor.process_table import ProcessTable
from oomd.monitor.rest import MOST_KEPT
from tests.ends import until_end
from tests.fakes.builders import status
from tests.fakes.proc_tree import ProcTree

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ROLLUP = Rollup(
    rss_bytes=90 * MIB,
    anonymous_bytes=90 * MIB,
    pss_anon_bytes=80 * MIB,
    pss_shmem_bytes=0,
    private_dirty_bytes=70 * MIB,
    private_clean_bytes=0,
    swap_bytes=0,
    swap_pss_bytes=0,
)
STATUS = status(swap_total_bytes=GIB, swap_free_bytes=GIB // 2)


class Clock:
    """Microseconds that pass only when told."""

    def __init__(self) -> None:
        self.now_us = 0

    def __call__(self) -> int:
        return self.now_us


@pytest.fixture
def tree(tmp_path: Path) -> ProcTree:
    """An empty machine."""
    tree = ProcTree(tmp_path)
    tree.set_meminfo(total=8 * GIB, available=4 * GIB, anon=2 * GIB)
    tree.set_vmstat(pgalloc_normal=1000, pgfault=1000)
    tree.set_loadavg(1)
    tree.add_process(1, comm="init", rss_anon=MIB)
    return tree


@pytest.fixture
def open_table(tree: ProcTree) -> Iterator[Any]:
    """Opens tables on that machine, and closes them."""
    opened = []

    def open_one(scope: str = "machine", own: frozenset[int] = frozenset(), **options: Any) -> ProcessTable:
        proc_fd = os.open(tree.root, os.O_RDONLY | os.O_DIRECTORY)
        table = ProcessTable(
            proc_fd,
            ScopeGuard(parse_scope(scope), proc_fd),
            own,
            bound=GrowthBound(until_end(KernelFile(f"{tree.root}/vmstat")), PAGE_BYTES),
            loadavg=until_end(KernelFile(f"{tree.root}/loadavg")),
            page_bytes=PAGE_BYTES,
            **options,
        )
        opened.append((table, proc_fd))
        return table

    yield open_one
    for table, proc_fd in opened:
        table.close()
        os.close(proc_fd)


def sizes(table: ProcessTable) -> list[tuple[int, int]]:
    """The leaders' pids and MiB."""
    return [(row.pid, row.size_bytes // MIB) for row in table.leaders]


def test_leaders_are_the_largest_with_their_swap(tree: ProcTree, open_table: Any) -> None:
    """Anonymous memory and swap count, shared and file pages do not; kernel threads and the empty are left out."""
    tree.add_process(10, rss_anon=10 * MIB, swap=300 * MIB)
    tree.add_process(11, rss_anon=200 * MIB)
    tree.add_process(12, rss_anon=5 * MIB, rss_file=900 * MIB, rss_shmem=900 * MIB)
    tree.add_process(13, flags=0x00200000)
    table = open_table()
    table.scan(STATUS, Clock())
    assert sizes(table) == [(10, 310), (11, 200), (12, 5), (1, 1)]


def test_who_maps_the_most_is_a_leader_too(tree: ProcTree, open_table: Any) -> None:
    """Beside the largest the four with the most shared memory, if it is worth it, and only who may be taken; and how
    that grew is told as far as it is their own.
    """
    for pid in range(100, 100 + LEADERS + 5):
        tree.add_process(pid, rss_anon=50 * MIB)
    for number in range(6):
        tree.add_process(10 + number, rss_anon=2 * MIB, rss_shmem=(900 - 100 * number) * MIB)
    tree.add_process(20, rss_anon=2 * MIB, rss_shmem=63 * MIB)
    table, clock = open_table(own=frozenset({10})), Clock()
    table.scan(STATUS, clock)
    assert [row.pid for row in table.leaders[LEADERS:]] == [11, 12, 13, 14]
    row = table.rows[11]
    row.own_shmem_share = 0.5
    tree.change_process(11, rss_shmem=1000 * MIB)
    clock.now_us = 2_000_000
    table.look(STATUS, clock)
    assert row.value(clock.now_us).grown[0] == 100 * MIB


def test_own_processes_and_strangers_are_no_leaders(tree: ProcTree, open_table: Any) -> None:
    """oomd itself is never a leader; with a tree scope only the tree is."""
    for pid, parent in ((10, 1), (20, 10), (21, 20), (30, 1)):
        tree.add_process(pid, ppid=parent, rss_anon=pid * MIB)
    table = open_table("tree:10", frozenset({20}))
    table.scan(STATUS, Clock())
    assert sizes(table) == [(21, 21), (10, 10)]
    assert table.last_pids == {10}


def test_adopted_orphan_stays_in_the_tree(tree: ProcTree, open_table: Any) -> None:
    """A process once seen inside a tree stays inside when its parent goes."""
    tree.add_process(10, rss_anon=MIB)
    tree.add_process(20, ppid=10, rss_anon=MIB)
    tree.add_process(21, ppid=20, rss_anon=9 * MIB)
    table = open_table("tree:10")
    table.scan(STATUS, Clock())
    tree.remove_process(20)
    tree.change_process(21, ppid=1)
    table.scan(STATUS, Clock())
    assert (21, 9) in sizes(table)


def test_look_finds_growth_newcomers_and_the_gone(tree: ProcTree, open_table: Any) -> None:
    """Between scans leaders are re-read, new pids are probed, and what is gone is dropped; threads are no newcomers."""
    tree.add_process(10, rss_anon=100 * MIB)
    tree.add_process(11, rss_anon=50 * MIB)
    table = open_table()
    table.scan(STATUS, Clock())
    tree.change_process(11, rss_anon=120 * MIB)
    tree.add_process(15, rss_anon=110 * MIB)
    tree.remove_process(10)
    table.look(STATUS, Clock())
    assert sizes(table)[:2] == [(11, 120), (15, 110)]
    assert 10 not in table.rows


def test_half_born_process_is_found_at_the_next_look(tree: ProcTree, open_table: Any) -> None:
    """Its pid was handed out, to be read in loadavg, before there was anything of it in /proc: around a look, and
    around a scan.
    """
    tree.add_process(10, rss_anon=100 * MIB)
    tree.set_loadavg(11)
    table = open_table()
    table.scan(STATUS, Clock())
    tree.add_process(11, rss_anon=110 * MIB)
    table.look(STATUS, Clock())
    assert sizes(table)[:2] == [(11, 110), (10, 100)]
    tree.set_loadavg(12)
    table.look(STATUS, Clock())
    tree.add_process(12, rss_anon=120 * MIB)
    table.look(STATUS, Clock())
    assert sizes(table)[0] == (12, 120)


def test_renamed_process_is_known_by_its_new_name(tree: ProcTree, open_table: Any) -> None:
    """A name that changes after exec counts at the next look: protection goes by names."""
    tree.add_process(10, comm="sh", rss_anon=100 * MIB)
    table = open_table()
    table.scan(STATUS, Clock())
    tree.change_process(10, comm="sshd")
    table.look(STATUS, Clock())
    assert table.snapshot(STATUS, 0).processes[0].comm == "sshd"


def test_reused_pid_is_another_process(tree: ProcTree, open_table: Any) -> None:
    """F11: a pid that was handed out again is a new row, with a new identity."""
    tree.add_process(10, rss_anon=100 * MIB, start_ticks=5)
    table = open_table()
    table.scan(STATUS, Clock())
    tree.remove_process(10)
    tree.add_process(10, rss_anon=7 * MIB, start_ticks=9)
    table.look(STATUS, Clock())
    table.scan(STATUS, Clock())
    assert [(row.start_ticks, row.size_bytes // MIB) for row in table.leaders if row.pid == 10] == [(9, 7)]


def test_bound_grows_with_what_was_allocated_and_not_explained(tree: ProcTree, open_table: Any) -> None:
    """Pages allocated since the scan may belong to anybody, less what the leaders themselves grew."""
    for pid in range(10, 10 + LEADERS + 5):
        tree.add_process(pid, rss_anon=(200 - pid) * MIB)
    table = open_table()
    table.scan(STATUS, Clock())
    rest = table.rest_bound_bytes()
    assert rest == (200 - 10 - LEADERS) * MIB
    pages = 40 * MIB // PAGE_BYTES
    tree.set_vmstat(pgalloc_normal=1000 + 2 * pages, pgfault=1000 + pages)
    assert table.rest_bound_bytes() == rest + 40 * MIB
    tree.change_process(10, rss_anon=220 * MIB)
    table.look(STATUS, Clock())
    assert table.rest_bound_bytes() == rest + 10 * MIB


def test_without_counters_every_answer_is_a_scan(tree: ProcTree) -> None:
    """Recorded trees may lack vmstat and loadavg: then nothing is proved and everything is read."""
    tree.add_process(10, rss_anon=10 * MIB)
    proc_fd = os.open(tree.root, os.O_RDONLY | os.O_DIRECTORY)
    guard = ScopeGuard(parse_scope("machine"), proc_fd)
    table = ProcessTable(
        proc_fd, guard, frozenset(), bound=GrowthBound(None, PAGE_BYTES), loadavg=None, page_bytes=PAGE_BYTES
    )
    table.look(STATUS, Clock())
    assert table.rest_bound_bytes() > 1 << 60
    tree.add_process(11, rss_anon=20 * MIB)
    table.look(STATUS, Clock())
    assert sizes(table)[0] == (11, 20)
    table.close()
    os.close(proc_fd)


def test_scans_are_rationed(tree: ProcTree, open_table: Any) -> None:
    """A scan is repeated after 5 s, or when the bound nears the leaders, within 5 % of the time."""
    clock = Clock()
    tree.add_process(10, rss_anon=100 * MIB)
    table = open_table()
    assert table.wants_scan(0)
    table.scan(STATUS, clock)
    assert not table.wants_scan(4_999_999)
    assert table.wants_scan(5_000_000)
    pages = 60 * MIB // PAGE_BYTES
    tree.set_vmstat(pgalloc_normal=1000 + pages, pgfault=1000 + pages)
    assert table.wants_scan(1)
    table.ration.cost_us = 10_000
    assert not table.wants_scan(199_999)
    assert table.wants_scan(200_000)


def test_condemned_is_read_no_more(tree: ProcTree, open_table: Any) -> None:
    """From SIGKILL on nobody reads the victim; what it used counts until it is buried."""
    tree.add_process(10, rss_anon=100 * MIB)
    table = open_table(account_all=True)
    table.scan(STATUS, Clock())
    used = table.usage_bytes()
    table.condemn(10)
    table.scan(STATUS, Clock())
    assert 10 not in table.rows
    assert table.usage_bytes() == used
    table.bury(10)
    assert table.usage_bytes() == used - 100 * MIB


def test_everybody_is_read_with_what_spares_him(tree: ProcTree, open_table: Any) -> None:
    """oom_score_adj and cgroup count also for those who are too small to be leaders."""
    for pid in range(100, 102 + LEADERS):
        tree.add_process(pid, rss_anon=(300 - pid) * MIB, oom_score_adj=-1000, cgroup="/a")
    table = open_table(account_all=True)
    table.scan(STATUS, Clock())
    small = next(each for each in table.snapshot(STATUS, 0, everybody=True).processes if each.id.pid == 101 + LEADERS)
    assert (small.oom_score_adj, small.cgroup) == (-1000, "/a")


def test_everybody_is_in_the_full_snapshot(tree: ProcTree, open_table: Any) -> None:
    """For explain, and when no leader may be killed, everybody is shown, kernel threads and strangers too."""
    for pid in range(10, 10 + LEADERS + 20):
        tree.add_process(pid, rss_anon=MIB)
    table = open_table("tree:10")
    table.scan(STATUS, Clock())
    everybody = table.snapshot(STATUS, 0, everybody=True)
    assert everybody.complete
    assert len(everybody.processes) == LEADERS + 21
    assert sum(not process.out_of_scope for process in everybody.processes) == 1


@pytest.mark.parametrize("seed", range(30))
def test_leaders_answer_is_the_full_scans(tree: ProcTree, open_table: Any, seed: int) -> None:
    """Processes grow, shrink, fork, exit and swap at random; the leaders show the largest there is."""
    chance = random.Random(seed)
    table = open_table()
    pids, allocated, clock = [1], 1000, Clock()
    for pid in range(10, 10 + LEADERS + chance.randrange(40)):
        tree.add_process(pid, rss_anon=chance.randrange(1, 60) * MIB)
        pids.append(pid)
    table.scan(STATUS, clock)
    scans = 0
    for step in range(40):
        for _ in range(chance.randrange(4)):
            pid = chance.choice(pids[1:])
            fake = tree._processes[pid]
            kind = chance.choice(["grow", "grow", "shrink", "fork", "exit", "swap"])
            grown = 0
            if kind == "grow":
                grown = chance.choice([1, 5, 40]) * MIB
                tree.change_process(pid, rss_anon=fake.rss_anon + grown)
            elif kind == "shrink":
                tree.change_process(pid, rss_anon=fake.rss_anon // 2)
            elif kind == "swap":
                tree.change_process(pid, rss_anon=0, swap=fake.swap + fake.rss_anon)
            elif kind == "fork":
                child = max(pids) + chance.randrange(1, 4)
                tree.add_process(child, ppid=pid, rss_anon=fake.rss_anon, swap=fake.swap)
                pids.append(child)
            elif len(pids) > LEADERS:
                tree.remove_process(pid)
                pids.remove(pid)
            allocated += grown // PAGE_BYTES + chance.randrange(3)
            tree.set_vmstat(pgalloc_normal=allocated, pgfault=allocated)
        clock.now_us += 100_000
        truth = max(each.rss_anon + each.swap for each in tree._processes.values())
        table.look(STATUS, clock)
        best = table.leaders[0].size_bytes
        if best < table.rest_bound_bytes():
            scans += 1
            table.scan(STATUS, clock)
            best = table.leaders[0].size_bytes
        assert best == truth, f"step {step}"
    assert scans < 40


def test_strangers_never_count_nor_are_named(tree: ProcTree, open_table: Any) -> None:
    """With more processes in scope than there are leaders, those outside are still told apart from those inside."""
    tree.add_process(10, rss_anon=MIB)
    for pid in range(100, 160):
        tree.add_process(pid, ppid=10, rss_anon=12 * MIB)
    for pid in range(200, 220):
        tree.add_process(pid, ppid=1, rss_anon=8 * MIB)
    table = open_table("tree:10", account_all=True)
    table.scan(STATUS, Clock())
    assert table.usage_bytes() == (1 + 60 * 12) * MIB
    everybody = table.snapshot(STATUS, 0, everybody=True).processes
    assert all(process.out_of_scope for process in everybody if process.id.pid >= 200 or process.id.pid == 1)
    assert not any(process.out_of_scope for process in everybody if 10 <= process.id.pid < 200)


def test_growth_is_told_from_the_second_look_on(tree: ProcTree, open_table: Any) -> None:
    """Nothing is known at the first scan; then each leader's growth over what is known, newcomers' from nothing."""
    clock = Clock()
    tree.add_process(1000, rss_anon=500 * MIB)
    tree.add_process(1001, rss_anon=100 * MIB)
    table = open_table()
    table.scan(STATUS, clock)
    assert {each.grown for each in table.snapshot(STATUS, 0).processes} == {()}
    clock.now_us = 3_000_000
    tree.change_process(1001, rss_anon=180 * MIB)
    tree.add_process(1002, rss_anon=50 * MIB)
    table.look(STATUS, clock)
    grown = {each.id.pid: each.grown for each in table.snapshot(STATUS, clock.now_us).processes}
    assert (grown[1000], grown[1001]) == ((0,) * 4, (80 * MIB,) * 4)
    clock.now_us = 6_000_000
    table.scan(STATUS, clock)
    grown = {each.id.pid: each.grown for each in table.snapshot(STATUS, clock.now_us).processes}
    assert grown[1001] == (0, 80 * MIB, 80 * MIB, 80 * MIB)
    assert grown[1002] == (0, 50 * MIB, 50 * MIB, 50 * MIB)


def test_newcomer_of_a_scan_has_grown_from_nothing(tree: ProcTree, open_table: Any) -> None:
    """A process that was not there at the scan before owns nothing that it had then."""
    clock = Clock()
    table = open_table()
    table.scan(STATUS, clock)
    clock.now_us = 5_000_000
    tree.add_process(1000, rss_anon=300 * MIB)
    table.scan(STATUS, clock)
    newcomer = next(each for each in table.snapshot(STATUS, clock.now_us).processes if each.id.pid == 1000)
    assert newcomer.grown == (300 * MIB,) * 4


def test_past_of_a_leader_is_bounded(tree: ProcTree, open_table: Any) -> None:
    """Ten minutes of looks leave some forty sizes."""
    clock = Clock()
    tree.add_process(1000, rss_anon=500 * MIB)
    table = open_table()
    table.scan(STATUS, clock)
    for tick in range(1, 3000):
        clock.now_us = tick * 200_000
        table.look(STATUS, clock)
    assert len(table.rows[1000].history) < 50
    assert not table.wants_look(clock.now_us)
    assert table.wants_look(clock.now_us + 1_000_000)


def test_everybody_is_read_with_all_that_protects(tree: ProcTree, open_table: Any) -> None:
    """Where the machine swaps, sizes are exact without the details; a choice among all reads those too."""
    for pid in range(1000, 1000 + LEADERS + 5):
        tree.add_process(pid, rss_anon=(2000 - pid) * MIB, oom_score_adj=-1000, cgroup="/a")
    table = open_table()
    table.scan(STATUS, Clock())
    everybody = table.snapshot(STATUS, 0, everybody=True).processes
    assert {each.oom_score_adj for each in everybody if each.id.pid >= 1000} == {-1000}
    assert {each.cgroup for each in everybody if each.id.pid >= 1000} == {"/a"}


def looked_at(tree: ProcTree, open_table: Any, count: int) -> tuple[ProcessTable, Clock]:
    """A table with so many small processes behind the leaders, scanned and looked at a moment ago."""
    for pid in range(100, 100 + LEADERS):
        tree.add_process(pid, rss_anon=(100 - (pid - 100)) * MIB)
    for pid in range(1000, 1000 + count):
        tree.add_process(pid, rss_anon=2 * MIB)
    no_swap = status(swap_total_bytes=0, swap_free_bytes=0)
    table, clock = open_table(), Clock()
    table.scan(no_swap, clock)
    clock.now_us = 10
    table.look(no_swap, clock)
    return table, clock


def leap(tree: ProcTree, table: ProcessTable, clock: Clock, pid: int, mib: int) -> None:
    """One takes so much, and the leaders are looked at."""
    pages = mib * MIB // PAGE_BYTES
    tree.change_process(pid, rss_anon=tree._processes[pid].rss_anon + mib * MIB)
    tree.set_vmstat(pgalloc_normal=1000 + pages, pgfault=1000 + pages)
    clock.now_us += 100
    table.look(status(swap_total_bytes=0, swap_free_bytes=0), clock, sizes_only=True)


@pytest.mark.parametrize(("pid", "most"), [(1000, 1), (1009, 10), (1039, 40)])
def test_whoever_leapt_is_sought_among_the_largest_first(
    tree: ProcTree, open_table: Any, monkeypatch: pytest.MonkeyPatch, pid: int, most: int
) -> None:
    """Once he is found nobody else can have grown, and nobody else is read; he leads, and has grown by what he took."""
    table, clock = looked_at(tree, open_table, MOST_KEPT + 1)
    leap(tree, table, clock, pid, 300)
    assert table.rest_bound_bytes() > table.leaders[0].size_bytes
    read: set[str] = set()
    real = os.open

    def counted(path: Any, *words: Any, **more: Any) -> int:
        if os.fsdecode(path).endswith("/statm"):
            read.add(os.fsdecode(path))
        return real(path, *words, **more)

    monkeypatch.setattr(os, "open", counted)
    clock.now_us = 3_000_000
    table.seek(STATUS, clock)
    assert len(read) == most
    assert sizes(table)[:2] == [(pid, 302), (100, 100)]
    assert table.rest_bound_bytes() == 2 * MIB
    assert table.rows[pid].value(clock.now_us).grown[0] == 300 * MIB
    leap(tree, table, clock, pid, 320)  # of which 20 are new
    assert table.rest_bound_bytes() == 2 * MIB


@pytest.mark.parametrize("free_bytes", [0, -MIB], ids=["no swap", "swap"])
def test_where_few_are_behind_nothing_is_opened_to_find_one(
    tree: ProcTree, open_table: Any, monkeypatch: pytest.MonkeyPatch, free_bytes: int
) -> None:
    """Everybody is kept then: whoever leapt is found through what is open, and asked for what may have changed."""
    table, clock = looked_at(tree, open_table, 40)
    leap(tree, table, clock, 1039, 300)
    if free_bytes:
        table.bound.swapped = True
    assert table.rest_bound_bytes() > table.leaders[0].size_bytes

    opened, real = [], os.open

    def noted(path: Any, *words: Any, **more: Any) -> int:
        opened.append(path)
        return real(path, *words, **more)

    monkeypatch.setattr(os, "open", noted)
    clock.now_us = 3_000_000
    assert table.seek(STATUS, clock)
    monkeypatch.undo()
    assert opened == ["1039/oom_score_adj", "1039/cgroup"]
    assert sizes(table)[:2] == [(1039, 302), (100, 100)]
    assert table.rows[1039].exact
    assert table.rows[1039].detailed
    assert table.rest_bound_bytes() == 2 * MIB
    table.close()


def test_descriptors_of_those_behind_follow_the_scans(tree: ProcTree, open_table: Any) -> None:
    """They are closed where one is gone or condemned, where they have become many, and in the end."""

    def kept() -> float:
        return (len(os.listdir("/proc/self/fd")) - begun) / 3 - LEADERS

    table, clock = looked_at(tree, open_table, 3)
    begun = len(os.listdir("/proc/self/fd")) - 3 * (LEADERS + 4)  # the first of all is behind as well
    table.condemn(1000)
    assert kept() == 3
    tree.remove_process(1001)
    clock.now_us = 1_000_000
    table.scan(STATUS, clock)
    assert kept() == 2
    for pid in range(2000, 2000 + MOST_KEPT - 1):
        tree.add_process(pid, rss_anon=2 * MIB)
    table.scan(STATUS, clock)
    assert kept() == 0
    tree.remove_process(2000)
    table.scan(STATUS, clock)
    assert kept() == MOST_KEPT
    table.close()
    assert kept() <= -LEADERS


def test_pid_of_one_that_was_kept_may_be_given_to_another(tree: ProcTree, open_table: Any) -> None:
    """The newcomer is found by its pid, and is not who was kept."""
    table, clock = looked_at(tree, open_table, 3)
    tree.remove_process(1002)
    tree.add_process(1002, rss_anon=2 * MIB, start_ticks=777, comm="other")
    tree.set_loadavg(last_pid=1002)
    clock.now_us = 100
    table.look(status(swap_total_bytes=0, swap_free_bytes=0), clock)
    leap(tree, table, clock, 1002, 300)
    table.seek(STATUS, clock)
    row = table.leaders[0]
    assert (row.pid, row.start_ticks, row.comm, row.size_bytes) == (1002, 777, "other", 302 * MIB)


def test_where_nobody_leapt_seeking_is_a_scan(tree: ProcTree, open_table: Any) -> None:
    """What was allocated and given back, or by one that has ended, is nobody's: everybody is read once, and the bound
    begins anew where the look began.
    """
    table, clock = looked_at(tree, open_table, 10)
    tree.set_vmstat(pgalloc_normal=500_000, pgfault=500_000)
    clock.now_us = 100
    table.look(STATUS, clock)
    assert table.rest_bound_bytes() > table.leaders[0].size_bytes
    clock.now_us = 200
    table.seek(STATUS, clock)
    assert table.rest_bound_bytes() == 2 * MIB
    assert (table.ration.read_us, table.ration.scanned_us, table.scans) == (200, 0, 2)
    assert len(table.leaders) == LEADERS


def test_whoever_is_sought_may_have_lost_its_main_thread(tree: ProcTree, open_table: Any) -> None:
    """Its memory shows in its threads alone, so it is found after everybody else was read; it leads all the same."""
    table, clock = looked_at(tree, open_table, 10)
    tree.add_process(999, rss_anon=400 * MIB, state="Z", threads=2)
    tree.set_vmstat(pgalloc_normal=500_000, pgfault=500_000)
    clock.now_us = 100
    table.look(STATUS, clock)
    clock.now_us = 200
    table.seek(STATUS, clock)
    assert sizes(table)[0] == (999, 400)
    assert table.rest_bound_bytes() == 2 * MIB


def test_who_is_preferred_is_asked_anew_where_anybody_may_be(tree: ProcTree, open_table: Any) -> None:
    """A small one that the rules prefer leads behind the others, also where everybody was read in search of another."""
    table, clock = looked_at(tree, open_table, 10)
    table.prefers = True
    table.judge = lambda row: PREFER if row.comm == "first" else NORMAL
    tree.change_process(1003, comm="first", rss_anon=9 * MIB)
    tree.set_vmstat(pgalloc_normal=500_000, pgfault=500_000)
    for now in (100, 200):
        clock.now_us = now
        (table.look if now == 100 else table.seek)(STATUS, clock)
    assert 1003 in table.rows


def test_only_sizes_are_read_of_the_small(tree: ProcTree, open_table: Any) -> None:
    """With a limit those above it are read as a whole; of the others it is known that they were not."""
    table, clock = looked_at(tree, open_table, 1)
    for pid in (100, 131):
        tree.change_process(pid, comm="other")
    clock.now_us = 20
    table.look(status(swap_total_bytes=0, swap_free_bytes=0), clock, sizes_only=True, but_from=90 * MIB)
    assert [table.rows[pid].comm for pid in (100, 131)] == ["other", "process"]
    assert {row.pid for row in table.sized} == set(range(111, 132))


def test_a_value_is_the_same_one_until_the_row_changes(tree: ProcTree, open_table: Any) -> None:
    """Whatever changes of a leader, its value tells; where nothing does, nothing is made anew. What was measured loses
    its worth after half a minute, though nothing has happened.
    """
    tree.add_process(10, rss_anon=90 * MIB)
    table, clock = open_table(), Clock()
    table.scan(STATUS, clock)
    row = table.rows[10]
    first = row.value(0)
    assert row.value(1000) is first
    for name, told in {"comm": "other", "rss_anon": 91 * MIB, "swap": MIB, "uid": 7, "state": "D"}.items():
        tree.change_process(10, **{name: told})
        clock.now_us += 1000
        table.look(STATUS, clock)
        value = row.value(clock.now_us)
        assert value != first
        assert row.value(clock.now_us) is value
        first = value
    row.measured(ROLLUP, clock.now_us)
    known = row.value(clock.now_us + 30_000_000)
    assert (known.private_bytes, known.private_age_us) == (row.private_estimate_bytes(), 30_000_000)
    assert row.value(clock.now_us + 30_000_001).private_bytes is None


def test_what_leaders_owned_at_a_choice_is_noted_after_it(tree: ProcTree, open_table: Any) -> None:
    """Who grew is not asked of that very moment."""
    table, clock = looked_at(tree, open_table, 1)
    past = table.rows[100].history
    before = len(past)
    clock.now_us = 900_000
    table.look(status(swap_total_bytes=0, swap_free_bytes=0), clock, sizes_only=True, but_from=90 * MIB)
    assert len(past) == before
    for _ in range(2):
        table.note_sizes()
        assert (len(past), past.newest_us) == (before + 1, 900_000)


def test_one_kept_that_is_met_again_leads_once(tree: ProcTree, open_table: Any) -> None:
    """Born as everybody was read, and behind the leaders; it is large by the next look, and sought for what it took
    since then.
    """
    tree.set_loadavg(last_pid=1002)  # the last few before a scan may have been missed by it, and are looked for again
    table, clock = looked_at(tree, open_table, 3)
    tree.set_loadavg(last_pid=1002)
    clock.now_us = 1_000_000
    table.scan(status(swap_total_bytes=0, swap_free_bytes=0), clock)
    leap(tree, table, clock, 1002, 300)
    assert [row.pid for row in table.leaders].count(1002) == 1
    clock.now_us += 100
    table.seek(STATUS, clock)
    assert [row.pid for row in table.leaders].count(1002) == 1
    table.condemn(1002)
    assert 1002 not in [row.pid for row in table.leaders]


def test_one_kept_that_leapt_is_asked_who_it_is_by_now(tree: ProcTree, open_table: Any) -> None:
    """Its name, user, oom_score_adj and cgroup may be others than at the last scan."""
    table, clock = looked_at(tree, open_table, 3)
    tree.change_process(1001, comm="other", uid=77, oom_score_adj=-1000, cgroup="/b")
    leap(tree, table, clock, 1001, 300)
    table.seek(STATUS, clock)
    row = table.leaders[0]
    assert (row.pid, row.comm, row.uid, row.oom_score_adj, row.cgroup) == (1001, "other", 77, -1000, "/b")


def test_names_of_those_kept_are_read_where_who_leads_is_chosen_anew(tree: ProcTree, open_table: Any) -> None:
    """Rules prefer somebody small: by the name that it has now."""
    table, clock = looked_at(tree, open_table, 3)
    no_swap = status(swap_total_bytes=0, swap_free_bytes=0)
    tree.change_process(1001, rss_anon=10 * MIB)
    table.scan(no_swap, clock)
    assert 1001 not in [row.pid for row in table.leaders]
    table.prefers = True
    table.judge = lambda row: PREFER if row.comm == "batch" else NORMAL
    tree.change_process(1001, comm="batch")
    tree.set_vmstat(pgalloc_normal=500_000, pgfault=500_000)  # nobody's
    clock.now_us = 100
    table.look(no_swap, clock)
    table.seek(no_swap, clock)
    assert "batch" in [row.comm for row in table.leaders]

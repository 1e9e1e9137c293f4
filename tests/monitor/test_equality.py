"""The leaders' answer is the full scan's: a machine whose counters move as the kernel's do, and whose processes grow,
shrink, fork, wait, execute, swap, exit and leap past the leaders at random.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from oomd.kernel.files import PAGE_BYTES, KernelFile
from oomd.kernel.scope import ScopeGuard
from oomd.model.scope import parse_scope
from oomd.model.units import GIB, MIB
from oomd.monitor.bound import UNEXPLAINED_BYTES, GrowthBound
from oomd.monitor.families import Families
from oomd.monitor.podium import LEADERS
from oomd.monitor.process_table import ProcessTable
from oomd.policies.freeable import NEAR
from tests.fakes.builders import status
from tests.fakes.proc_tree import ProcTree

if TYPE_CHECKING:
    from oomd.model.snapshot import MemoryStatus

IN_MEMORY = "/dev/shm"
HUGE_PAGES = 512
MANY = LEADERS + 12
SIZES = st.sampled_from([1, 2, 5, 20, 80, 300])


class Machine(RuleBasedStateMachine):
    """Each rule is something that a process or the kernel does; after each, what the table says must hold."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory(dir=IN_MEMORY if os.path.isdir(IN_MEMORY) else None)
        self.tree = ProcTree(Path(self.folder.name))
        self.allocated, self.faulted, self.huge = 1000, 1000, 0
        self.now_us = 0
        self.scans = self.looks = self.sought = 0
        self.last_pid = 10
        self.ticks = 0
        self.families = 0
        self.tree.add_process(1, rss_anon=MIB, ppid=0)
        for pid in range(11, 11 + MANY):
            self.born(pid, (pid * 7 % 60 + 1) * MIB)

    @initialize()
    def open_table(self) -> None:
        """The first scan."""
        self.proc_fd = os.open(self.tree.root, os.O_RDONLY | os.O_DIRECTORY)
        self.count()
        self.vmstat = KernelFile(f"{self.tree.root}/vmstat")
        self.loadavg = KernelFile(f"{self.tree.root}/loadavg")
        self.table = ProcessTable(
            self.proc_fd,
            ScopeGuard(parse_scope("machine"), self.proc_fd),
            frozenset({1}),
            bound=GrowthBound(self.vmstat, PAGE_BYTES, families=Families(self.proc_fd, PAGE_BYTES, lambda: self.ticks)),
            loadavg=self.loadavg,
            page_bytes=PAGE_BYTES,
        )
        self.table.scan(self.status(), lambda: self.now_us)

    def teardown(self) -> None:
        if hasattr(self, "table"):
            self.table.close()
            self.vmstat.close()
            self.loadavg.close()
            os.close(self.proc_fd)
        self.folder.cleanup()

    # What the kernel counts

    def status(self) -> MemoryStatus:
        """Whether there is anything in swap is all that the table wants to know."""
        used = sum(each.swap for each in self.tree._processes.values())
        return status(swap_total_bytes=64 * GIB, swap_free_bytes=64 * GIB - used)

    def count(self) -> None:
        """Have the counters in the file; whoever is born from now on is so later than whoever was before."""
        self.ticks += 1
        self.tree.set_vmstat(pgalloc_normal=self.allocated, pgfault=self.faulted, thp_fault_alloc=self.huge)

    def born(self, pid: int, size: int, swap: int = 0, parent: int = 1) -> None:
        """A process, and the pid that was handed out last."""
        self.tree.add_process(pid, rss_anon=size, swap=swap, ppid=parent, start_ticks=self.ticks)
        self.last_pid = max(self.last_pid, pid)

    def fault(self, pid: int, pages: int, count: int | None = None) -> None:
        """So many pages, by so many faults (as many, unless that is told)."""
        faults = pages if count is None else count
        self.allocated += pages
        self.faulted += faults
        self.tree.change_process(pid, faults=self.tree._processes[pid].faults + faults)

    def bury(self, pid: int, *, waited: bool) -> None:
        """It ends, and its parent waits for it, or does not care. Its children are the nearest ancestor's that wants
        them, or pid 1's.
        """
        dead = self.tree._processes[pid]
        heir = self.tree._processes[dead.ppid]
        while heir.pid != 1 and heir.pid % 3:  # every third takes over orphans
            heir = self.tree._processes[heir.ppid]
        for child in [each.pid for each in self.tree._processes.values() if each.ppid == pid]:
            self.tree.change_process(child, ppid=heir.pid)
        self.tree.remove_process(pid)
        if waited:
            parent = self.tree._processes[dead.ppid]
            took = parent.reaped_faults + dead.faults + dead.reaped_faults
            self.tree.change_process(parent.pid, reaped_faults=took)

    def pids(self) -> list[int]:
        """Who lives, pid 1 apart."""
        return sorted(self.tree._processes.keys() - {1})

    def pick(self, data: st.DataObject) -> int:
        """One of them."""
        return data.draw(st.sampled_from(self.pids()))

    # What processes do

    @rule(data=st.data(), mib=SIZES, huge=st.booleans())
    def grow(self, data: st.DataObject, mib: int, huge: bool) -> None:
        """Touch new memory, page by page or by huge pages."""
        self.grow_one(self.pick(data), mib * MIB, huge=huge)

    def grow_one(self, pid: int, size: int, *, huge: bool = False) -> None:
        """The same for one."""
        fake = self.tree._processes[pid]
        self.tree.change_process(pid, rss_anon=fake.rss_anon + size)
        pages = size // PAGE_BYTES
        if huge:
            self.huge += -(-pages // HUGE_PAGES)
            self.fault(pid, pages, 1)
        else:
            self.fault(pid, pages)

    @rule(data=st.data(), share=st.sampled_from([1, 2, 4]))
    def shrink(self, data: st.DataObject, share: int) -> None:
        """Give back half, a quarter, or all; it may grow again."""
        pid = self.pick(data)
        fake = self.tree._processes[pid]
        kept = 0 if share == 1 else fake.rss_anon // share // PAGE_BYTES * PAGE_BYTES
        self.tree.change_process(pid, rss_anon=kept)

    @rule(data=st.data(), gap=st.integers(1, 3))
    def fork(self, data: st.DataObject, gap: int) -> None:
        """A child has its parent's size, and nothing was allocated; threads take numbers too."""
        fake = self.tree._processes[self.pick(data)]
        self.born(self.last_pid + gap, fake.rss_anon, fake.swap, fake.pid)
        self.fault(fake.pid, 20)

    @rule(data=st.data(), births=st.integers(1, 12), pages=st.integers(0, 4000), deep=st.booleans())
    def churn(self, data: st.DataObject, births: int, pages: int, deep: bool) -> None:
        """Small children, and perhaps theirs, that fault and end, one after the other, and are waited for; the last one
        goes on.
        """
        parent = self.pick(data)
        for birth in range(births):
            self.fault(parent, 30)  # it breaks what they share
            child, middle = self.last_pid + 1, parent
            if deep:
                self.born(child, 0, parent=parent)
                child, middle = child + 1, child
            self.born(child, 0, parent=middle)
            self.fault(child, pages)
            for dead in (child, middle) if birth < births - 1 else ():
                if dead != parent:
                    self.bury(dead, waited=True)

    @rule(data=st.data())
    def copy_on_write(self, data: st.DataObject) -> None:
        """Pages are copied: allocated, faulted, and no size changes."""
        pid = self.pick(data)
        self.fault(pid, self.tree._processes[pid].rss_anon // PAGE_BYTES // 2)

    @rule(data=st.data(), mib=SIZES)
    def execute(self, data: st.DataObject, mib: int) -> None:
        """Another program in the same process: all is given back, and something is taken."""
        pid = self.pick(data)
        self.tree.change_process(pid, rss_anon=0, swap=0, comm="other")
        self.grow_one(pid, mib * MIB)

    @precondition(lambda self: len(self.tree._processes) > LEADERS)
    @rule(data=st.data(), waited=st.booleans())
    def end(self, data: st.DataObject, waited: bool) -> None:
        """Gone."""
        self.bury(self.pick(data), waited=waited)

    @precondition(lambda self: len(self.tree._processes) > LEADERS)
    @rule(data=st.data())
    def end_a_child(self, data: st.DataObject) -> None:
        """One that has another parent than pid 1, which waits."""
        children = [each.pid for each in self.tree._processes.values() if each.ppid > 1]
        if children:
            self.bury(data.draw(st.sampled_from(children)), waited=True)

    @rule(data=st.data())
    def swap_out(self, data: st.DataObject) -> None:
        """Half of it; nothing is allocated."""
        pid = self.pick(data)
        fake = self.tree._processes[pid]
        half = fake.rss_anon // 2 // PAGE_BYTES * PAGE_BYTES
        self.tree.change_process(pid, rss_anon=fake.rss_anon - half, swap=fake.swap + half)

    @rule(data=st.data())
    def swap_in(self, data: st.DataObject) -> None:
        """All of it: pages are allocated, faulted, and the size stays."""
        pid = self.pick(data)
        fake = self.tree._processes[pid]
        self.tree.change_process(pid, rss_anon=fake.rss_anon + fake.swap, swap=0)
        self.fault(pid, fake.swap // PAGE_BYTES)

    @rule(pages=st.integers(0, 200_000))
    def read_files(self, pages: int) -> None:
        """The page cache allocates without faults."""
        self.allocated += pages

    @rule(data=st.data())
    def leap(self, data: st.DataObject) -> None:
        """Somebody whom nobody watches becomes the largest, between two looks."""
        largest = max(each.rss_anon + each.swap for each in self.tree._processes.values())
        tail = [pid for pid in self.pids() if pid not in self.table.rows] or self.pids()
        self.grow_one(data.draw(st.sampled_from(tail)), largest + MIB)

    # What must hold

    @rule(sizes_only=st.booleans())
    def look(self, sizes_only: bool) -> None:
        """Between two decisions the leaders are looked at, or not."""
        self.count()
        self.table.look(self.status(), lambda: self.now_us, sizes_only=sizes_only)

    @rule()
    def decide(self) -> None:
        """As a decision does: look, and scan only where the bound demands it. Nobody is larger than the first by more
        than a near-tie.
        """
        self.count()
        self.now_us += 100_000
        self.looks += 1
        self.table.look(self.status(), lambda: self.now_us)
        if not self.table.leaders or self.table.rest_bound_bytes() * NEAR > self.table.leaders[0].size_bytes:
            self.scans += 1
            self.table.scan(self.status(), lambda: self.now_us)
        truth = max(each.rss_anon + each.swap for pid, each in self.tree._processes.items() if pid != 1)
        assert truth == 0 or truth * NEAR <= self.table.leaders[0].size_bytes

    @rule()
    def decide_by_sizes(self) -> None:
        """As a decision does where sizes count: whoever leapt past the rest is sought, the newest first, until nobody
        else can be larger; a scan only where that is not to be had so.
        """
        self.count()
        self.now_us += 100_000
        self.table.look(self.status(), lambda: self.now_us, sizes_only=True)
        self.now_us += 1
        if not self.table.leaders or self.table.rest_bound_bytes() * NEAR > self.table.leaders[0].size_bytes:
            self.sought += 1
            self.table.seek(self.status(), lambda: self.now_us)
        if not self.table.leaders or self.table.rest_bound_bytes() * NEAR > self.table.leaders[0].size_bytes:
            self.scans += 1
            self.table.scan(self.status(), lambda: self.now_us)
        truth = max(each.rss_anon + each.swap for pid, each in self.tree._processes.items() if pid != 1)
        assert truth == 0 or truth * NEAR <= self.table.leaders[0].size_bytes

    @rule(data=st.data(), old=st.booleans())
    def leap_and_decide(self, data: st.DataObject, old: bool) -> None:
        """One of those whom nobody watches leaps right before: the oldest, whom it takes a whole scan to find, or
        another.
        """
        tail = [pid for pid in self.pids() if pid not in self.table.rows] or self.pids()
        largest = max(each.rss_anon + each.swap for each in self.tree._processes.values())
        self.grow_one(tail[0] if old else data.draw(st.sampled_from(tail)), largest + MIB)
        self.decide_by_sizes()

    @rule(data=st.data(), mib=st.sampled_from([0, 5, 20, 80]))
    def know_a_family(self, data: st.DataObject, mib: int) -> None:
        """Much was allocated, a newcomer is there, and somebody looks: its parent is known from then on."""
        self.fault(self.pick(data), UNEXPLAINED_BYTES // PAGE_BYTES)
        self.churn(data, births=2, pages=20, deep=False)
        self.count()
        self.table.wants_scan(self.now_us)
        self.table.find_newcomers()
        bound = self.table.bound
        assert bound.families is not None
        if bound.families.known and mib:
            parent = self.tree._processes[data.draw(st.sampled_from(bound.families.known)).row.pid]
            kin = [each.pid for each in self.tree._processes.values() if each.ppid == parent.pid] or [parent.pid]
            self.grow_one(data.draw(st.sampled_from([*kin, parent.pid])), mib * MIB)

    @rule()
    def bound_holds(self) -> None:
        """Whatever was found and explained: nobody who does not lead owns more than the bound says."""
        self.count()
        if self.table.find_newcomers() is None:
            return
        rest = self.table.rest_bound_bytes()
        known = self.table.rows.keys() | {1}
        others = [each for pid, each in self.tree._processes.items() if pid not in known]
        assert max((each.rss_anon + each.swap for each in others), default=0) <= rest

    @rule(data=st.data(), mib=SIZES)
    def confirm(self, data: st.DataObject, mib: int) -> None:
        """As a reflex does: the first alone is read again; if the bound says that nobody overtook it, nobody has."""
        self.look(sizes_only=True)
        if not self.table.leaders:
            return
        first = self.table.leaders[0]
        self.grow_one(first.pid, mib * MIB)
        if len(self.table.leaders) > 1 and data.draw(st.booleans()):
            self.grow_one(self.table.leaders[1].pid, data.draw(SIZES) * MIB)
        self.count()
        if self.table.find_newcomers() is None or not self.table.reread(first):
            return
        rest, since = self.table.rest_bound_bytes(), self.table.bound.since_look_bytes()
        if data.draw(st.booleans()):  # much was allocated: the others' sizes are read as well
            for row in [row for row in self.table.leaders if row is not first]:
                self.table.reread(row, size_only=True)
            rest, since = self.table.rest_bound_bytes(), 0
        others = [each for pid, each in self.tree._processes.items() if pid not in (1, first.pid)]
        if rest * NEAR <= first.size_bytes:
            watched = [row.size_bytes + since for row in self.table.leaders if row is not first]
            truth = max((each.rss_anon + each.swap for each in others), default=0)
            assert truth <= max([rest, *watched])


Machine.TestCase.settings = settings(
    max_examples=25, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
)
TestMachine = Machine.TestCase

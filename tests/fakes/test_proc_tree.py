"""The fake procfs: the real readers read back what the verbs said, in the format of files that a kernel
wrote.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oomd.kernel.files import KernelFile
from oomd.kernel.loadavg import parse_last_pid
from oomd.kernel.meminfo import parse_meminfo
from oomd.kernel.process import (
    list_pids,
    parse_cgroup,
    parse_stat,
    parse_statm,
    parse_status,
    read_pid_file,
    read_thread_status,
)
from oomd.kernel.psi import parse_totals
from oomd.kernel.smaps import parse_smaps_rollup
from oomd.kernel.swaps import parse_swaps
from oomd.kernel.vmstat import parse_vmstat
from oomd.kernel.zoneinfo import parse_pcp_pages, parse_zones
from tests.fakes.proc_tree import GIB, MIB, PAGE_BYTES, PF_KTHREAD, ProcTree
from tests.kernel.arbitrary import captured

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def tree(tmp_path: Path) -> ProcTree:
    """A quiet machine."""
    return ProcTree(tmp_path / "proc")


@pytest.fixture
def proc(tree: ProcTree) -> Iterator[int]:
    """A descriptor of its procfs."""
    fd = os.open(tree.root, os.O_RDONLY | os.O_DIRECTORY)
    yield fd
    os.close(fd)


def keys(data: bytes, separator: bytes = b":") -> list[bytes]:
    """What stands at the beginning of each line."""
    return [line.split(separator)[0] for line in data.splitlines()]


def is_part_in_order(some: list[bytes], whole: list[bytes]) -> bool:
    """Whether every item of ``some`` is in ``whole``, in its order."""
    rest = iter(whole)
    return all(item in rest for item in some)


def test_formats_are_the_kernels(tree: ProcTree) -> None:
    """Every line of the fake files is a line of the captured ones, in their order and with their columns."""
    tree.add_process(7)
    for name, other in (("meminfo", "meminfo"), ("7/status", "status"), ("7/smaps_rollup", "smaps_rollup")):
        fake, real = (tree.root / name).read_bytes(), captured(other)
        assert is_part_in_order(keys(fake)[1:], keys(real)), name
    fake, real = (tree.root / "vmstat").read_bytes(), captured("vmstat")
    assert is_part_in_order(keys(fake, b" "), keys(real, b" "))
    for name, other in (("7/stat", "stat"), ("7/statm", "statm"), ("loadavg", "loadavg")):
        assert len((tree.root / name).read_bytes().split()) == len(captured(other).split()), name
    width = len(captured("meminfo").splitlines()[0])
    assert {len(line) for line in (tree.root / "meminfo").read_bytes().splitlines()} == {width}


def test_machine(tree: ProcTree) -> None:
    """What is set is read back; what is not set stays."""
    tree.set_meminfo(total=4 * GIB, available=GIB, swap_total=2 * GIB)
    tree.set_meminfo(swap_free=GIB, anon=2 * GIB, shmem=MIB)
    meminfo = parse_meminfo((tree.root / "meminfo").read_bytes())
    assert (meminfo.mem_total_bytes, meminfo.mem_available_bytes) == (4 * GIB, GIB)
    assert (meminfo.swap_total_bytes, meminfo.swap_free_bytes) == (2 * GIB, GIB)
    assert (meminfo.anon_pages_bytes, meminfo.shmem_bytes) == (2 * GIB, MIB)
    (area,) = parse_swaps((tree.root / "swaps").read_bytes())
    assert (area.size_bytes, area.used_bytes, area.kind) == (2 * GIB, GIB, "disk")
    with pytest.raises(AssertionError):
        tree.set_meminfo(mem_total=1)


def test_counters(tree: ProcTree) -> None:
    """Counters, stall, the last pid and per-CPU pages are read back through files that stay open."""
    with KernelFile(str(tree.root / "vmstat")) as vmstat, KernelFile(str(tree.root / "loadavg")) as loadavg:
        assert parse_vmstat(vmstat.read()).pgfault == 0
        tree.set_vmstat(pgfault=5, pgalloc_normal=7)
        tree.set_vmstat(oom_kill=1)
        tree.set_loadavg(4711)
        counters = parse_vmstat(vmstat.read())
        assert (counters.pgfault, counters.pgalloc, counters.oom_kill) == (5, 7, 1)
        assert parse_last_pid(loadavg.read()) == 4711
    tree.set_pressure(12, 3)
    assert parse_totals((tree.root / "pressure" / "memory").read_bytes()) == (12, 3)
    tree.without_pressure()
    assert not (tree.root / "pressure").exists()
    tree.set_pcp(99)
    assert parse_pcp_pages((tree.root / "zoneinfo").read_bytes()) == 99
    assert [zone.name for zone in parse_zones((tree.root / "zoneinfo").read_bytes())] == ["Normal"]


def test_process(tree: ProcTree, proc: int) -> None:
    """A process is read back with everything it was given."""
    tree.add_process(
        50,
        comm=b"a) R 1 (\n\xff",
        ppid=7,
        rss_anon=30 * MIB,
        swap=5 * MIB,
        uid=1000,
        oom_score_adj=-300,
        state="D",
        flags=0x400040,
        threads=3,
        start_ticks=12345,
        cgroup="/user.slice/a:b",
        nice=-5,
        policy=3,
        cmdline=("a", "b c"),
        rss_shmem=2 * MIB,
        kill_pending=True,
    )
    stat = parse_stat(read_pid_file(proc, 50, "stat") or b"")
    status = parse_status(read_pid_file(proc, 50, "status") or b"")
    assert (stat.pid, stat.comm, stat.ppid, stat.state, stat.flags) == (50, b"a) R 1 (\n\xff", 7, "D", 0x400040)
    assert (stat.num_threads, stat.start_ticks, stat.nice, stat.policy) == (3, 12345, -5, 3)
    assert (status.rss_anon_bytes, status.rss_shmem_bytes, status.swap_bytes) == (30 * MIB, 2 * MIB, 5 * MIB)
    assert (status.uid, status.num_threads, status.tgid, status.kill_pending) == (1000, 3, 50, True)
    resident, shared = parse_statm(read_pid_file(proc, 50, "statm") or b"")
    assert (resident - shared) * PAGE_BYTES == 30 * MIB
    assert resident == stat.rss_pages
    assert read_pid_file(proc, 50, "oom_score_adj") == b"-300\n"
    assert read_pid_file(proc, 50, "comm") == b"a) R 1 (\n\xff\n"
    assert read_pid_file(proc, 50, "cmdline") == b"a\0b c\0"
    assert parse_cgroup(read_pid_file(proc, 50, "cgroup") or b"") == "/user.slice/a:b"
    assert read_thread_status(proc, 50) == status
    assert parse_last_pid((tree.root / "loadavg").read_bytes()) == 50


def test_change_and_removal(tree: ProcTree, proc: int) -> None:
    """A change is seen through a kept file; after the removal nothing is left and the kept file is empty."""
    tree.add_process(50, rss_anon=MIB)
    with KernelFile("50/statm", dir_fd=proc) as kept:
        tree.change_process(50, rss_anon=64 * MIB)
        resident, shared = parse_statm(kept.read())
        assert (resident - shared) * PAGE_BYTES == 64 * MIB
        assert list_pids(proc) == [50]
        tree.remove_process(50)
        assert kept.read() == b""
    assert list_pids(proc) == []
    assert read_pid_file(proc, 50, "stat") is None


def test_kernel_thread_and_zombies(tree: ProcTree, proc: int) -> None:
    """F15: kernel threads and zombies show no memory; of a dead leader the live threads do."""
    tree.add_process(2, flags=PF_KTHREAD)
    tree.add_process(3, state="Z")
    tree.add_process(4, rss_anon=64 * MIB)
    tree.change_process(4, state="Z", threads=2)
    for pid in (2, 3, 4):
        assert parse_status(read_pid_file(proc, pid, "status") or b"").rss_anon_bytes == 0
        assert parse_statm(read_pid_file(proc, pid, "statm") or b"") == (0, 0)
        assert read_pid_file(proc, pid, "smaps_rollup") is None
    assert read_thread_status(proc, 3) is None
    leader = read_thread_status(proc, 4)
    assert leader is not None
    assert leader.rss_anon_bytes == 64 * MIB
    assert parse_stat(read_pid_file(proc, 4, "stat") or b"").flags & 0x4


@given(anon=st.integers(0, 1 << 30), swap=st.integers(0, 1 << 30), share=st.floats(0, 1))
def test_private(tmp_path_factory: pytest.TempPathFactory, anon: int, swap: int, share: float) -> None:
    """F17: the reader's estimate is what the tree was told to be private, within a KiB or two for rounding."""
    tree = ProcTree(tmp_path_factory.mktemp("private"))
    private = int((anon + swap) * share)
    tree.add_process(5, rss_anon=anon, swap=swap, private=private)
    rollup = parse_smaps_rollup((tree.root / "5" / "smaps_rollup").read_bytes())
    assert abs(rollup.private_bytes - private) <= 3 * 1024
    tree.change_process(5, private=None)
    rollup = parse_smaps_rollup((tree.root / "5" / "smaps_rollup").read_bytes())
    assert abs(rollup.private_bytes - (anon + swap)) <= 2 * 1024

"""What the machine shows only when a rule asks for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from oomd.model.snapshot import NO_DETAILS, Watermarks
from oomd.monitor.details import DetailReader
from oomd.monitor.sampler import Sampler
from tests.descriptors import open_descriptors, opened_since
from tests.ends import until_end
from tests.fakes.proc_tree import PAGE_BYTES, ProcTree

if TYPE_CHECKING:
    from pathlib import Path

EVERYTHING = frozenset({"counters", "watermarks", "zram", "memory_pressure", "io_pressure", "cpu_pressure", "tasks"})


def test_every_field_from_its_file(tmp_path: Path) -> None:
    """vmstat, zoneinfo, pressure, loadavg and zram's mm_stat, which lies beside procfs."""
    proc = ProcTree(tmp_path / "proc")
    proc.set_vmstat(pgscan_kswapd=5, pgscan_direct=3, allocstall_normal=2, workingset_refault_file=9, pswpout=4)
    (tmp_path / "sys/block/zram0").mkdir(parents=True)
    (tmp_path / "sys/block/zram0/mm_stat").write_text("100 50 60 0 0 1 0 2\n")
    details = until_end(DetailReader(str(proc.root), PAGE_BYTES, EVERYTHING)).read()
    assert details.counters is not None
    assert (details.counters.pgscan, details.counters.pgscan_direct, details.counters.allocstall) == (8, 3, 2)
    assert (details.counters.refault_file, details.counters.pswpout) == (9, 4)
    assert details.watermarks == Watermarks(900 * PAGE_BYTES, 875 * PAGE_BYTES, 850 * PAGE_BYTES)
    assert details.memory_pressure is not None
    assert details.io_pressure is None
    assert details.tasks == 1
    assert details.zram is not None
    assert (details.zram.used_bytes, details.zram.huge_bytes) == (60, 2 * PAGE_BYTES)


def test_changes_are_seen_and_what_breaks_is_unknown(tmp_path: Path) -> None:
    """The files stay open; one that nobody understands any more is None."""
    proc = ProcTree(tmp_path / "proc")
    reader = DetailReader(str(proc.root), PAGE_BYTES, frozenset({"counters", "tasks"}))
    proc.set_vmstat(pgscan_kswapd=77)
    details = reader.read()
    assert details.counters is not None
    assert details.counters.pgscan == 77
    (proc.root / "loadavg").write_text("broken")
    assert reader.read().tasks is None
    reader.close()


def test_nothing_is_read_that_nobody_asked_for(tmp_path: Path) -> None:
    """The default rules read no detail; a reload may ask for some, and ask no more."""
    proc = ProcTree(tmp_path / "proc")
    sampler = until_end(Sampler(str(proc.root), PAGE_BYTES))
    assert sampler.read_status(1).details is NO_DETAILS
    sampler.want(frozenset({"tasks"}))
    assert sampler.read_status(2).details.tasks == 1
    sampler.want(frozenset())
    assert sampler.read_status(3).details is NO_DETAILS
    status = sampler.read_status(4)
    assert status.commit_limit_bytes == 4 * 1024**3
    assert status.file_bytes == 3 * 1024**3


def test_the_end_closes_details_too(tmp_path: Path) -> None:
    """Whatever a rule wanted last."""
    proc = ProcTree(tmp_path / "proc")
    before = open_descriptors()
    sampler = Sampler(str(proc.root), PAGE_BYTES, EVERYTHING)
    assert opened_since(before)
    sampler.close()
    assert opened_since(before) == []

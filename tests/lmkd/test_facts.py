"""What the mind reads."""

from __future__ import annotations

from typing import TYPE_CHECKING

from oomd.kernel.files import PAGE_BYTES
from oomd.lmkd.facts import FactsFiles, Marks, parse_counters, parse_kb
from tests.lmkd.machine import PAGE_KB, Machine

if TYPE_CHECKING:
    from pathlib import Path


def test_any_number_of_nodes(tmp_path: Path) -> None:
    """Three nodes are three times one, where the original gives up."""
    machine = Machine(tmp_path / "proc")
    machine.set_marks(1, 2, 3, nodes=3)
    files = FactsFiles(str(machine.root), PAGE_BYTES)
    assert files.read(0, count_lists=False).marks == Marks(3, 6, 9)
    files.close()


def test_watermarks_are_kept_for_a_minute(tmp_path: Path) -> None:
    """Everything else is read anew at every look."""
    machine = Machine(tmp_path / "proc")
    files = FactsFiles(str(machine.root), PAGE_BYTES)
    first = files.read(0, count_lists=False)
    assert (first.marks.min_pages, first.page_kb, first.kb("MemFree")) == (10_000, PAGE_KB, 1_000_000)
    machine.set_marks(1, 2, 3)
    machine.set_meminfo(MemFree=5)
    machine.set_vmstat(pgscan_direct=7)
    later = files.read(59_999_999, count_lists=False)
    assert (later.marks.min_pages, later.kb("MemFree"), later.vmstat["pgscan_direct"]) == (10_000, 5, 7)
    assert files.read(60_000_000, count_lists=False).marks.min_pages == 1
    machine.set_marks(4, 5, 6)
    files.forget_marks()
    assert files.read(60_000_001, count_lists=False).marks.min_pages == 4
    files.close()


def test_real_files() -> None:
    """This machine's own have what is wanted."""
    files = FactsFiles("/proc", PAGE_BYTES)
    look = files.read(0, count_lists=True, all_pressure=True)
    assert look.kb("MemFree") > 0
    assert "pgscan_direct" in look.vmstat
    assert 0 < look.marks.min_pages <= look.marks.low_pages <= look.marks.high_pages
    files.close()


def test_lines_of_another_shape() -> None:
    """They are left out."""
    assert parse_kb(b"MemFree:  12 kB\nHugePages_Total: 3\nnonsense\nBad: x kB\n") == {
        "MemFree": 12,
        "HugePages_Total": 3,
    }
    assert parse_counters(b"a 1\nb -1\nc\n d 2\n") == {"a": 1}

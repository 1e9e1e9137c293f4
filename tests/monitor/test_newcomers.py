"""New pids between two looks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from oomd.kernel.files import KernelFile
from oomd.monitor.newcomers import MOST_NEW_PIDS, Newcomers
from tests.fakes.proc_tree import ProcTree

if TYPE_CHECKING:
    from pathlib import Path


def test_those_handed_out_since(tmp_path: Path) -> None:
    """Each once; none where none was; and everybody is to be read where there are too many or the counter wrapped."""
    tree = ProcTree(tmp_path)
    tree.set_loadavg(100)
    newcomers = Newcomers(KernelFile(f"{tmp_path}/loadavg"))
    newcomers.begin()
    assert newcomers.new_pids() == range(101, 101)
    tree.set_loadavg(103)
    assert list(newcomers.new_pids() or ()) == [101, 102, 103]
    assert list(newcomers.new_pids() or ()) == []
    tree.set_loadavg(103 + MOST_NEW_PIDS)
    assert len(newcomers.new_pids() or ()) == MOST_NEW_PIDS
    tree.set_loadavg(104 + 2 * MOST_NEW_PIDS)
    assert newcomers.new_pids() is None
    newcomers.begin()
    tree.set_loadavg(50)
    assert newcomers.new_pids() is None
    newcomers.begin()
    assert newcomers.new_pids() == range(51, 51)


def test_without_the_file_nobody_can_tell() -> None:
    """Recorded trees may lack it."""
    newcomers = Newcomers(None)
    newcomers.begin()
    assert newcomers.new_pids() is None

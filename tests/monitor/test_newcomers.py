"""New pids between two looks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from oomd.kernel.files import KernelFile
from oomd.monitor.newcomers import HALF_BORN, MOST_NEW_PIDS, Newcomers
from tests.ends import until_end
from tests.fakes.proc_tree import ProcTree

if TYPE_CHECKING:
    from pathlib import Path


HALF_BORN_OF_100 = list(range(101 - HALF_BORN, 101))


def test_those_handed_out_since(tmp_path: Path) -> None:
    """Each once; none where none was; and everybody is to be read where there are too many or the counter wrapped."""
    tree = ProcTree(tmp_path)
    tree.set_loadavg(100)
    newcomers = Newcomers(until_end(KernelFile(f"{tmp_path}/loadavg")))
    newcomers.begin()
    assert newcomers.new_pids() == HALF_BORN_OF_100
    tree.set_loadavg(103)
    assert newcomers.new_pids() == [101, 102, 103]
    assert newcomers.new_pids() == []
    tree.set_loadavg(103 + MOST_NEW_PIDS)
    assert len(newcomers.new_pids() or ()) == MOST_NEW_PIDS
    tree.set_loadavg(104 + 2 * MOST_NEW_PIDS)
    assert newcomers.new_pids() is None
    newcomers.begin()
    tree.set_loadavg(50)
    assert newcomers.new_pids() is None
    newcomers.begin()
    assert newcomers.new_pids() == list(range(50 - HALF_BORN + 1, 51))
    tree.set_loadavg(3)
    newcomers.begin()
    assert newcomers.new_pids() == [1, 2, 3]


def test_who_is_not_there_yet_is_looked_for_once_more(tmp_path: Path) -> None:
    """A pid is handed out before its process can be seen; it is asked for at the next look, and at no other."""
    tree = ProcTree(tmp_path)
    tree.set_loadavg(100)
    newcomers = Newcomers(until_end(KernelFile(f"{tmp_path}/loadavg")))
    newcomers.begin()
    for pid in newcomers.new_pids() or ():
        newcomers.miss(pid)  # dead ones are not waited for
    tree.set_loadavg(103)
    assert newcomers.new_pids() == [101, 102, 103]
    newcomers.miss(102)
    tree.set_loadavg(104)
    assert newcomers.new_pids() == [102, 104]
    newcomers.miss(102)
    assert newcomers.new_pids() == []


def test_without_the_file_nobody_can_tell() -> None:
    """Recorded trees may lack it."""
    newcomers = Newcomers(None)
    newcomers.begin()
    assert newcomers.new_pids() is None


class Listed:
    """Some of the pids are processes."""

    can_tell = True

    def __init__(self, *pids: int) -> None:
        self.pids = set(pids)
        self.asked: list[tuple[int, int]] = []

    def processes(self, first: int, last: int) -> list[int]:
        """Those in between."""
        self.asked.append((first, last))
        return sorted(pid for pid in self.pids if first <= pid <= last)


def test_of_many_only_those_are_told_that_there_are(tmp_path: Path) -> None:
    """The others are looked for once more; few are asked for one by one."""
    tree, pids = ProcTree(tmp_path), Listed(103, 108)
    tree.set_loadavg(100)
    newcomers = Newcomers(until_end(KernelFile(f"{tmp_path}/loadavg")), pids)  # type: ignore[arg-type]
    newcomers.begin()
    assert newcomers.new_pids() == []
    tree.set_loadavg(110)
    assert newcomers.new_pids() == [103, 108]
    pids.pids.add(104)
    pids.pids.add(112)
    tree.set_loadavg(115)
    assert newcomers.new_pids() == [104, 112]
    newcomers.miss(112)
    pids.pids |= {101, 102, 114}
    assert newcomers.new_pids() == [114, 112]
    tree.set_loadavg(117)
    assert newcomers.new_pids() == [116, 117]
    assert pids.asked == [(93, 100), (101, 110), (101, 115), (111, 115)]

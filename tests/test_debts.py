"""What must be put back: written down, read again by somebody else, put back only where it is ours. On plain files."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oomd.debts import NAME, Debt, Debts, put_all_back, put_back, read_debts
from tests.descriptors import open_descriptors, opened_since
from tests.ends import until_end
from tests.fakes.cgroup_tree import CgroupTree

if TYPE_CHECKING:
    from pathlib import Path


class Place:
    """A runtime directory, and a cgroup whose memory.high is ours."""

    def __init__(self, folder: Path) -> None:
        self.run = folder / "run"
        self.run.mkdir()
        self.tree = CgroupTree(folder / "cgroup")
        self.tree.add_group("/a")
        self.group = folder / "cgroup" / "a"
        self.debts = Debts(str(self.run), "me")
        until_end(self.debts._fd)

    def debt(self, **changes: object) -> Debt:
        """What was done to it."""
        inode = os.stat(self.group).st_ino
        values = {
            "file": "memory.high",
            "inode": inode,
            "directory": str(self.group),
            "found": "max",
            "ours": ("4096",),
        }
        return Debt(**(values | changes))  # type: ignore[arg-type]

    def high(self, text: str | None = None) -> str:
        """What memory.high says, and shall say."""
        if text is not None:
            (self.group / "memory.high").write_text(text, "ascii")
        return (self.group / "memory.high").read_text("ascii").strip()


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """A fresh one."""
    return Place(tmp_path)


def test_written_down_and_struck_out(place: Place) -> None:
    """Another process reads what stands there; nothing is left once all is struck out."""
    first, second = place.debt(), place.debt(file="cgroup.freeze", found="0", ours=("0", "1"))
    place.debts.write_down(first)
    place.debts.write_down(second)
    assert read_debts(str(place.run)) == ("me", [first, second])
    place.debts.strike_out(first)
    assert read_debts(str(place.run)) == ("me", [second])
    place.debts.strike_out(second)
    place.debts.strike_out(second)
    assert os.listdir(place.run) == []
    assert read_debts(str(place.run)) == ("", [])


def test_put_back(place: Place) -> None:
    """The former value stands again, what was done is told, and there is nothing left to do."""
    place.debts.write_down(place.debt())
    place.high("4096\n")
    assert put_all_back(str(place.run)) == [f"{place.group}: memory.high is max again"]
    assert place.high() == "max"
    assert put_all_back(str(place.run)) == []


def test_by_the_service_manager(place: Place) -> None:
    """As its unit asks for it; nothing there is nothing to do."""
    command = [sys.executable, "-m", "oomd.debts", str(place.run)]
    place.debts.write_down(place.debt())
    place.high("4096\n")
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout == f"{place.group}: memory.high is max again\n"
    assert place.high() == "max"
    assert subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout == ""


def test_what_is_not_ours_any_more(place: Place) -> None:
    """A limit that somebody else has set since, and a cgroup that was made anew, are left alone."""
    place.high("8192\n")
    assert put_back(place.debt()) == ""
    assert place.high() == "8192"
    debt = place.debt()
    place.group.rename(place.group.parent / "old")
    place.tree.add_group("/a", high=4096)
    assert put_back(debt) == ""
    assert place.high() == "4096"
    place.tree.remove_group("/a")
    assert put_back(debt) == ""


def test_what_cannot_be_put_back_stays_written_down(place: Place) -> None:
    """And only that: the next one tries again, and what he changes himself does not take its place."""
    frozen = place.debt(file="cgroup.freeze", found="0", ours=("1",))
    lever = place.group / "cgroup.freeze"
    lever.unlink(missing_ok=True)
    lever.mkdir()  # an error for root as well
    place.debts.write_down(place.debt())
    place.debts.write_down(frozen)
    place.high("4096\n")
    before = open_descriptors()
    told = put_all_back(str(place.run))
    assert told[0] == f"{place.group}: memory.high is max again"
    assert told[1].startswith(f"{place.group}: cgroup.freeze cannot be put back: ")
    assert opened_since(before) == []
    assert read_debts(str(place.run)) == ("me", [frozen])
    later, other = Debts(str(place.run), "later"), place.debt(directory="/b")
    until_end(later._fd)
    later.write_down(other)
    later.strike_out(other)
    assert read_debts(str(place.run)) == ("later", [frozen])
    lever.rmdir()
    lever.write_text("1\n", "ascii")
    assert put_all_back(str(place.run), "later") == [f"{place.group}: cgroup.freeze is 0 again"]
    assert read_debts(str(place.run)) == ("", [])


def test_somebody_elses_word(place: Place) -> None:
    """The outside process of an oomd that has ended leaves alone what its successor has written down."""
    place.debts.write_down(place.debt())
    place.high("4096\n")
    assert put_all_back(str(place.run), "other") == []
    assert place.high() == "4096"
    assert read_debts(str(place.run))[0] == "me"
    assert len(put_all_back(str(place.run), "me")) == 1


def test_before_it_is_done(place: Place) -> None:
    """Written down and not done yet, when oomd was killed: nothing changes."""
    place.debts.write_down(place.debt(ours=("max", "4096")))
    put_all_back(str(place.run))
    assert place.high() == "max"


def test_what_cannot_be_written_down(place: Place) -> None:
    """A name with a newline, and a folder that is gone: an error, and nothing stands there."""
    with pytest.raises(ValueError, match="written down"):
        place.debts.write_down(place.debt(directory="/a\nmemory.high 1 max 4096 /b"))
    place.run.rmdir()
    with pytest.raises(FileNotFoundError):
        place.debts.write_down(place.debt())
    with pytest.raises(FileNotFoundError):
        Debts(str(place.run), "me")


def test_odd_names(place: Place) -> None:
    """Spaces and bytes that are no text come back as they were."""
    debt = place.debt(directory=os.fsdecode(b"/a b/\xff c"))
    place.debts.write_down(debt)
    assert read_debts(str(place.run)) == ("me", [debt])


def test_a_link_is_not_believed(place: Place, tmp_path: Path) -> None:
    """Neither followed when it is read, nor when it is written."""
    other = tmp_path / "other"
    other.write_text("oomd debts 1 me\n", "ascii")
    (place.run / NAME).symlink_to(other)
    assert read_debts(str(place.run)) == ("", [])
    (place.run / f"{NAME}.new").symlink_to(other)
    with pytest.raises(OSError, match="link"):
        place.debts.write_down(place.debt())


@settings(deadline=None)
@given(data=st.binary(max_size=200))
def test_arbitrary_bytes(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    """Whatever stands there, nothing fails, and only the two known files are ever written."""
    folder = tmp_path_factory.mktemp("run")
    (folder / NAME).write_bytes(b"oomd debts 1 me\n" + data)
    assert {debt.file for debt in read_debts(str(folder))[1]} <= {"memory.high", "cgroup.freeze"}


def test_several_threads(place: Place) -> None:
    """Each writes its own down and strikes it out; what stands there is always whole."""

    def work(number: int) -> None:
        for turn in range(30):
            debt = place.debt(directory=f"/{number}/{turn}")
            place.debts.write_down(debt)
            assert debt in read_debts(str(place.run))[1]
            place.debts.strike_out(debt)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert os.listdir(place.run) == []

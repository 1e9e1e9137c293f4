"""Processes by their numbers, as the real procfs lists them."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oomd.kernel import syscalls
from oomd.kernel.pids import PidRange, names_of
from oomd.kernel.process import list_pids

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def proc_fd() -> Iterator[int]:
    fd = os.open("/proc", os.O_RDONLY | os.O_DIRECTORY)
    yield fd
    os.close(fd)


@pytest.fixture
def pids(proc_fd: int) -> Iterator[PidRange]:
    made = PidRange(proc_fd)
    assert made.can_tell
    yield made
    made.close()


def test_everybody_of_a_range_and_nobody_else(pids: PidRange, proc_fd: int) -> None:
    """Whoever was there before and after is listed, whoever was there neither before nor after is not."""
    before, between, after = list_pids(proc_fd), pids.processes(1, 1 << 22), list_pids(proc_fd)
    assert {*before} & {*after} <= {*between} <= {*before} | {*after}
    assert between == sorted(between)
    own = os.getpid()
    assert pids.processes(own, own) == [own]
    assert own not in pids.processes(own + 1, 1 << 22)
    assert pids.processes(max(1, own - 300), own)[-1] == own
    assert pids.processes(own, own - 1) == []


def test_a_child_until_it_was_reaped(pids: PidRange) -> None:
    """One that has ended is there as long as nobody has waited for it."""
    with subprocess.Popen([sys.executable, "-I", "-S", "-c", ""], stdin=subprocess.DEVNULL) as child:
        assert pids.processes(child.pid, child.pid) == [child.pid]
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert pids.processes(child.pid, child.pid) == [child.pid]
    assert pids.processes(child.pid, child.pid) == []


def test_threads_are_none(pids: PidRange) -> None:
    """They have numbers from the same range, and folders."""
    done, numbers = threading.Event(), []

    def stay() -> None:
        numbers.append(threading.get_native_id())
        done.wait()

    thread = threading.Thread(target=stay)
    thread.start()
    while not numbers:
        os.sched_yield()
    assert os.path.exists(f"/proc/{numbers[0]}")
    assert pids.processes(numbers[0], numbers[0]) == []
    done.set()
    thread.join()


def test_other_directories_and_other_libraries_cannot_tell(
    tmp_path: Path, proc_fd: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then each pid is asked for."""
    fd = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    assert not PidRange(fd).can_tell
    (tmp_path / "self").symlink_to(str(os.getpid()))
    (tmp_path / str(os.getpid())).mkdir()
    (tmp_path / "a name that is no number").mkdir()
    assert not PidRange(fd).can_tell
    os.close(fd)
    monkeypatch.setattr(syscalls, "_getdents", None)
    assert not PidRange(proc_fd).can_tell


def test_the_newest_first_in_pieces(pids: PidRange, proc_fd: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Everybody who is there all the time, once, the highest first; however many pids nobody has."""
    monkeypatch.setattr("oomd.kernel.pids.PIECE", 4)
    monkeypatch.setattr("oomd.kernel.pids.FIRST_SPAN", 2)
    for newest in (0, os.getpid(), 1):
        before = list_pids(proc_fd)
        found = [pid for piece in pids.newest_first(newest) for pid in piece]
        after = list_pids(proc_fd)
        assert {*before} & {*after} <= {*found}
        came_and_went = {*found} - {*before} - {*after}  # whom others on this machine start
        assert not [pid for pid in came_and_went if os.path.exists(f"/proc/{pid}")]
        assert found == sorted({*found}, reverse=True)


def entry(name: bytes) -> bytes:
    """As the kernel writes one (struct linux_dirent64), with whatever there was before behind the name."""
    width = (19 + len(name) + 1 + 7) // 8 * 8
    head = bytes(range(1, 17)) + width.to_bytes(2, sys.byteorder) + b"\4"
    return (head + name + b"\0").ljust(width, b"7")


@given(names=st.lists(st.integers(1, 1 << 22).map(lambda pid: str(pid).encode()) | st.sampled_from([b"self", b"fs"])))
def test_names_of_entries(names: list[bytes]) -> None:
    """Numbers of one length or of several, and other names."""
    assert names_of(b"".join(map(entry, names))) == names


@given(first=st.integers(1, 1 << 22), count=st.integers(1, 300))
def test_names_of_entries_in_a_row(first: int, count: int) -> None:
    """As processes are listed."""
    names = [str(pid).encode() for pid in range(first, first + count)]
    assert names_of(b"".join(map(entry, names))) == names

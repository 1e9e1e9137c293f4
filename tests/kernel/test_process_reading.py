"""Reading /proc/PID of real processes: absence, permission, and leaders that are dead."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from oomd.kernel.process import (
    list_pids,
    parse_stat,
    parse_statm,
    parse_status,
    read_pid_file,
    read_thread_status,
)
from tests.kernel.arbitrary import captured
from tests.kernel.children import DEAD_LEADER, HOLD_32_MIB, WAIT, Child, child, said, settled

if TYPE_CHECKING:
    from collections.abc import Iterator

MIB = 1024 * 1024


@pytest.fixture
def proc() -> Iterator[int]:
    """A descriptor of the real /proc."""
    fd = os.open("/proc", os.O_RDONLY | os.O_DIRECTORY)
    yield fd
    os.close(fd)


def end_without_reaping(process: Child) -> None:
    """The child is killed and becomes a zombie."""
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)


def test_list_pids(proc: int) -> None:
    """All pids and nothing else, by path and by descriptor."""
    assert {1, os.getpid()} <= set(list_pids(proc)) & set(list_pids("/proc"))


def test_read_real_files(proc: int) -> None:
    """Files are read to their end, however long."""
    length = 100_000
    with child(f"import os, sys; sys.argv or os.execv; {WAIT}  # {'x' * length}") as process:
        said(process)
        cmdline = read_pid_file(proc, process.pid, "cmdline")
        assert cmdline is not None
        assert len(cmdline) > length
        assert cmdline.endswith(b"x\0")
        assert read_pid_file(proc, process.pid, "status") is not None


def test_read_of_the_dead(proc: int) -> None:
    """F8: a process that is gone is None, and of a zombie what the kernel still tells."""
    with child(HOLD_32_MIB) as process:
        said(process)
        end_without_reaping(process)
        assert parse_stat(read_pid_file(proc, process.pid, "stat") or b"").state == "Z"
        assert read_pid_file(proc, process.pid, "smaps_rollup") is None
        assert read_thread_status(proc, process.pid) is None
        process.wait()
        for name in ("stat", "status", "smaps_rollup", "cgroup"):
            assert read_pid_file(proc, process.pid, name) is None
        assert read_thread_status(proc, process.pid) is None


def test_death_between_open_and_read(proc: int) -> None:
    """F8: a directory that outlives its process answers ESRCH, which is None as well."""
    with child(HOLD_32_MIB) as process:
        said(process)
        task = os.open(f"/proc/{process.pid}/task", os.O_RDONLY | os.O_DIRECTORY)
        process.kill()
        process.wait()
        try:
            assert read_pid_file(task, process.pid, "status") is None
        finally:
            os.close(task)


def test_denied(proc: int) -> None:
    """F19: what may not be read is `denied` where that is given, None for smaps_rollup, and else an error."""
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    try:
        assert read_pid_file(proc, 1, "smaps_rollup") is None
        assert read_pid_file(proc, 1, "smaps_rollup", denied=b"") == b""
        assert read_pid_file(proc, 1, "environ", denied=b"?") == b"?"
        with pytest.raises(PermissionError):
            read_pid_file(proc, 1, "environ")
    finally:
        os.seteuid(user)


def test_other_errors(proc: int) -> None:
    """F19: an error that does not mean absence is not hidden."""
    with pytest.raises(IsADirectoryError):
        read_pid_file(proc, os.getpid(), "task")


def test_dead_leader_with_live_threads(proc: int) -> None:
    """F15: the memory of a process whose main thread ended is found through its threads."""
    with child(DEAD_LEADER) as process:
        tid = int(said(process))
        stat = parse_stat(read_pid_file(proc, process.pid, "stat") or b"")
        leader = parse_status(read_pid_file(proc, process.pid, "status") or b"")
        assert (stat.state, stat.num_threads, leader.rss_anon_bytes) == ("Z", 2, 0)
        assert parse_statm(read_pid_file(proc, process.pid, "statm") or b"") == (0, 0)
        thread = read_thread_status(proc, process.pid)
        assert thread is not None
        assert thread.rss_anon_bytes >= 64 * MIB
        assert (thread.tgid, thread.num_threads) == (process.pid, 2)
        assert tid != process.pid
        end_without_reaping(process)
        assert read_thread_status(proc, process.pid) is None


def test_thread_status_of_the_living(proc: int) -> None:
    """For a process whose leader lives, the threads say what it says; for a kernel thread, that there is no
    memory.
    """
    with child(HOLD_32_MIB) as process:
        said(process)
        settled(process)
        seen = read_thread_status(proc, process.pid)
        assert seen is not None
        told = parse_status(Path(f"/proc/{process.pid}/status").read_bytes())
        assert seen == told


def test_threads_without_memory(tmp_path: Path) -> None:
    """F15: a thread that has its memory still comes before one that has left it, dead ones never."""
    root = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    task = tmp_path / "7" / "task"
    statuses = {"7": "status_dead_leader", "8": "status_kernel_thread"}
    try:
        for tid, name in statuses.items():
            (task / tid).mkdir(parents=True)
            (task / tid / "status").write_bytes(captured(name))
        assert read_thread_status(root, 7) == parse_status(captured("status_kernel_thread"))
        (task / "9").mkdir()
        (task / "9" / "status").write_bytes(captured("status_live_thread"))
        assert read_thread_status(root, 7) == parse_status(captured("status_live_thread"))
    finally:
        os.close(root)


def test_group_session_and_page_tables_of_this_process() -> None:
    """What stat and status say of us is what the system calls say."""
    stat = parse_stat(Path("/proc/self/stat").read_bytes())
    assert (stat.pgrp, stat.session) == (os.getpgrp(), os.getsid(0))
    assert parse_status(Path("/proc/self/status").read_bytes()).page_tables_bytes > 0

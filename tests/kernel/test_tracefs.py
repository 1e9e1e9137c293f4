"""Trace instances of our own, in this machine's real tracefs where it can be had, and the reason where it cannot."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oomd.kernel.process import parse_stat
from oomd.kernel.trace_pipe import parse_trace_pipe
from oomd.kernel.tracefs import (
    TracingMissing,
    find_tracefs,
    lockdown,
    make_instance,
    open_instances,
    owner_of,
    remove_instance,
    remove_stale,
    why_not_traced,
)
from tests.kernel.children import WAIT, child, said

if TYPE_CHECKING:
    from collections.abc import Iterator

    from oomd.kernel.tracefs import Instance

CAP_SYS_ADMIN = 21


def start_ticks(pid: int) -> int:
    """When a process began."""
    return parse_stat(Path(f"/proc/{pid}/stat").read_bytes()).start_ticks


@contextlib.contextmanager
def instance() -> Iterator[Instance | None]:
    """One of this process's own, removed afterwards; None where there can be none, for a reason that is told."""
    lost = why_not_traced()
    if lost:
        with pytest.raises(TracingMissing) as missing:
            make_instance(os.getpid())
        assert str(missing.value) == lost
        yield None
        return
    made = make_instance(os.getpid())
    try:
        yield made
    finally:
        for fd in (made.pipe_fd, made.instances_fd):
            with contextlib.suppress(OSError):
                os.close(fd)
        instances_fd = open_instances()
        assert remove_instance(instances_fd, made.name)
        os.close(instances_fd)


def test_sigkill_of_a_process_is_told() -> None:
    """A SIGKILL that somebody else sends is read from the pipe with the victim's pid; SIGTERM is not."""
    with instance() as made:
        if made is None:
            return
        with child(WAIT) as asked, child(WAIT) as victim:
            said(asked)
            said(victim)
            asked.terminate()
            asked.wait()
            code = f"import os; os.kill({victim.pid}, 9)"
            subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
            victim.wait()
        pids = [record.pid for record in parse_trace_pipe(os.read(made.pipe_fd, 1 << 16))[0]]
        assert victim.pid in pids
        assert asked.pid not in pids


def test_empty_pipe_does_not_wait() -> None:
    """Reading what has nothing to say is EAGAIN."""
    with instance() as made:
        if made is None:
            return
        with contextlib.suppress(BlockingIOError):
            while os.read(made.pipe_fd, 1 << 16):
                pass
        assert os.get_blocking(made.pipe_fd) is False
        assert os.get_inheritable(made.pipe_fd) is False


def test_nobody_sees_the_mount() -> None:
    """No mount of ours appears in this process's mount namespace."""
    before = Path("/proc/self/mountinfo").read_bytes()
    with instance():
        assert Path("/proc/self/mountinfo").read_bytes() == before


def test_instance_in_use_stays() -> None:
    """While somebody reads it, it is not removed; afterwards it is, and a second time is as good."""
    with instance() as made:
        if made is None:
            return
        assert remove_instance(made.instances_fd, made.name, 0) is False
        os.close(made.pipe_fd)
        assert remove_instance(made.instances_fd, made.name) is True
        assert remove_instance(made.instances_fd, made.name, 0) is True


def test_only_stale_ones_of_ours_are_removed() -> None:
    """What an oomd left that is no more goes; a living one's stays, and so do other people's whatever their names."""
    with instance() as made:
        if made is None:
            return
        gone = subprocess.Popen(["true"])
        gone.wait()
        stale = [f"oomd-{gone.pid}-1", f"oomd-{os.getpid()}-{start_ticks(os.getpid()) + 1}"]
        kept = [f"oomd-test-{os.getpid()}", f"oomd-{os.getpid()}-x", f"moomd-{gone.pid}-1"]
        for name in (*stale, *kept):
            os.mkdir(name, dir_fd=made.instances_fd)
        try:
            assert set(stale) <= set(remove_stale(made.instances_fd))
            left = os.listdir(made.instances_fd)
            assert {made.name, *kept} <= set(left)
            assert not set(stale) & set(left)
        finally:
            for name in (*stale, *kept):
                remove_instance(made.instances_fd, name)


def test_failure_half_way_leaves_nothing() -> None:
    """A second instance of the same name is refused with the reason, and the first one lives."""
    with instance() as made:
        if made is None:
            return
        with pytest.raises(TracingMissing, match="EEXIST"):
            make_instance(os.getpid())
        assert made.name in os.listdir(made.instances_fd)


def test_reason_without_the_right() -> None:
    """A process without CAP_SYS_ADMIN is told what it needs, by name."""
    drop = f"import ctypes; ctypes.CDLL(None).prctl(24, {CAP_SYS_ADMIN}, 0, 0, 0)"  # PR_CAPBSET_DROP
    tell = "from oomd.kernel.tracefs import why_not_traced; print(why_not_traced())"
    unmount = "import os, sys; os.execv(sys.executable, [sys.executable, '-c', sys.argv[1]])"
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", f"{drop}\n{unmount}", f"import sys; sys.path.insert(0, {str(root)!r}); {tell}"],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    mounted = find_tracefs(Path("/proc/self/mountinfo").read_bytes())
    if not mounted or os.geteuid():
        assert done.stdout.strip()
    if not mounted and os.geteuid() == 0 and not why_not_traced():
        assert "tracefs is mounted nowhere and cannot be mounted (EPERM: needs CAP_SYS_ADMIN" in done.stdout
    assert done.stderr == ""


def test_reason_in_another_pid_namespace() -> None:
    """Records name processes as the first PID namespace does: elsewhere they would be other processes' numbers."""
    code = "from oomd.kernel.tracefs import why_not_traced; print(why_not_traced())"
    command = ["unshare", "--pid", "--fork", "--mount-proc", sys.executable, "-c", code]
    if os.geteuid():
        command[1:1] = ["--user", "--map-root-user"]
    root = Path(__file__).parents[2]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, cwd=root)
    if done.returncode and "unshare" in done.stderr:
        assert "Operation not permitted" in done.stderr  # no namespaces for us here
    else:
        assert "another" in done.stdout


def test_lockdown_is_told_or_unknown() -> None:
    """One of the kernel's three words, or nothing."""
    assert lockdown() in ("", "none", "integrity", "confidentiality")


@pytest.mark.parametrize(
    ("name", "owner"),
    [
        ("oomd-12-345", (12, 345)),
        ("oomd-0-0", (0, 0)),
        ("oomd-012-345", None),
        ("oomd-12", None),
        ("oomd-12-345-6", None),
        ("oomd--1-345", None),
        ("oomd-1٣-345", None),
        ("oomd-" + "9" * 5000 + "-1", None),
        ("doomd-12-345", None),
        ("", None),
    ],
)
def test_owner_is_told_by_the_name(name: str, owner: tuple[int, int] | None) -> None:
    """Only names exactly as we write them have an owner."""
    assert owner_of(name) == owner


@given(st.text())
def test_name_that_has_an_owner_is_written_so(name: str) -> None:
    """Whatever is taken for ours is spelled as ours is."""
    owner = owner_of(name)
    assert owner is None or name == "oomd-{}-{}".format(*owner)


def test_mounts_are_found() -> None:
    """Mount points of tracefs, with spaces in them, and nothing else."""
    mountinfo = (
        b"30 23 0:11 / /sys/kernel/tracing rw,nosuid shared:11 - tracefs tracefs rw\n"
        b"31 23 0:12 / /sys/kernel/debug rw shared:12 - debugfs debugfs rw\n"
        b"32 23 0:11 / /mnt/a\\040b rw - tracefs none rw\n"
        b"33 23 0:13 / /tracefs rw - tmpfs tracefs rw\n"
        b"broken\n - tracefs\n"
    )
    assert find_tracefs(mountinfo) == ["/sys/kernel/tracing", "/mnt/a b"]

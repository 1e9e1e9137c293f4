"""Parsers of /proc/PID, and reading it."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from oomd.kernel.files import PAGE_BYTES, KernelFormatError
from oomd.kernel.process import (
    decode_name,
    frame_of,
    parse_cgroup,
    parse_cgroup_v1_memory,
    parse_cgroup_v2,
    parse_memory,
    parse_stat,
    parse_statm,
    parse_status,
)
from oomd.kernel.smaps import Rollup, parse_smaps_rollup
from tests.fakes.proc_tree import FakeProcess, _status
from tests.kernel.arbitrary import captured, mangled, survives
from tests.kernel.children import HOLD_32_MIB, WAIT, Child, child, go_on, said, settled

MIB = 1024 * 1024
PF_KTHREAD = 0x00200000
PF_EXITING = 0x00000004


def read(process: Child, name: str) -> bytes:
    """One file of the child's directory."""
    return Path(f"/proc/{process.pid}/{name}").read_bytes()


# --- stat and statm


def test_captured_stat() -> None:
    """Fields stand where proc_pid_stat(5) says."""
    stat = parse_stat(captured("stat"))
    fields = captured("stat").split()
    assert (stat.pid, stat.comm, stat.state, stat.ppid) == (int(fields[0]), b"python", "S", int(fields[3]))
    assert (stat.flags, stat.minflt, stat.majflt) == (int(fields[8]), int(fields[9]), int(fields[11]))
    assert (stat.nice, stat.num_threads, stat.start_ticks) == (0, 1, int(fields[21]))
    assert (stat.rss_pages, stat.policy) == (int(fields[23]), int(fields[40]))


def test_captured_kernel_thread() -> None:
    """A kernel thread is known by its flag, has a parent of pid 0 and no memory."""
    stat, status = parse_stat(captured("stat_kernel_thread")), parse_status(captured("status_kernel_thread"))
    assert (stat.pid, stat.ppid, stat.comm) == (2, 0, b"kthreadd")
    assert stat.flags & PF_KTHREAD
    assert (stat.rss_pages, status.rss_anon_bytes, status.swap_bytes) == (0, 0, 0)


def test_captured_zombie() -> None:
    """F15: a zombie has its state and no memory anywhere."""
    stat, status = parse_stat(captured("stat_zombie")), parse_status(captured("status_zombie"))
    assert (stat.state, stat.num_threads, status.num_threads) == ("Z", 1, 1)
    assert parse_statm(captured("statm_zombie")) == (0, 0)
    assert status.rss_anon_bytes == 0


def test_captured_dead_leader() -> None:
    """F15: a dead leader looks like a zombie and has PF_EXITING, but counts two threads; the live one has
    the memory.
    """
    stat, leader = parse_stat(captured("stat_dead_leader")), parse_status(captured("status_dead_leader"))
    thread = parse_status(captured("status_live_thread"))
    assert (stat.state, stat.num_threads, bool(stat.flags & PF_EXITING)) == ("Z", 2, True)
    assert (leader.rss_anon_bytes, leader.num_threads) == (0, 2)
    assert thread.rss_anon_bytes >= 64 * MIB
    assert thread.tgid == leader.tgid == stat.pid


def test_captured_hostile_name() -> None:
    """A name with parentheses, a state, a newline, a backslash and a byte that is no text spoils nothing."""
    stat = parse_stat(captured("stat_hostile"))
    assert (stat.comm, stat.state, stat.num_threads) == (b"a) R 1 (\n\xff\\", "S", 1)
    assert parse_status(captured("status_hostile")).tgid == stat.pid
    assert decode_name(stat.comm) == "a) R 1 (\n\\xff\\"


@given(name=st.binary(max_size=15).map(lambda name: name.replace(b"\0", b"")), state=st.sampled_from("RSDZTtXI"))
def test_any_name(name: bytes, state: str) -> None:
    """Whatever a process calls itself, its name and the fields after it are read exactly."""
    _, _, rest = captured("stat").partition(b") S ")
    stat = parse_stat(b"7 (" + name + b") " + state.encode() + b" " + rest)
    plain = parse_stat(captured("stat"))
    assert (stat.pid, stat.comm, stat.state) == (7, name, state)
    assert (stat.ppid, stat.start_ticks, stat.policy) == (plain.ppid, plain.start_ticks, plain.policy)


def test_real_hostile_name() -> None:
    """A real process that named itself so is read."""
    code = "from oomd.kernel.syscalls import prctl_set_name\n"
    code += rf"prctl_set_name(b'a) R 1 (\n\xff'); {WAIT}"
    with child(code) as process:
        said(process)
        stat = parse_stat(read(process, "stat"))
        assert (stat.pid, stat.comm, stat.ppid) == (process.pid, b"a) R 1 (\n\xff", os.getpid())
        assert parse_status(read(process, "status")).tgid == process.pid


def test_real_process_agrees_with_psutil() -> None:
    """What we read of a real child is what psutil reads."""
    with child(f"import os; os.nice(3); {HOLD_32_MIB}") as process:
        said(process)
        settled(process)
        other = psutil.Process(process.pid)
        stat, status = parse_stat(read(process, "stat")), parse_status(read(process, "status"))
        resident, shared = parse_statm(read(process, "statm"))
        assert (
            (stat.ppid, stat.nice, stat.num_threads)
            == (other.ppid(), other.nice(), other.num_threads())
            == (
                os.getpid(),
                3 + os.nice(0),
                1,
            )
        )
        assert status.uid == other.uids().effective
        assert resident * PAGE_BYTES == other.memory_info().rss
        assert shared * PAGE_BYTES == status.rss_file_bytes + status.rss_shmem_bytes
        assert (resident - shared) * PAGE_BYTES == status.rss_anon_bytes > 32 * MIB
        assert abs(stat.start_ticks / os.sysconf("SC_CLK_TCK") + psutil.boot_time() - other.create_time()) < 1


@pytest.mark.parametrize("data", [b"", b"7 (x) S 1 2 3\n", b"7 x S 1\n", b"x" + captured("stat")])
def test_malformed_stat(data: bytes) -> None:
    """F19: a stat without its fields is an error."""
    with pytest.raises(KernelFormatError, match="/proc/PID/stat"):
        parse_stat(data)


def test_statm() -> None:
    """Resident pages and those that are not anonymous."""
    assert parse_statm(captured("statm")) == (7296, 1460)
    with pytest.raises(KernelFormatError):
        parse_statm(b"1 2\n")


# --- status


def test_captured_status() -> None:
    """Sizes are bytes, and nothing is pending."""
    status = parse_status(captured("status"))
    lines = dict(line.partition(b":\t")[::2] for line in captured("status").splitlines())
    assert status.rss_anon_bytes == int(lines[b"RssAnon"].split()[0]) * 1024 > 20 * MIB
    assert status.rss_file_bytes == int(lines[b"RssFile"].split()[0]) * 1024
    assert (status.rss_shmem_bytes, status.swap_bytes, status.uid) == (0, 0, 0)
    assert (status.num_threads, status.tgid, status.kill_pending) == (1, int(lines[b"Tgid"]), False)


def test_effective_user() -> None:
    """The user id is the second of the four."""
    assert parse_status(captured("status").replace(b"Uid:\t0\t0\t0\t0", b"Uid:\t1\t65534\t3\t4")).uid == 65534


@given(line=st.sampled_from([b"SigPnd", b"ShdPnd"]), signal=st.integers(1, 64))
def test_pending_signals(line: bytes, signal: int) -> None:
    """SIGKILL, and only SIGKILL, for the thread or for the process, is a kill that is pending."""
    zero = line + b":\t" + b"0" * 16
    data = captured("status").replace(zero, line + b":\t%016x" % (1 << signal - 1))
    assert parse_status(data).kill_pending == (signal == 9)


@pytest.mark.parametrize("field", ["Uid", "Threads", "Tgid", "SigPnd", "ShdPnd"])
def test_status_without_a_needed_field(field: str) -> None:
    """F19: without what decides there is no value, and the error names the field."""
    with pytest.raises(KernelFormatError, match=f"/proc/PID/status: {field}"):
        parse_status(captured("status").replace(f"\n{field}:".encode(), b"\nOther:"))


# --- smaps_rollup


def test_captured_rollup() -> None:
    """Sizes are bytes; a process that shares nothing has all its anonymous memory to itself."""
    rollup = parse_smaps_rollup(captured("smaps_rollup"))
    assert (rollup.rss_bytes, rollup.anonymous_bytes) == (29184 * 1024, 23344 * 1024)
    assert rollup.pss_anon_bytes == rollup.private_dirty_bytes == rollup.anonymous_bytes
    assert (rollup.pss_shmem_bytes, rollup.private_clean_bytes) == (0, 12 * 1024)
    assert (rollup.swap_bytes, rollup.swap_pss_bytes) == (0, 0)
    assert rollup.private_bytes == rollup.proportional_bytes == 23344 * 1024


def test_old_rollup() -> None:
    """F19: kernels that do not tell Pss_Anon give an estimate all the same."""
    data = b"".join(line for line in captured("smaps_rollup").splitlines(keepends=True) if b"Pss_" not in line)
    rollup = parse_smaps_rollup(data)
    assert (rollup.pss_anon_bytes, rollup.pss_shmem_bytes) == (None, None)
    assert rollup.private_bytes == rollup.proportional_bytes == 23344 * 1024


def test_empty_rollup() -> None:
    """A process that has no memory any more has nothing to parse: an error, not zeros."""
    with pytest.raises(KernelFormatError):
        parse_smaps_rollup(b"")


@given(
    private=st.integers(0, 1 << 40),
    clean=st.integers(0, 1 << 40),
    shared=st.lists(st.tuples(st.integers(0, 1 << 40), st.integers(2, 50)), max_size=4),
    file_dirty=st.integers(0, 1 << 30),
    private_swap=st.integers(0, 1 << 40),
    shared_swap=st.integers(0, 1 << 40),
)
def test_private_is_never_above_what_is_held(
    private: int,
    clean: int,
    shared: list[tuple[int, int]],
    file_dirty: int,
    private_swap: int,
    shared_swap: int,
) -> None:
    """F17: for any mixture of private, clean and shared pages the estimate keeps within the proportional
    share, and what is shared with many counts for little.
    """
    total_shared = sum(size for size, _ in shared)
    share = sum(size // sharers for size, sharers in shared)
    rollup = Rollup(
        rss_bytes=private + clean + total_shared + file_dirty,
        anonymous_bytes=private + clean + total_shared,
        pss_anon_bytes=private + clean + share,
        pss_shmem_bytes=0,
        private_dirty_bytes=private + file_dirty,
        private_clean_bytes=clean,
        swap_bytes=private_swap + shared_swap,
        swap_pss_bytes=private_swap + shared_swap // 2,
    )
    anon_estimate = rollup.private_bytes - max(0, 2 * rollup.swap_pss_bytes - rollup.swap_bytes)
    assert private <= anon_estimate + total_shared
    assert min(private, private + clean + share) <= anon_estimate <= private + clean + share
    assert abs(rollup.private_bytes - anon_estimate - private_swap) <= 1
    if not shared:
        assert anon_estimate == private + clean
    assert rollup.private_bytes <= rollup.proportional_bytes <= rollup.anonymous_bytes + rollup.swap_bytes


COW_SERVER = """
import os, signal
held = bytearray(b"x") * (64 << 20)
idle = os.fork()
if not idle:
    signal.pause()
print(flush=True); input()
os.kill(idle, signal.SIGKILL); os.waitpid(idle, 0)
print(flush=True); input()
"""


def test_forked_server() -> None:
    """F17: 64 MiB shared with a forked child are not private and count half; once the child is gone they are
    private.
    """
    with child(COW_SERVER) as process:
        said(process)
        rollup = parse_smaps_rollup(read(process, "smaps_rollup"))
        assert parse_status(read(process, "status")).rss_anon_bytes > 64 * MIB
        assert rollup.private_bytes < 16 * MIB
        assert 32 * MIB <= rollup.proportional_bytes < 48 * MIB
        go_on(process)
        said(process)
        assert parse_smaps_rollup(read(process, "smaps_rollup")).private_bytes > 64 * MIB


# --- cgroup


def test_captured_cgroup() -> None:
    """On a hybrid host that leaves v2 unused the path of the v1 memory hierarchy counts."""
    data = captured("cgroup_hybrid")
    assert parse_cgroup_v2(data) == "/"
    assert parse_cgroup_v1_memory(data) == parse_cgroup(data) == "/jobs/build"


@pytest.mark.parametrize(
    ("data", "path"),
    [
        (b"0::/user.slice/app\n", "/user.slice/app"),
        (b"0::/\n", "/"),
        (b"", ""),
        (b"4:memory,hugetlb:/x\n", "/x"),
        (b"4:memory:/old\n0::/new\n", "/new"),
        (b"3:cpuset:/c\n0::/\n", "/"),
        (b"0::/a:b memory\xff\n", "/a:b memory\\xff"),
        (b"4:memory:/a:b\n", "/a:b"),
    ],
)
def test_cgroup(data: bytes, path: str) -> None:
    """The v2 path counts unless it is the root and v1 knows better; colons and any bytes may stand in a
    path.
    """
    assert parse_cgroup(data) == path


# --- anything


@given(mangled("stat", "stat_hostile", "stat_kernel_thread"))
def test_arbitrary_stat(data: bytes) -> None:
    """F19: anything gives a value or KernelFormatError."""
    assert survives(parse_stat, data)
    assert survives(parse_statm, data)


@given(mangled("status", "status_hostile", "status_zombie"))
def test_arbitrary_status(data: bytes) -> None:
    """F19: anything gives a value or KernelFormatError."""
    assert survives(parse_status, data)


@given(mangled("smaps_rollup"))
def test_arbitrary_rollup(data: bytes) -> None:
    """F19: anything gives a value, whose estimates are amounts, or KernelFormatError."""
    assert survives(lambda text: parse_smaps_rollup(text).private_bytes, data)
    assert survives(lambda text: parse_smaps_rollup(text).proportional_bytes, data)


@given(mangled("cgroup_hybrid"))
def test_arbitrary_cgroup(data: bytes) -> None:
    """F19: anything gives a path, perhaps an empty one."""
    assert isinstance(parse_cgroup(data), str)
    parse_cgroup_v2(data)
    parse_cgroup_v1_memory(data)


@given(st.binary())
def test_names_become_text(name: bytes) -> None:
    """Any name becomes text that can be printed as UTF-8."""
    assert decode_name(name).encode("utf-8") is not None


# --- the frame of status

FRAMED = st.builds(
    FakeProcess,
    pid=st.integers(1, 3),
    comm=st.sampled_from(["a", "b (sd-pam)", "c\nVmPeak:\t9 kB", "\\"]),
    ppid=st.integers(1, 2),
    rss_anon=st.integers(0, 3).map(lambda pages: pages * PAGE_BYTES),
    rss_file=st.integers(0, 1).map(lambda pages: pages * PAGE_BYTES),
    rss_shmem=st.integers(0, 1).map(lambda pages: pages * PAGE_BYTES),
    swap=st.integers(0, 1).map(lambda pages: pages * PAGE_BYTES),
    uid=st.integers(0, 1),
    state=st.sampled_from("SDRT"),
    threads=st.integers(1, 2),
    kill_pending=st.booleans(),
)


@given(before=FRAMED, after=FRAMED, alike=st.booleans())
def test_what_the_frame_does_not_show_is_memory(before: FakeProcess, after: FakeProcess, alike: bool) -> None:
    """Where the frame has stayed the same, only figures of memory can have changed, and these are told."""
    if alike:
        sizes = {name: getattr(after, name) for name in ("rss_anon", "rss_file", "rss_shmem", "swap")}
        after = replace(before, **sizes)
    texts = [_status(each, each.pid, with_memory=True) for each in (before, after)]
    first, second = map(parse_status, texts)
    told = parse_memory(texts[1])
    memory = ("rss_anon_bytes", "rss_file_bytes", "rss_shmem_bytes", "swap_bytes", "page_tables_bytes")
    assert told == tuple(getattr(second, name) for name in memory)
    others = ("uid", "kill_pending", "num_threads", "tgid", "ppid", "state", "name")
    same = all(getattr(first, name) == getattr(second, name) for name in others)
    assert (frame_of(texts[0]) == frame_of(texts[1])) == same
    assert same or not alike


def test_frame_of_real_and_of_those_without_memory() -> None:
    """Ours has one; kernel threads, zombies and broken texts have none, so they are parsed as a whole."""
    data = Path("/proc/self/status").read_bytes()
    status = parse_status(data)
    frame = frame_of(data)
    assert b"\nPPid:\t%d\n" % os.getppid() in frame
    assert b"\nShdPnd:" in frame
    assert b"VmRSS" not in frame
    assert parse_memory(data)[0] == status.rss_anon_bytes > 0
    assert frame_of(b"") == frame_of(b"\nThreads:\t1\nVmPeak:\t1 kB\n") == b""
    assert frame_of(_status(FakeProcess(1), 1, with_memory=False)) == b""


@given(st.binary(max_size=64), st.integers(0, 400))
def test_broken_status_is_survived(data: bytes, at: int) -> None:
    """Whatever stands there, there are five numbers or a clear error."""
    text = captured("status")
    assert survives(parse_memory, text[:at] + data + text[at:])
    assert isinstance(frame_of(text[:at] + data + text[at:]), bytes)

"""Lifting what hinders a victim, on real processes and control groups of the test's own."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from typing import TYPE_CHECKING

import pytest

from oomd.kernel.cgroup_levers import Lever, LeverMount, find_levers
from oomd.reap.hindrance import AT_ONCE_S, DROPPED, GO, LOOK_AGAIN_S, Lifter, keep_apart, promote_thread
from tests.kernel.children import DEAD_LEADER, child, said
from tests.kill.parked import parked
from tests.reap.levers import control_group, find_mount
from tests.reap.victims import hold

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

PATIENCE_S = 90.0


@pytest.fixture
def lifter() -> Iterator[Lifter]:
    """A running lifter."""
    proc_fd = os.open("/proc", os.O_RDONLY | os.O_DIRECTORY)
    lifter = Lifter(proc_fd)
    lifter.start()
    yield lifter
    lifter.stop()
    lifter.thread.join(PATIENCE_S)
    assert not lifter.thread.is_alive()
    os.close(proc_fd)


def until(holds: Callable[[], bool]) -> None:
    """Waits for it."""
    end = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < end
        os.sched_yield()


def kill_and_lift(lifter: Lifter, *children: subprocess.Popen[bytes], patient: bool = False) -> None:
    """The last signal, and the lever."""
    pidfds = [os.pidfd_open(child.pid) for child in children]
    lifts = [lifter.prepare(victim.pid, pidfd, patient=patient) for victim, pidfd in zip(children, pidfds, strict=True)]
    lifter.wake()
    for lift, pidfd in zip(lifts, pidfds, strict=True):
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        lift.state = GO
        os.close(pidfd)


def run_everywhere(pid: int) -> None:
    """On every CPU, wherever these tests may run: that is nothing to be lifted."""
    os.sched_setaffinity(pid, range(os.cpu_count() or 1))


def words_of(lifter: Lifter, pid: int) -> str:
    """What was lifted, once it was."""
    until(lambda: pid in lifter._lifted)
    return ", ".join(lifter.take(pid))


def test_thread_in_idle_class_is_promoted() -> None:
    """SCHED_IDLE, nice 19 and one CPU become an ordinary class, nice -20 and every CPU."""
    child = hold(1)
    os.setpriority(os.PRIO_PROCESS, child.pid, 19)
    os.sched_setaffinity(child.pid, {min(os.sched_getaffinity(0))})
    os.sched_setscheduler(child.pid, os.SCHED_IDLE, os.sched_param(0))
    changed = promote_thread(child.pid)
    assert {"SCHED_IDLE", "nice 19"} <= set(changed)
    assert ("CPU affinity" in changed) == (os.cpu_count() != 1)
    assert os.sched_getscheduler(child.pid) == os.SCHED_OTHER
    assert os.getpriority(os.PRIO_PROCESS, child.pid) == -20
    assert len(os.sched_getaffinity(child.pid)) == os.cpu_count()
    child.kill()
    child.wait()
    assert promote_thread(child.pid) == []


def test_unhindered_victim_needs_nothing(lifter: Lifter) -> None:
    """Nothing is told as lifted where nothing was in the way."""
    child = hold(1)
    run_everywhere(child.pid)
    kill_and_lift(lifter, child)
    assert words_of(lifter, child.pid) in ("", f"nice {os.getpriority(os.PRIO_PROCESS, 0)}")
    assert child.wait() == -signal.SIGKILL


def test_nothing_is_lifted_before_the_signal(lifter: Lifter) -> None:
    """A victim whose signal failed keeps its class, and its copy of the pidfd is closed."""
    child = hold(1)
    os.sched_setscheduler(child.pid, os.SCHED_IDLE, os.sched_param(0))
    pidfd = os.pidfd_open(child.pid)
    lift = lifter.prepare(child.pid, pidfd)
    lifter.wake()
    copy = lift.pidfd
    lift.state = DROPPED
    until(lambda: not lifter._work)
    until(lambda: not os.path.exists(f"/proc/self/fd/{copy}"))
    assert os.sched_getscheduler(child.pid) == os.SCHED_IDLE
    assert lifter.take(child.pid) == ()
    os.close(pidfd)
    child.kill()
    child.wait()


def test_frozen_victim_is_thawed_and_its_group_frozen_again(lifter: Lifter) -> None:
    """In version 1 SIGKILL waits for the thaw; a group of victims only is thawed, and frozen again afterwards."""
    mount = find_mount("freezer", 1)
    if mount is None:
        pytest.skip("no freezer hierarchy of version 1; version 2 lets SIGKILL through (tests/vm)")
    with control_group(mount) as group:
        children = [hold(1), hold(1)]
        for child in children:
            (group / "cgroup.procs").write_text(str(child.pid), "ascii")
        (group / "freezer.state").write_text("FROZEN", "ascii")
        until(lambda: (group / "freezer.state").read_text("ascii") == "FROZEN\n")
        kill_and_lift(lifter, *children)
        assert [child.wait(PATIENCE_S) for child in children] == [-signal.SIGKILL] * 2
        # One of them thaws both, whoever of them was looked at first.
        assert any("freezer.state FROZEN" in words_of(lifter, child.pid) for child in children)
        until(lambda: (group / "freezer.self_freezing").read_text("ascii") == "1\n")


def test_stranger_in_a_frozen_group_stays_frozen(lifter: Lifter) -> None:
    """A freezer that holds somebody else is not touched: the victim leaves it alone."""
    mount = find_mount("freezer", 1)
    if mount is None:
        pytest.skip("no freezer hierarchy of version 1")
    with control_group(mount) as group:
        child, stranger = hold(1), hold(1)
        for each in (child, stranger):
            (group / "cgroup.procs").write_text(str(each.pid), "ascii")
        (group / "freezer.state").write_text("FROZEN", "ascii")
        until(lambda: (group / "freezer.state").read_text("ascii") == "FROZEN\n")
        kill_and_lift(lifter, child)
        assert child.wait(PATIENCE_S) == -signal.SIGKILL
        assert "left its cgroup with freezer.state" in words_of(lifter, child.pid)
        assert (group / "freezer.state").read_text("ascii") == "FROZEN\n"
        assert (group / "cgroup.procs").read_text("ascii").split() == [str(stranger.pid)]
        (group / "freezer.state").write_text("THAWED", "ascii")
        stranger.kill()
        stranger.wait()


def throttle(group: object, pid: int) -> tuple[str, str]:
    """Puts a process under a CPU limit of 1 %: the file, and what it says then."""
    name = "cpu.max" if os.path.exists(f"{group}/cpu.max") else "cpu.cfs_quota_us"
    with open(f"{group}/{name}", "w", encoding="ascii") as file:
        file.write("1000 100000" if name == "cpu.max" else "1000")
    with open(f"{group}/cgroup.procs", "w", encoding="ascii") as file:
        file.write(str(pid))
    with open(f"{group}/{name}", encoding="ascii") as file:
        return name, file.read()


def test_cpu_limit_is_lifted_and_put_back(lifter: Lifter) -> None:
    """A group that holds victims only loses its CPU limit, and has it again when they are gone."""
    mount = find_mount("cpu")
    assert mount is not None
    with control_group(mount) as group:
        child = hold(1)
        name, limit = throttle(group, child.pid)
        pidfd = os.pidfd_open(child.pid)
        lifter._doomed[child.pid] = os.dup(pidfd)
        (lever,) = lifter._find_levers(child.pid, {})
        assert lifter._pull(lever) == f"{name} {limit.strip()}"
        assert (group / name).read_text("ascii").split()[0] in ("max", "-1")
        kill_and_lift(lifter, child)
        assert child.wait(PATIENCE_S) == -signal.SIGKILL
        until(lambda: (group / name).read_text("ascii") == limit)
        os.close(pidfd)


def test_cpu_limit_of_a_stranger_stays(lifter: Lifter) -> None:
    """A limit that holds somebody else is not touched: the victim alone leaves it."""
    mount = find_mount("cpu")
    assert mount is not None
    with control_group(mount) as group:
        child, stranger = hold(1), hold(1)
        name, limit = throttle(group, child.pid)
        (group / "cgroup.procs").write_text(str(stranger.pid), "ascii")
        child.send_signal(signal.SIGSTOP)  # so that it is still there when it is looked at
        levers = lifter._find_levers(child.pid, {})
        assert [lever.file for lever in levers] == [name]
        assert lifter._pull(levers[0]) == ""
        kill_and_lift(lifter, child)
        assert child.wait(PATIENCE_S) == -signal.SIGKILL
        assert (group / name).read_text("ascii") == limit
        assert (group / "cgroup.procs").read_text("ascii").split() == [str(stranger.pid)]
        assert os.sched_getscheduler(stranger.pid) == os.SCHED_OTHER
        stranger.kill()
        stranger.wait()


def confine(group: Path, pid: int) -> str:
    """Puts a process on one CPU: what its CPU set says then."""
    mems = group / "cpuset.mems"
    if not mems.read_text("ascii").strip() and not (group / "cpuset.cpus.effective").exists():
        mems.write_text((group.parent / "cpuset.mems").read_text("ascii"), "ascii")  # version 1 takes nobody without
    (group / "cpuset.cpus").write_text(str(min(os.sched_getaffinity(0))), "ascii")
    (group / "cgroup.procs").write_text(str(pid), "ascii")
    return (group / "cpuset.cpus").read_text("ascii")


@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="there is no CPU set smaller than one CPU")
def test_cpu_set_is_lifted_and_put_back(lifter: Lifter) -> None:
    """A group that holds victims only gets every CPU of the one above, and has its own set again when they are gone."""
    mount = find_mount("cpuset")
    if mount is None:
        pytest.skip("no hierarchy with CPU sets")
    with control_group(mount) as group:
        with parked(1) as child:
            confined = confine(group, child.pid)
            assert len(os.sched_getaffinity(child.pid)) == 1
            kill_and_lift(lifter, child)
            assert f"cpuset.cpus {confined.strip()}" in words_of(lifter, child.pid)
            assert len(os.sched_getaffinity(child.pid)) == os.cpu_count()
            assert (group / "cpuset.cpus").read_text("ascii") != confined
        until(lambda: (group / "cpuset.cpus").read_text("ascii") == confined)


@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="there is no CPU set smaller than one CPU")
def test_cpu_set_of_a_stranger_stays(lifter: Lifter) -> None:
    """A set that confines somebody else is not touched: in version 1 the victim alone leaves it."""
    mount = find_mount("cpuset")
    if mount is None:
        pytest.skip("no hierarchy with CPU sets")
    stranger = hold(1)
    with control_group(mount) as group, parked(1) as child:
        confined = confine(group, child.pid)
        (group / "cgroup.procs").write_text(str(stranger.pid), "ascii")
        kill_and_lift(lifter, child)
        words = words_of(lifter, child.pid)
        assert (group / "cpuset.cpus").read_text("ascii") == confined
        assert len(os.sched_getaffinity(stranger.pid)) == 1
        if mount.version == 1:
            assert "left its cgroup with cpuset.cpus" in words
            assert len(os.sched_getaffinity(child.pid)) == os.cpu_count()
        stranger.kill()
        stranger.wait()


@pytest.mark.parametrize("version", [1, 2])
def test_cpu_set_on_a_tree_of_files(tmp_path: Path, version: int) -> None:
    """Whatever this machine has: lifted for a group of victims only, put back when they are gone, and left as it is
    where its owner has written something else meanwhile.
    """
    effective = "cpuset.cpus.effective" if version == 2 else "cpuset.cpus"
    (tmp_path / effective).write_text("0-3\n", "ascii")
    proc_fd = os.open("/proc", os.O_RDONLY | os.O_DIRECTORY)
    lifter = Lifter(proc_fd, b"")
    lifter._mounts = (LeverMount(str(tmp_path), "/", frozenset({"cpuset"}), version),)
    child, stranger = hold(1), hold(1)
    groups = {name: tmp_path / name for name in ("own", "changed", "mixed")}
    for name, group in groups.items():
        group.mkdir()
        (group / effective).write_text("1-1\n", "ascii")
        (group / "cpuset.cpus").write_text("1-1\n", "ascii")
        members = f"{child.pid}\n" if name != "mixed" else f"{child.pid}\n{stranger.pid}\n"
        (group / "cgroup.procs").write_text(members, "ascii")
    lifter._doomed[child.pid] = os.pidfd_open(child.pid)
    words = {}
    for name in groups:
        line = f"0::/{name}\n" if version == 2 else f"5:cpuset:/{name}\n"
        (lever,) = find_levers(line.encode(), lifter._mounts)
        words[name] = lifter._pull(lever)
    assert words == {"own": "cpuset.cpus 1-1", "changed": "cpuset.cpus 1-1", "mixed": ""}
    assert {name: text(group) for name, group in groups.items()} == {"own": "0-3", "changed": "0-3", "mixed": "1-1"}
    (groups["changed"] / "cpuset.cpus").write_text("2-2\n", "ascii")
    child.kill()
    child.wait()
    lifter._look_for_ends(time.monotonic())
    assert {name: text(group) for name, group in groups.items()} == {"own": "1-1", "changed": "2-2", "mixed": "1-1"}
    assert (lifter._pulled, lifter._doomed) == ([], {})
    stranger.kill()
    stranger.wait()
    os.close(proc_fd)


def text(group: Path) -> str:
    """What a CPU set says; all values are of one length, because a write to a file does not cut it."""
    return (group / "cpuset.cpus").read_text("ascii").strip()


def test_real_time_escapes_a_cpu_limit() -> None:
    """Where a victim cannot leave alone (version 2) its threads get a class that no CPU limit holds."""
    child = hold(1)
    assert promote_thread(child.pid, escape=True)[0] == "CPU limit escaped"
    assert os.sched_getscheduler(child.pid) == os.SCHED_RR
    child.kill()
    child.wait()


def test_dead_leader_is_promoted_through_its_threads(lifter: Lifter) -> None:
    """The main thread has ended, another holds the memory in SCHED_IDLE: that one is lifted."""
    with child(DEAD_LEADER) as process:
        tid = int(said(process))
        os.sched_setscheduler(tid, os.SCHED_IDLE, os.sched_param(0))
        pidfd = os.pidfd_open(process.pid)
        lifter.prepare(process.pid, pidfd).state = GO  # no signal: whoever is dead cannot be asked for his class
        lifter.wake()
        assert "SCHED_IDLE" in words_of(lifter, process.pid)
        assert os.sched_getscheduler(tid) == os.SCHED_OTHER
        assert os.getpriority(os.PRIO_PROCESS, tid) == -20
        os.close(pidfd)


def test_levers_are_read_once_for_victims_of_one_cgroup() -> None:
    """What the second victim of a motion needs is known from the first; a pulled lever is gone for both."""
    proc_fd = os.open("/proc", os.O_RDONLY | os.O_DIRECTORY)
    lifter = Lifter(proc_fd)
    children = [hold(1), hold(1)]
    known: dict[bytes, list[Lever]] = {}
    first, second = (lifter._find_levers(each.pid, known) for each in children)
    assert first is second
    assert len(known) == 1
    for each in children:
        each.kill()
        each.wait()
    os.close(proc_fd)


def test_patient_victim_is_left_alone_until_it_is_time(lifter: Lifter, monkeypatch: pytest.MonkeyPatch) -> None:
    """One of many, whom nothing is known to hinder: its threads are promoted when all the others are reaped."""
    monkeypatch.setattr("oomd.reap.hindrance.PATIENT_S", PATIENCE_S * 3)
    with parked(1) as child:
        run_everywhere(child.pid)
        os.setpriority(os.PRIO_PROCESS, child.pid, 5)
        kill_and_lift(lifter, child, patient=True)
        assert words_of(lifter, child.pid) == ""
        assert os.getpriority(os.PRIO_PROCESS, child.pid) == 5
        lifter.hurry()
        assert words_of(lifter, child.pid) == "nice 5"
        assert os.getpriority(os.PRIO_PROCESS, child.pid) == -20


def test_patience_ends_by_itself(lifter: Lifter, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever becomes of the others."""
    monkeypatch.setattr("oomd.reap.hindrance.PATIENT_S", 0.01)
    with parked(1) as child:
        os.setpriority(os.PRIO_PROCESS, child.pid, 5)
        kill_and_lift(lifter, child, patient=True)
        until(lambda: os.getpriority(os.PRIO_PROCESS, child.pid) == -20)


def test_patient_victim_of_a_limited_group_is_helped_at_once(lifter: Lifter, monkeypatch: pytest.MonkeyPatch) -> None:
    """What hinders may be its cgroup's: that is known only when it is looked at."""
    monkeypatch.setattr("oomd.reap.hindrance.PATIENT_S", PATIENCE_S * 3)
    mount = find_mount("cpu")
    assert mount is not None
    with control_group(mount) as group:
        with parked(1) as child:
            name, limit = throttle(group, child.pid)
            kill_and_lift(lifter, child, patient=True)
            assert f"{name} {limit.strip()}" in words_of(lifter, child.pid)
            assert os.getpriority(os.PRIO_PROCESS, child.pid) == -20
        until(lambda: (group / name).read_text("ascii") == limit)


def test_a_victim_that_nobody_reaps_comes_first() -> None:
    """Without process_mrelease the victim frees its memory itself, before everybody else if there are 2 CPUs."""
    child = hold(1)
    os.sched_setscheduler(child.pid, os.SCHED_IDLE, os.sched_param(0))
    proc_fd = os.open("/proc", os.O_RDONLY | os.O_DIRECTORY)
    lifter = Lifter(proc_fd, alone=True)
    assert promote_thread(child.pid, realtime=True)[0] == "SCHED_IDLE"
    assert os.sched_getscheduler(child.pid) == os.SCHED_RR
    assert lifter._realtime == ((os.cpu_count() or 1) > 1)
    child.kill()
    child.wait()
    os.close(proc_fd)


def test_reaper_and_victim_get_different_cpus() -> None:
    """One CPU for the reaper, all others for the victim; on a machine with one both stay as they are."""
    child, done = hold(1), threading.Event()
    pidfd, proc_fd = os.pidfd_open(child.pid), os.open("/proc", os.O_RDONLY | os.O_DIRECTORY)
    reaper = threading.Thread(target=done.wait)
    reaper.start()
    try:
        assert reaper.native_id is not None
        everywhere = os.sched_getaffinity(0)
        keep_apart(reaper.native_id, proc_fd, child.pid, pidfd)
        ours, theirs = os.sched_getaffinity(reaper.native_id), os.sched_getaffinity(child.pid)
        assert os.sched_getaffinity(0) == everywhere
        if (os.cpu_count() or 1) > 1:
            assert len(ours) == 1
            assert not ours & theirs
            assert everywhere <= ours | theirs
        else:
            assert ours == theirs == everywhere
    finally:
        done.set()
        reaper.join()
    child.kill()
    child.wait()
    os.close(pidfd)
    os.close(proc_fd)


def test_the_end_of_a_new_victim_is_looked_for_soon(lifter: Lifter) -> None:
    """Also when one that is stuck for good has made it look only now and then."""
    lifter._next_look = time.monotonic() + PATIENCE_S * 3
    child = hold(1)
    kill_and_lift(lifter, child)
    child.wait()
    until(lambda: child.pid in lifter._lifted)
    until(lambda: child.pid not in lifter._doomed)


def test_waiting_for_a_late_signal_costs_little(lifter: Lifter, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where every worker hangs, the lifter looks again now and then; it does not spin."""
    child = hold(1)
    pidfd = os.pidfd_open(child.pid)
    lift = lifter.prepare(child.pid, pidfd)
    lifter.wake()
    until(lambda: time.monotonic() > lift.born + AT_ONCE_S)
    looks: list[float] = []
    wait = lifter._bell.wait

    def note(timeout_s: float | None) -> None:
        looks.append(time.monotonic())
        wait(timeout_s)

    monkeypatch.setattr(lifter._bell, "wait", note)
    until(lambda: len(looks) >= 6)
    # Before the first of these it may have asked how long to wait, and been rung for.
    assert looks[5] - looks[2] >= 3 * LOOK_AGAIN_S
    lift.state = DROPPED
    until(lambda: not lifter._work)
    os.close(pidfd)
    child.kill()
    child.wait()


def test_one_that_merely_looks_is_not_busy(lifter: Lifter, monkeypatch: pytest.MonkeyPatch) -> None:
    """It sees at once what falls due meanwhile; where it has somebody to lift it would not."""
    seen: list[bool] = []
    look = lifter._look_for_ends

    def note(now: float) -> None:
        seen.append(lifter.is_busy)
        look(now)

    monkeypatch.setattr(lifter, "_look_for_ends", note)
    lifter.wake()
    until(lambda: bool(seen))
    assert not any(seen)
    child = hold(1)
    kill_and_lift(lifter, child)
    until(lambda: any(seen))
    child.wait()

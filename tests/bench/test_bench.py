"""``oomd bench reap`` as a person runs it, with small victims; nothing here depends on the clock."""

from __future__ import annotations

import contextlib
import errno
import itertools
import json
import os
import resource
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from oomd.bench.guardian import Guardian, GuardianLostError
from oomd.bench.killers import BACKENDS, Killers
from oomd.bench.meter import MOST_AT_ONCE, Meter, read_whole
from oomd.bench.stages import KINDS, staged, why_not
from oomd.kernel.features import probe_features
from oomd.kill.warrant import Refused
from oomd.model.units import MIB
from tests.descriptors import open_descriptors
from tests.waiting import is_ready

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
ENV = {**os.environ, "PYTHONPATH": str(ROOT)}


def bench(*words: str, check: bool = True, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """One bench to its end."""
    argv = [sys.executable, "-m", "oomd", "bench", "reap", *words]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=200, check=False, env=ENV | (env or {}))
    assert not check or done.returncode == 0, done.stderr
    return done


def left_over(pid: int | None = None) -> list[Path]:
    """Control groups that a bench of this pid has made and not removed; ours where none is given."""
    name = f"oomd-bench-{os.getpid() if pid is None else pid}-*"
    return [*Path("/sys/fs/cgroup").glob(f"*/{name}"), *Path("/sys/fs/cgroup").glob(name)]


def look_again() -> None:
    """Between two looks at what nobody tells of; spinning would be foreign load to the bench."""
    select.select([], [], [], 0.005)


def victims_of(pid: int) -> list[int]:
    """The children of a process that run a victim's program."""
    found = []
    for word in Path(f"/proc/{pid}/task/{pid}/children").read_text("ascii").split():
        with contextlib.suppress(OSError):  # it has ended meanwhile
            if b"bench/victim.py" in Path(f"/proc/{word}/cmdline").read_bytes():
                found.append(int(word))
    return found


def test_json_document() -> None:
    """Standard output is one document of the documented form; the reference is in it although nobody asked."""
    done = bench("--size", "64MiB", "--victim", "frozen", "--backend", "mrelease", "--repeat", "2", "--json")
    told: dict[str, Any] = json.loads(done.stdout)
    assert set(told) == {"version", "size_bytes", "runs", "summary", "skipped"}
    assert (told["version"], told["size_bytes"]) == (1, 64 * MIB)
    expected = [("running", "plain")] * 2 + ([("frozen", "mrelease")] * 2 if not told["skipped"] else [])
    assert sorted((run["victim"], run["backend"]) for run in told["runs"]) == sorted(expected)
    for run in told["runs"]:
        assert set(run) == {"victim", "backend", "t50_ms", "t95_ms", "dead_ms", "returned_share", "errno"}
        assert (run["errno"] is None) == (run["backend"] == "plain")
        assert run["dead_ms"] is not None
    for row in told["summary"]:
        assert set(row) == {
            "victim", "backend", "n", "t95_ms_median", "t95_ms_max", "never", "ratio_to_plain_running"
        }  # fmt: skip
    assert left_over() == []


@pytest.mark.parametrize("kind", ["frozen", "throttled"])
def test_hindered_victims_end_with_every_backend(kind: str) -> None:
    """In a control group of whatever version this machine has: told as measured and dead, or as skipped."""
    words = ("--backend", "mrelease", "--backend", "expedite", "--repeat", "1", "--json")
    told = json.loads(bench("--size", "64MiB", "--victim", kind, *words).stdout)
    if told["skipped"]:
        (skipped,) = told["skipped"]
        assert (skipped["victim"], skipped["reason"]) == (kind, why_not(kind))
        pytest.skip(skipped["reason"])
    runs = [run for run in told["runs"] if run["victim"] == kind]
    assert sorted(run["backend"] for run in runs) == ["expedite", "mrelease"]
    assert all(run["dead_ms"] is not None for run in runs), runs
    assert {run["errno"] for run in runs} <= {0, errno.ESRCH, errno.ENOSYS}
    assert left_over() == []


def test_table_and_reserve() -> None:
    """For people: a table, and the reserve that this machine needs."""
    said = bench("--size", "64MiB", "--victim", "running", "--backend", "all", "--repeat", "1").stdout
    assert said.startswith("Victims of 64 MiB;")
    for backend in ("plain", "mrelease", "expedite"):
        assert any(line.split()[:2] == ["running", backend] for line in said.splitlines()), said
    assert "GiB/s here. To kill 64 MiB in time, reserve:" in said


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (("--size", "5"), "--size: "),
        (("--size", "1MiB"), "--size 1MiB: should be between 16 MiB and half of the available memory"),
        (("--size", "4000GiB"), "--size 4000GiB: should be between"),
        (("--victim", "dead"), "argument --victim: invalid choice: 'dead'"),
        (("--backend", "none"), "argument --backend: invalid choice: 'none'"),
        (("--repeat", "0"), "argument --repeat: '0' is not a number between 1 and 1000"),
    ],
)
def test_bad_options(words: tuple[str, ...], error: str) -> None:
    """The exact option is named, nothing is started, and the exit status is 2."""
    done = bench(*words, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert error in done.stderr


def members(group: Path) -> list[int]:
    """The processes of a control group."""
    return [int(word) for word in (group / "cgroup.procs").read_text("ascii").split()]


def rollup(pid: int, field: str) -> int:
    """Bytes of a line of smaps_rollup."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text("utf-8").splitlines()
    (line,) = (line for line in lines if line.startswith(f"{field}:"))
    return int(line.split()[1]) * 1024


def is_frozen(pid: int) -> bool:
    """In a control group of ours, which is frozen."""
    (group,) = left_over()
    states = [
        (group / name).read_text("ascii") for name in ("freezer.state", "cgroup.events") if (group / name).exists()
    ]
    return pid in members(group) and ("FROZEN\n" in states or "frozen 1\n" in states[0])


def is_throttled(pid: int) -> bool:
    """In a control group of ours, which has been denied the CPU."""
    (group,) = left_over()
    stat = dict(line.split() for line in (group / "cpu.stat").read_text("ascii").splitlines())
    return pid in members(group) and int(stat["nr_throttled"]) > 0


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_victim_is_what_it_says(kind: str) -> None:
    """Staged as named, or a reason why not; gone afterwards, and its control group with it."""
    guardian = Guardian()
    try:
        why = why_not(kind)
        if why:
            assert "no " in why or "off" in why
            pytest.skip(why)
        with staged(kind, 32 * MIB, guardian) as stage:
            assert len(stage.victims) == (100 if kind == "many" else 1)
            pid = stage.victims[0].pid
            lines = Path(f"/proc/{pid}/status").read_text("ascii").splitlines()
            status = dict(line.split(":\t", 1) for line in lines if ":\t" in line)
            state = status["State"][0]
            owned = int(status["RssAnon"].split()[0]) + int(status["VmSwap"].split()[0])
            assert owned * 1024 >= (32 * MIB) // len(stage.victims)
            held = sum(rollup(each.pid, "Anonymous") for each in stage.victims)
            swapped = sum(rollup(each.pid, "Swap") for each in stage.victims)
            # An interpreter on a slow machine touches some pages more after it has said that it is ready.
            assert any(abs(found - stage.held_bytes) <= found // 20 for found in (held, held + swapped))
            assert held + swapped > 32 * MIB
            expected = {
                "stopped": lambda: state == "T",
                "busy": lambda: state == "R",
                "starved": lambda: os.sched_getscheduler(pid) == os.SCHED_IDLE and len(stage.hogs) == os.cpu_count(),
                "frozen": lambda: is_frozen(pid),
                "throttled": lambda: is_throttled(pid),
                "thp": lambda: rollup(pid, "AnonHugePages") >= 24 * MIB,
                "swapped": lambda: rollup(pid, "Swap") >= 12 * MIB,
                "threads": lambda: int(status["Threads"]) == 33,
                "many": lambda: {os.getpgid(each.pid) for each in stage.victims} == {pid},
            }
            assert expected.get(kind, lambda: state == "S")()
    finally:
        guardian.close()
    assert left_over() == []


def test_nothing_outlives_a_killed_bench() -> None:
    """SIGKILL for the bench in the middle of a run: the guardian kills the victims, thaws and removes their groups."""
    kind = "running" if why_not("frozen") else "frozen"
    words = ["--size", "64MiB", "--victim", kind, "--backend", "plain", "--repeat", "3", "--json"]
    argv = [sys.executable, "-m", "oomd", "bench", "reap", *words]
    process = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=ENV)
    end = time.monotonic() + 120
    pidfds: list[int] = []
    try:
        while not pidfds:
            assert time.monotonic() < end
            assert process.poll() is None
            with contextlib.suppress(OSError):  # gone between two looks: the next run brings another
                if kind == "running" or [pid for group in left_over(process.pid) for pid in members(group)]:
                    pidfds = [os.pidfd_open(pid) for pid in victims_of(process.pid)]
            look_again()
    finally:
        process.kill()
        process.wait()
    for pidfd in pidfds:
        assert is_ready(pidfd, 90)
        os.close(pidfd)
    while left_over(process.pid):
        assert time.monotonic() < end, left_over(process.pid)
        look_again()


ABANDON = """
import os, subprocess, sys
from oomd.bench.guardian import Guardian, GuardianLostError
guardian = Guardian()
child = subprocess.Popen(["sleep", "60"])
os.write(1, b"%d" % child.pid)
sys.stdin.read(1)
guardian.guard_process(child.pid)
os.kill(os.getpid(), 9)
"""


def test_guardian_ends_what_it_was_told_of_last() -> None:
    """A bench that is killed right after it spoke of a child leaves nobody: the guardian hears of it afterwards."""
    for _ in range(20):
        with subprocess.Popen(
            [sys.executable, "-c", ABANDON], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=ENV
        ) as abandoned:
            assert abandoned.stdin is not None
            assert abandoned.stdout is not None
            pidfd = os.pidfd_open(int(os.read(abandoned.stdout.fileno(), 20)))
            abandoned.stdin.write(b"g")
            abandoned.stdin.close()
            assert abandoned.wait(20) == -signal.SIGKILL
            ended = is_ready(pidfd, 90)
            if not ended:
                signal.pidfd_send_signal(pidfd, signal.SIGKILL)
            os.close(pidfd)
        assert ended


ORPHAN = """
import os, subprocess, sys
child = subprocess.Popen([sys.executable, "-I", "-S", sys.argv[1], sys.argv[2], "4096", str(os.getpid())], stdout=1)
os.write(1, b"%d\\n" % child.pid)
sys.stdin.read(1)
os.kill(os.getpid(), 9)
"""


@pytest.mark.parametrize("when", ["at once", "when it is ready"])
@pytest.mark.parametrize("kind", ["running", "hog"])
def test_victim_ends_with_its_bench(kind: str, when: str) -> None:
    """Also one that the guardian has never heard of, whether it holds its memory or only begins to run."""
    victim = str(ROOT / "oomd/bench/victim.py")
    with subprocess.Popen(
        [sys.executable, "-c", ORPHAN, victim, kind], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdin is not None
        assert parent.stdout is not None
        pidfd = os.pidfd_open(int(parent.stdout.readline()))
        while when != "at once" and parent.stdout.readline() != "ready\n":
            assert parent.poll() is None
        parent.stdin.write("g")
        parent.stdin.close()
        parent.wait(20)
        ended = is_ready(pidfd, 90)
        if not ended:
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        os.close(pidfd)
    assert ended


@contextlib.contextmanager
def descriptors(most: int) -> Iterator[None]:
    """So many at most for what is started in here."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.prlimit(os.getpid(), resource.RLIMIT_NOFILE, (most, before[1]))
    try:
        yield
    finally:
        resource.prlimit(os.getpid(), resource.RLIMIT_NOFILE, before)


@contextlib.contextmanager
def sleepers(count: int) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Children that do nothing; gone afterwards."""
    children = [subprocess.Popen(["sleep", "60"]) for _ in range(count)]
    try:
        yield children
    finally:
        for child in children:
            child.kill()
            child.wait()


def test_guardian_can_hold_more_than_its_soft_limit() -> None:
    """More victims at once than a process may have descriptors by default."""
    few = max(open_descriptors()) + 32
    with descriptors(few):
        guardian = Guardian()
    with sleepers(few + 20) as children:
        for child in children:
            guardian.guard_process(child.pid)
        guardian.close()
        assert {child.wait(20) for child in children} == {-signal.SIGKILL}


def test_guardian_that_can_hold_no_more_ends_the_bench() -> None:
    """Nobody is left unguarded in silence: the others are ended, and the bench is told."""
    guardian = Guardian()
    resource.prlimit(guardian.pid, resource.RLIMIT_NOFILE, (16, 16))
    with sleepers(40) as children:
        with pytest.raises(GuardianLostError):  # noqa: PT012 - which of them it is depends on its pace
            for child in itertools.islice(itertools.cycle(children), 2000):
                guardian.guard_process(child.pid)
        guardian.close()
        assert children[0].wait(20) == -signal.SIGKILL


def test_guardian_forgets_the_dead() -> None:
    """Its descriptors do not run out, however many runs there are."""
    guardian = Guardian()
    for _ in range(3):
        with sleepers(20) as children:
            for child in children:
                guardian.guard_process(child.pid)
    with sleepers(1) as (child,):
        guardian.guard_process(child.pid)
        end = time.monotonic() + 90
        while len(os.listdir(f"/proc/{guardian.pid}/fd")) > 20:
            assert time.monotonic() < end
            guardian.guard_process(child.pid)
            look_again()
        guardian.close()


def test_guardian_takes_nobody_but_children() -> None:
    """A process that the bench did not start is refused, and lives."""
    with subprocess.Popen(["sh", "-c", "sleep 60 & echo $!; wait"], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        pidfd = os.pidfd_open(pid := int(child.stdout.readline()))
        guardian = Guardian()
        try:
            with pytest.raises(ChildProcessError):
                guardian.guard_process(pid)  # ours by blood, not by parenthood
        finally:
            guardian.close()
            lives = not is_ready(pidfd, 0)
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
            os.close(pidfd)
    assert lives


def test_meter_goes_on_sampling() -> None:
    """Samples are in order and belong to this machine."""
    meter = Meter()
    end = time.monotonic() + 90
    while meter.count() < 100:
        assert time.monotonic() < end
        os.sched_yield()
    samples = meter.since(50)
    meter.close()
    times = [sample.time_ns for sample in samples]
    assert times == sorted(times)
    assert all(0 < sample.free_bytes < 1 << 50 for sample in samples)


def test_meter_reads_every_node(tmp_path: Path) -> None:
    """Also where one read does not hold them all."""
    text = b"Node 0, zone Normal\n      nr_free_pages 1\n" * 20_000
    (tmp_path / "zoneinfo").write_bytes(text)
    assert len(text) > 2 * MOST_AT_ONCE
    fd = os.open(tmp_path / "zoneinfo", os.O_RDONLY)
    assert read_whole(fd) == text
    os.close(fd)


def test_late_answer_is_not_taken_for_the_next() -> None:
    """A reap whose time was over says nothing of the next victim."""
    with contextlib.closing(Killers(("mrelease",))) as killers, sleepers(2) as (first, second):
        assert killers.kill("mrelease", [first.pid], -2.0).reap_errno is None
        pool = killers._pools["mrelease"]
        assert is_ready(pool.fd, 90)
        killed = killers.kill("mrelease", [second.pid], 90.0)
        assert killed.dead_ns is not None
        assert killed.reap_errno in (0, errno.ESRCH, errno.ENOSYS)
        assert pool.take_results() == []


@pytest.mark.parametrize("backend", BACKENDS)
def test_nobody_outside_the_scope_is_killed(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """OOMD_SCOPE narrows a bench too, a plain kill included."""
    with sleepers(2) as (child, other):
        monkeypatch.setenv("OOMD_SCOPE", f"tree:{other.pid}")
        with contextlib.closing(Killers((backend,))) as killers, pytest.raises(Refused, match="outside the tree"):
            killers.kill(backend, [child.pid], 1.0)
        assert child.poll() is None


def test_bad_scope_is_a_mistake() -> None:
    """What OOMD_SCOPE says wrongly is told by name, and nothing is measured."""
    done = bench("--size", "64MiB", check=False, env={"OOMD_SCOPE": "tre:1"})
    assert (done.returncode, done.stdout) == (2, "")
    assert "oomd: OOMD_SCOPE: " in done.stderr


def test_backends_answer_as_they_should() -> None:
    """A reap says 0 or ESRCH; without process_mrelease expedite says ENOSYS, and its victim dies all the same."""
    words = ("--size", "64MiB", "--victim", "starved", "--backend", "expedite", "--repeat", "1", "--json")
    (run,) = [run for run in json.loads(bench(*words).stdout)["runs"] if run["backend"] == "expedite"]
    assert run["errno"] in ((0, 3) if probe_features().process_mrelease else (38,))
    assert run["dead_ms"] is not None
    forbid = [sys.executable, str(ROOT / "tests/integration/forbid.py"), "process_mrelease", "ENOSYS"]
    argv = [*forbid, sys.executable, "-m", "oomd", "bench", "reap", *words]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=200, check=True, env=ENV)
    (run,) = [run for run in json.loads(done.stdout)["runs"] if run["backend"] == "expedite"]
    assert (run["errno"], run["dead_ms"] is not None) == (38, True)

"""``oomd bench reap`` as a person runs it, with small victims; nothing here depends on the clock."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from oomd.bench.guardian import Guardian
from oomd.bench.meter import Meter
from oomd.bench.stages import KINDS, staged, why_not
from oomd.kernel.features import probe_features
from oomd.model.units import MIB

ROOT = Path(__file__).parents[2]
ENV = {**os.environ, "PYTHONPATH": str(ROOT)}


def bench(*words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    """One bench to its end."""
    argv = [sys.executable, "-m", "oomd", "bench", "reap", *words]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=200, check=False, env=ENV)
    assert not check or done.returncode == 0, done.stderr
    return done


def left_over() -> list[str]:
    """Control groups of a bench, and its victims."""
    groups = [str(path) for path in Path("/sys/fs/cgroup").glob("*/oomd-bench-*")]
    groups += [str(path) for path in Path("/sys/fs/cgroup").glob("oomd-bench-*")]
    return groups


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


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_victim_is_what_it_says(kind: str) -> None:
    """Staged as named, or a reason why not; gone afterwards, and its control group with it."""
    guardian = Guardian()
    try:
        why = why_not(kind)
        if why:
            assert "no " in why or "off" in why
            return
        with staged(kind, 32 * MIB, guardian) as stage:
            assert len(stage.victims) == (100 if kind == "many" else 1)
            pid = stage.victims[0].pid
            lines = Path(f"/proc/{pid}/status").read_text("ascii").splitlines()
            status = dict(line.split(":\t", 1) for line in lines if ":\t" in line)
            state = status["State"][0]
            assert int(status["RssAnon"].split()[0]) * 1024 >= (32 * MIB) // len(stage.victims)
            expected = {
                "stopped": lambda: state == "T",
                "busy": lambda: state == "R",
                "starved": lambda: os.sched_getscheduler(pid) == os.SCHED_IDLE and len(stage.hogs) == os.cpu_count(),
                "frozen": lambda: bool(left_over()),
                "throttled": lambda: bool(left_over()),
                "threads": lambda: int(status["Threads"]) == 33,
                "many": lambda: {os.getpgid(each.pid) for each in stage.victims} == {pid},
            }
            assert expected.get(kind, lambda: state == "S")()
    finally:
        guardian.close()
    assert left_over() == []


def test_nothing_outlives_a_killed_bench() -> None:
    """SIGKILL for the bench in the middle of a run: the guardian kills the victims, thaws and removes their groups."""
    words = ["--size", "64MiB", "--victim", "frozen", "--victim", "starved", "--repeat", "50", "--json"]
    argv = [sys.executable, "-m", "oomd", "bench", "reap", *words]
    process = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=ENV)
    end = time.monotonic() + 60
    pidfds: list[int] = []
    try:
        while not pidfds or (not left_over() and not why_not("frozen")):
            assert time.monotonic() < end
            assert process.poll() is None
            for pid in victims_of(process.pid):
                with contextlib.suppress(OSError):
                    pidfds.append(os.pidfd_open(pid))
    finally:
        process.kill()
        process.wait()
    for pidfd in pidfds:
        assert select.select([pidfd], [], [], 20)[0]
        os.close(pidfd)
    while left_over():
        assert time.monotonic() < end, left_over()
        os.sched_yield()


def test_guardian_spares_whom_the_bench_does_not_own() -> None:
    """A number that is no child of the bench is left alone."""
    stranger = subprocess.Popen(["sleep", "60"], start_new_session=True)
    grandchild = subprocess.Popen(["sh", "-c", "sleep 60 & echo $!; wait"], stdout=subprocess.PIPE, text=True)
    assert grandchild.stdout is not None
    pid = int(grandchild.stdout.readline())
    guardian = Guardian()
    guardian.guard_process(pid)  # ours by blood, not by parenthood
    guardian.guard_process(stranger.pid)
    guardian.close()
    assert Path(f"/proc/{pid}").exists()
    assert stranger.wait(20) == -signal.SIGKILL  # a child: that one was rightly ended
    os.kill(pid, signal.SIGKILL)
    grandchild.wait(20)
    grandchild.stdout.close()


def test_meter_goes_on_sampling() -> None:
    """Samples are in order and belong to this machine."""
    meter = Meter()
    end = time.monotonic() + 20
    while meter.count() < 100:
        assert time.monotonic() < end
        os.sched_yield()
    samples = meter.since(50)
    meter.close()
    times = [sample.time_ns for sample in samples]
    assert times == sorted(times)
    assert all(0 < sample.free_bytes < 1 << 50 for sample in samples)


def test_backends_answer_as_they_should() -> None:
    """A reap says 0 or ESRCH; without process_mrelease expedite says ENOSYS, and its victim dies all the same."""
    words = ("--size", "64MiB", "--victim", "starved", "--backend", "expedite", "--repeat", "1", "--json")
    (run,) = [run for run in json.loads(bench(*words).stdout)["runs"] if run["backend"] == "expedite"]
    assert run["errno"] in ((0, 3) if probe_features().process_mrelease else (38,))
    assert run["dead_ms"] is not None
    forbid = [sys.executable, str(ROOT / "tests/integration/forbid.py"), "process_mrelease", "ENOSYS"]
    argv = [*forbid, sys.executable, "-m", "oomd", "bench", "reap", *words]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=100, check=True, env=ENV)
    (run,) = [run for run in json.loads(done.stdout)["runs"] if run["backend"] == "expedite"]
    assert (run["errno"], run["dead_ms"] is not None) == (38, True)

"""``reap: {every_exit: …}`` in a real daemon, with this machine's real tracefs; where there is none, the report why."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from oomd.kernel.tracefs import open_instances, remove_instance, why_not_traced
from tests.integration.harness import PATIENCE_S, Guarded
from tests.integration.test_run import outside_of, suspended, wait_until
from tests.kernel.test_tracefs import start_ticks
from tests.kill.parked import anon_mib, parked, wait_parked

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.integration
LARGE = 128
ROOT = Path(__file__).parents[2]


def daemon(folder: Path, mode: str, *options: str, first: tuple[str, ...] = ()) -> Guarded:
    """oomd on the tree of this test, with this mode; ``first`` is put before its command."""
    config = folder / "oomd.yaml"
    config.write_text(f"reap: {{every_exit: {mode}}}\n", encoding="utf-8")
    argv = [*first, sys.executable, "-m", "oomd", "run", "--scope", f"tree:{os.getpid()}", "--config", str(config)]
    return Guarded([*argv, "--runtime-dir", str(folder / "run"), "--log-format", "json", *options])


@contextmanager
def traced(folder: Path, mode: str, *options: str) -> Iterator[Guarded | None]:
    """A started daemon with a trace; None where SIGKILLs cannot be traced, after it has said so with the reason."""
    lost = why_not_traced()
    with daemon(folder, mode, *options) as run:
        report = run.wait_event("start")["report"]
        assert report["every_exit"] == {"mode": mode, "lost": lost}
        if lost:
            assert lost in run.wait_event("degraded", lambda event: "every_exit" in event["text"])["text"]
            yield None
        else:
            assert [event for event in run.of("degraded") if "every_exit" in event["text"]] == []
            yield run


def instances() -> list[str]:
    """The trace instances that there are."""
    fd = open_instances()
    try:
        return os.listdir(fd)
    finally:
        os.close(fd)


def name_of(run: Guarded) -> str:
    """The instance of a daemon."""
    return f"oomd-{run.process.pid}-{start_ticks(run.process.pid)}"


def kill_as_somebody_else(pid: int) -> None:
    """SIGKILL to a child of ours, by a process that is neither oomd nor we."""
    subprocess.run(["kill", "-KILL", str(pid)], check=True, timeout=120)


def hastened(run: Guarded, pid: int) -> dict[str, Any]:
    """The report of its exit."""
    return run.wait_event("hastened", lambda event: bool(event["pid"] == pid))


def test_memory_of_a_victim_of_somebody_else_comes_back(tmp_path: Path) -> None:
    """A process that cannot run to its end loses its memory at once; one report says so, with the reaper's result."""
    with parked(LARGE) as victim, traced(tmp_path, "always") as run:
        if run is None:
            return
        kill_as_somebody_else(victim.pid)
        event = hastened(run, victim.pid)
        assert (event["comm"], event["reap"]["errno"], event["untold"]) == ("victim", 0, 0)
        assert event["expected_bytes"] >= LARGE << 20
        assert anon_mib(victim.pid) == 0
        assert run.of("decision") == run.of("outcome") == []
        run.process.send_signal(signal.SIGTERM)
        assert run.wait_end() == 0
        counters = run.of("stop")[0]["counters"]
        assert counters["exits hastened"] == 1
        assert counters["sigkills seen"] >= 1


def test_outside_the_scope_nothing_is_touched(tmp_path: Path) -> None:
    """With a narrower scope the victim outside keeps its memory, although the one inside loses its."""
    with (
        parked(LARGE) as inside,
        parked(LARGE) as outsider,
        traced(tmp_path, "always", "--scope", f"tree:{inside.pid}") as run,
    ):
        if run is None:
            return
        kill_as_somebody_else(outsider.pid)
        wait_parked(outsider.pid)
        kill_as_somebody_else(inside.pid)
        hastened(run, inside.pid)
        assert anon_mib(outsider.pid) >= LARGE
        assert [event["pid"] for event in run.of("hastened")] == [inside.pid]


def test_off_and_dry_run_make_no_trace(tmp_path: Path) -> None:
    """Without need for it no instance is made."""
    for mode, options in (("off", ()), ("always", ("--dry-run",))):
        with daemon(tmp_path, mode, *options) as run:
            assert run.wait_event("start")["report"]["every_exit"]["lost"] == ""
            if not why_not_traced():
                assert name_of(run) not in instances()
            run.process.send_signal(signal.SIGTERM)
            assert run.wait_end() == 0


def test_pressure_waits_for_need(tmp_path: Path) -> None:
    """In calm times a victim is left alone; as soon as memory is short, that same victim is found and stripped."""
    with parked(LARGE) as victim, parked(LARGE) as calm:
        config = ("--budget", "8GiB", "--config", str(tmp_path / "other.yaml"))
        rule = "level: {term: %s, kill: 1MiB}\nstall: off\nreap: {every_exit: pressure}\n"
        (tmp_path / "other.yaml").write_text(rule % "16MiB", encoding="utf-8")
        with traced(tmp_path, "pressure", *config) as run:
            if run is None:
                return
            kill_as_somebody_else(victim.pid)
            kill_as_somebody_else(calm.pid)
            wait_parked(victim.pid)
            wait_parked(calm.pid)
            assert run.of("hastened") == []
            assert anon_mib(victim.pid) >= LARGE
            # The limit rises to where we stand: that is need.
            (tmp_path / "other.yaml").write_text(rule % "7GiB", encoding="utf-8")
            run.process.send_signal(signal.SIGHUP)
            assert run.wait_event("reload")["ok"]
            assert hastened(run, victim.pid)["reap"]["errno"] == 0
            assert anon_mib(victim.pid) == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_instance_goes_with_the_killer(tmp_path: Path, number: int) -> None:
    """However the killer ends, its outside process removes the instance."""
    with traced(tmp_path, "always") as run:
        if run is None:
            return
        name = name_of(run)
        assert name in instances()
        run.process.send_signal(number)
        run.process.wait(PATIENCE_S)
        wait_until("the instance is gone", lambda: name not in instances())


def test_new_outside_process_cleans_up_too(tmp_path: Path) -> None:
    """When the outside process was killed and started again, the instance still goes with the killer."""
    with traced(tmp_path, "always") as run:
        if run is None:
            return
        name = name_of(run)
        first = outside_of(run)
        first.kill()
        run.wait_event("note", lambda event: "started again" in event["text"])
        assert name in instances()
        run.process.kill()
        run.process.wait(PATIENCE_S)
        wait_until("the instance is gone", lambda: name not in instances())


def test_what_a_crash_left_is_removed_by_the_next(tmp_path: Path) -> None:
    """Killer and outside process killed together leave an instance; the next oomd removes it, and no other one."""
    with traced(tmp_path, "always") as run:
        if run is None:
            return
        stale = name_of(run)
        outside = outside_of(run)
        suspended(outside)  # so that it cannot clean up between the two
        run.process.kill()
        outside.kill()
        run.process.wait(PATIENCE_S)
        wait_until("both are gone", lambda: not psutil.pid_exists(outside.pid) or outside.status() == "zombie")
    assert stale in instances()
    foreign = f"somebody-{os.getpid()}"
    fd = open_instances()
    os.mkdir(foreign, dir_fd=fd)
    try:
        with traced(tmp_path, "always") as run:
            assert run is not None
            left = instances()
            assert stale not in left
            assert {foreign, name_of(run)} <= set(left)
    finally:
        remove_instance(fd, foreign)
        os.close(fd)


def test_without_the_right_it_runs_and_says_what_is_lost(tmp_path: Path) -> None:
    """With the capabilities of the unit, which has no CAP_SYS_ADMIN, the daemon starts, says why, and does its work."""
    if os.geteuid():
        drop: tuple[str, ...] = ()
    else:
        # 24 is PR_CAPBSET_DROP, 21 CAP_SYS_ADMIN; what is exec'ed afterwards cannot get it back.
        code = (
            "import ctypes, os, sys; ctypes.CDLL(None).prctl(24, 21, 0, 0, 0); os.execv(sys.executable, sys.argv[1:])"
        )
        drop = (sys.executable, "-c", code)
    mounted = b" - tracefs " in Path("/proc/self/mountinfo").read_bytes()
    with daemon(tmp_path, "always", first=drop) as run:
        report = run.wait_event("start")["report"]
        assert "CAP_SYS_ADMIN" not in report["capabilities"]
        if not mounted:
            text = run.wait_event("degraded", lambda event: "every_exit" in event["text"])["text"]
            assert report["every_exit"]["lost"] in text
            if "PID namespace" not in text:  # where we are in another than the first, the right would not help
                assert "EPERM" in text
                assert "oomd-every-exit.conf" in text


def test_own_victims_are_not_hastened(tmp_path: Path) -> None:
    """A process that oomd itself kills is told once, as its decision and outcome."""
    config = ("--budget", "512MiB")
    with traced(tmp_path, "always", *config) as run:
        if run is None:
            return
        actors = str(Path(__file__).with_name("actors.py"))
        leaker = subprocess.Popen([sys.executable, actors, "stubborn", "leaker", "700"], stdout=subprocess.DEVNULL)
        try:
            assert run.wait_event("outcome")["pid"] == leaker.pid
            assert leaker.wait(PATIENCE_S) == -signal.SIGKILL
        finally:
            leaker.kill()
            leaker.wait()
        began = time.monotonic()
        with parked(LARGE) as victim:  # what is read after it proves that its record was read
            kill_as_somebody_else(victim.pid)
            hastened(run, victim.pid)
        assert time.monotonic() - began < PATIENCE_S
        assert leaker.pid not in [event["pid"] for event in run.of("hastened")]

"""``oomd run`` on a tree of its own: reload, one instance, the outside process failing, the root's end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

from tests.integration.harness import ACTORS, PATIENCE_S, Guarded
from tests.waiting import is_ready

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.integration


@contextmanager
def tree() -> Iterator[subprocess.Popen[bytes]]:
    """The root of a tree: an idle process of ours, below which actors can be started through its standard input."""
    # Each line is the arguments of one actor to start; the shell is the root.
    script = f"while read -r line; do {sys.executable} {ACTORS} $line & done; sleep 300"
    root = subprocess.Popen(["sh", "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
    try:
        yield root
    finally:
        for child in psutil.Process(root.pid).children(recursive=True) if root.poll() is None else ():
            child.kill()
        root.kill()
        root.communicate()


def tell(root: subprocess.Popen[bytes], line: str) -> None:
    """Start an actor below the root."""
    assert root.stdin is not None
    root.stdin.write(f"{line}\n".encode())
    root.stdin.flush()


def hear(root: subprocess.Popen[bytes], start: str) -> str:
    """The actors' next line that begins so."""
    assert root.stdout is not None
    heard = []
    while is_ready(root.stdout, PATIENCE_S):
        line = root.stdout.readline().decode("utf-8", "replace")
        if line.startswith(start) or not line:
            return line.strip()
        heard.append(line)
    raise AssertionError(f"no {start!r} in {PATIENCE_S} s: {heard}")


def daemon(root: subprocess.Popen[bytes], folder: Path, *options: str, budget: str = "256MiB") -> Guarded:
    """oomd guarding the tree."""
    argv = [sys.executable, "-m", "oomd", "run", "--scope", f"tree:{root.pid}", "--budget", budget]
    return Guarded([*argv, "--runtime-dir", str(folder / "run"), "--log-format", "json", *options])


def outside_of(run: Guarded) -> psutil.Process:
    """The outside process of a daemon."""
    found: list[psutil.Process] = []

    def is_there() -> bool:  # a process that is replacing its memory has no command line for a moment
        children: list[psutil.Process] = psutil.Process(run.process.pid).children()
        found[:] = [child for child in children if "oomd.outside.main" in " ".join(child.cmdline())]
        return bool(found)

    wait_until("the outside process", is_there)
    return found[0]


def suspended(process: psutil.Process) -> None:
    """Stop it, and see that it stands still."""
    process.suspend()
    wait_until("it stands still", lambda: process.status() == psutil.STATUS_STOPPED)


def wait_until(what: str, true: object, patience_s: float = PATIENCE_S) -> None:
    """Wait for a condition (a callable), looking often."""
    end = time.monotonic() + patience_s
    assert callable(true)
    while not true():
        assert time.monotonic() < end, f"never: {what}"
        os.sched_yield()


def test_start_report_and_a_kill(tmp_path: Path) -> None:
    """At start one report says what is there and what is lost; then the leaker in the tree dies, and its neighbour
    lives.
    """
    with tree() as root, daemon(root, tmp_path) as run:
        report = run.wait_event("start")["report"]
        assert report["kernel"] == os.uname().release
        assert report["calls"]["pidfd_send_signal"] is True
        assert isinstance(report["lost"], list)
        tell(root, "hold bystander 32")
        tell(root, "leak leaker 400")
        event = run.wait_event("decision")
        assert event["decision"]["target"]["comm"] == "leaker"
        times = event["times"]
        assert times["wake_us"] <= event["status"]["time_us"] <= times["read_us"] <= times["decided_us"]
        assert times["signalled_us"] is None or times["signalled_us"] >= times["decided_us"]
        assert times["lag_us"] >= 0
        assert run.wait_event("outcome")["comm"] == "leaker"
        assert hear(root, "holding").startswith("holding bystander")
        assert run.victims() == ["leaker"]


def test_end_of_the_root_ends_the_daemon(tmp_path: Path) -> None:
    """A daemon that guards a tree ends with the tree's root, successfully."""
    with tree() as root, daemon(root, tmp_path) as run:
        run.wait_event("start")
        root.kill()
        assert run.wait_end() == 0
        assert run.of("stop")


def test_one_instance_per_runtime_directory(tmp_path: Path) -> None:
    """A second daemon with the same runtime directory says who is there, and ends; with another one it runs."""
    with tree() as root, daemon(root, tmp_path) as run:
        run.wait_event("start")
        with daemon(root, tmp_path) as second:
            assert second.wait_end() == 2
            assert f"another oomd (pid {run.process.pid})" in second.words[0]
        other = tmp_path / "other"
        other.mkdir()
        with daemon(root, other) as third:
            third.wait_event("start")


def test_broken_configuration_is_refused_and_the_old_one_stays(tmp_path: Path) -> None:
    """A reload of a broken file tells every problem with its place; the limits stay; a right one is taken."""
    config = tmp_path / "oomd.yaml"
    config.write_text("level: {term: 16MiB, kill: 8MiB}\n", encoding="utf-8")
    with tree() as root, daemon(root, tmp_path, "--config", str(config)) as run:
        run.wait_event("start")
        config.write_text("level: {term: 5X}\nprotekt: []\n", encoding="utf-8")
        run.process.send_signal(signal.SIGHUP)
        event = run.wait_event("reload")
        assert event["ok"] is False
        assert [problem.split(": ")[0].rpartition("/")[2] for problem in event["problems"]] == [
            "oomd.yaml:1:15",
            "oomd.yaml:2:1",
        ]
        config.write_text("level: {term: 128MiB, kill: 8MiB}\n", encoding="utf-8")
        run.process.send_signal(signal.SIGHUP)
        run.wait_event("reload", lambda each: bool(each["ok"]))
        tell(root, "leak leaker 150 4")
        event = run.wait_event("decision")
        assert "limit 128 MiB" in event["decision"]["reason"]


def test_changes_that_need_a_restart_are_refused(tmp_path: Path) -> None:
    """A reload that changes what cannot change while running says so and keeps everything."""
    config = tmp_path / "oomd.yaml"
    config.write_text("reap: {backend: auto}\n", encoding="utf-8")
    with tree() as root, daemon(root, tmp_path, "--config", str(config)) as run:
        run.wait_event("start")
        config.write_text("reap: {backend: none}\n", encoding="utf-8")
        run.process.send_signal(signal.SIGHUP)
        event = run.wait_event("reload")
        assert event["ok"] is False
        assert event["problems"] == ["reap: changed; that needs a restart"]


@pytest.mark.parametrize("number", [signal.SIGSTOP, signal.SIGKILL])
def test_outside_failing_during_a_kill(tmp_path: Path, number: signal.Signals) -> None:
    """F20: with the outside process stopped or dead, the victim dies as ever."""
    with tree() as root, daemon(root, tmp_path) as run:
        run.wait_event("start")
        outside = outside_of(run)
        outside.send_signal(number)
        try:
            tell(root, "leak leaker 400")
            pid = int(hear(root, "leaking").split()[2])
            wait_until("the leaker is dead", lambda: not psutil.pid_exists(pid) or _is_zombie(pid))
        finally:
            if number == signal.SIGSTOP:
                outside.send_signal(signal.SIGCONT)
        if number == signal.SIGSTOP:
            assert run.wait_event("decision")["decision"]["target"]["comm"] == "leaker"
        else:
            note = run.wait_event("note", lambda event: "started again" in event["text"])
            assert "reports were lost" in note["text"]


def test_full_pipe_during_a_kill(tmp_path: Path) -> None:
    """F20: with nobody reading what it reports, the victim dies as ever."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    try:
        while True:
            os.write(writing, b"x" * 4096)
    except BlockingIOError:
        os.set_blocking(writing, True)
    with tree() as root:
        argv = [sys.executable, "-m", "oomd", "run", "--scope", f"tree:{root.pid}", "--budget", "256MiB"]
        argv += ["--runtime-dir", str(tmp_path / "run"), "--log-format", "json"]
        scope = {"OOMD_SCOPE": f"tree:{os.getpid()}"}
        run = subprocess.Popen(argv, stdout=writing, stderr=writing, env={**os.environ, **scope})
        os.close(writing)
        try:
            tell(root, "leak leaker 400")
            pid = int(hear(root, "leaking").split()[2])
            wait_until("the leaker is dead", lambda: not psutil.pid_exists(pid) or _is_zombie(pid))
            assert run.poll() is None
        finally:
            run.terminate()
            assert run.wait(PATIENCE_S) == 0
            os.close(reading)


def test_refused_permission_leads_to_the_next_candidate(tmp_path: Path) -> None:
    """Without CAP_KILL another user's hog may not be signalled; the next candidate is taken."""
    if os.geteuid() != 0:
        pytest.skip("needs root, to start processes of two users")
    # PR_CAPBSET_DROP of CAP_KILL: what is started afterwards is root that may signal its own user only.
    code = (
        "import ctypes,os,sys; assert ctypes.CDLL(None).prctl(24, 5, 0, 0, 0) == 0; os.execv(sys.argv[1], sys.argv[1:])"
    )
    config = tmp_path / "oomd.yaml"
    config.write_text("level: {term: 100MiB, kill: 20MiB, grace: 1s}\n", encoding="utf-8")
    with tree() as root:
        argv = ["-m", "oomd", "run", "--scope", f"tree:{root.pid}", "--budget", "256MiB", "--config", str(config)]
        argv += ["--runtime-dir", str(tmp_path / "run"), "--log-format", "json"]
        with Guarded([sys.executable, "-c", code, sys.executable, *argv]) as run:
            assert "CAP_KILL" not in run.wait_event("start")["report"]["capabilities"]
            tell(root, "as_nobody hold others 120")
            hear(root, "holding")
            tell(root, "leak ours 100")
            refused = run.wait_event("refused")
            assert refused["comm"] == "others"
            assert "EPERM" in refused["why"]
            event = run.wait_event("decision", lambda each: each["decision"]["action"] in ("term", "kill"))
            assert event["decision"]["target"]["comm"] == "ours"
            spared = next(each for each in event["rejected"] if each["comm"] == "others")
            assert spared["why"] == refused["why"]


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (["--scope", "tree:999999999"], "there is no process 999999999"),
        (["--scope", "trea:1"], "--scope: 'trea:1' is no scope"),
        (["--scope", "cgroup:/no/such"], "there is no such cgroup"),
        (["--budget", "none of it"], "--budget: "),
        (["--proc", "/tmp"], "--proc and --cgroup need --dry-run"),
        (["--dry-run", "--cgroup", "/no/such/tree"], "--cgroup /no/such/tree: there is no such folder"),
        (["--config", "/no/such/file"], "/no/such/file:1:1: cannot be read: No such file"),
        (["--runtime-dir", "/proc/nowhere"], "--runtime-dir /proc/nowhere: "),
    ],
)
def test_mistakes_are_told(options: list[str], text: str) -> None:
    """Wrong options end with status 2 and a message that names them."""
    command = [sys.executable, "-m", "oomd", "run", *options]
    scope = {"OOMD_SCOPE": f"tree:{os.getpid()}"}
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=120, check=False, env={**os.environ, **scope}
    )
    assert done.returncode == 2
    assert text in done.stderr


def test_explain_tells_the_truth_about_a_tree() -> None:
    """``explain --json`` names the largest first, says who is spared and why, and signals nobody."""
    with tree() as root:
        tell(root, "hold bigger 64")
        hear(root, "holding")
        tell(root, "hold smaller 24")
        hear(root, "holding")
        command = [sys.executable, "-m", "oomd", "explain", "--assume-low", "--json", "--scope", f"tree:{root.pid}"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
        answer = json.loads(done.stdout)
        assert answer["decision"]["target"]["comm"] == "bigger"
        assert [each["comm"] for each in answer["ranking"][:2]] == ["bigger", "smaller"]
        assert answer["ranking"][-1]["pid"] == root.pid  # the tree's root is taken last
        assert any("outside the tree" in each["why"] or "started it" in each["why"] for each in answer["rejected"])
        assert all(child.is_running() for child in psutil.Process(root.pid).children())


def _is_zombie(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


def test_process_group_dies_as_one(tmp_path: Path) -> None:
    """A leaker and the workers of its group die together; a bystander of another group in the same tree lives."""
    config = tmp_path / "group.yaml"
    config.write_text(
        "rulesets: [{name: level, when: {all: [{memory_available: {below: 12%}}]},"
        " choose: {level: group, policy: freeable}, then: [{kill: {}}]}]\n"
    )
    with tree() as root, daemon(root, tmp_path, "--config", str(config)) as run:
        run.wait_event("start")
        tell(root, "hold bystander 48")
        hear(root, "holding bystander")
        tell(root, "troop hold,worker,32 hold,helper,16 leak,leaker,400")
        event = run.wait_event("decision")
        decision = event["decision"]
        assert (decision["target"]["kind"], decision["target"]["comm"]) == ("group", "leaker")
        assert len(decision["pids"]) == 4, event
        outcomes: set[str] = set()
        while not {"leaker", "worker", "helper", "troop"} <= outcomes:
            outcomes.add(run.wait_event("outcome", lambda event: event["comm"] not in outcomes)["comm"])
        assert {event["status"] for event in run.of("outcome")} <= {"killed", "exited"}
        wait_until("all are dead", lambda: not any(lives(pid) for pid in decision["pids"]))  # reaped is not yet dead
        assert any(child.name() == "bystander" for child in psutil.Process(root.pid).children(recursive=True))


def test_whoever_was_forked_in_the_grace_dies_with_the_set(tmp_path: Path) -> None:
    """A group that is asked to go and answers by children: when its grace ends SIGKILL takes all of them, though they
    were not there when the group was chosen.
    """
    config = tmp_path / "group.yaml"
    config.write_text(
        "rulesets: [{name: level, when: {all: [{memory_available: {below: 300MiB}}]},"
        " critical: {all: [{memory_available: {below: 100MiB}}]},"
        " choose: {level: group, policy: freeable}, then: [{term: {grace: 60s}}, {kill: {}}]}]\n"
    )
    with tree() as root, daemon(root, tmp_path, "--config", str(config), budget="512MiB") as run:
        run.wait_event("start")
        tell(root, "hold bystander 16")
        hear(root, "holding bystander")
        tell(root, "brood leaker 200 180")  # critical only when the children are there
        decision = run.wait_event("decision")["decision"]
        assert (decision["action"], decision["target"]["comm"]) == ("term", "leaker")
        group = int(decision["target"]["name"])
        assert run.wait_event("escalation")["pid"] in decision["pids"]
        chick = run.wait_event("outcome", lambda event: event["comm"] == "chick")
        assert chick["pid"] not in decision["pids"]
        end = time.monotonic() + PATIENCE_S
        while left := [each for each in psutil.process_iter() if _group_of(each.pid) == group and lives(each.pid)]:
            assert time.monotonic() < end, left
            time.sleep(0.01)
        assert any(child.name() == "bystander" for child in psutil.Process(root.pid).children(recursive=True))


def _group_of(pid: int) -> int:
    try:
        return os.getpgid(pid)
    except ProcessLookupError:
        return 0


def lives(pid: int) -> bool:
    """Whether it is there, and no zombie."""
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False

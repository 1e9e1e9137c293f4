"""``oomd exec`` around real processes: the right one dies, everybody else lives."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.integration.harness import ACTORS, guarded

pytestmark = pytest.mark.integration


def short_grace(folder: Path) -> str:
    """A configuration with little patience."""
    path = folder / "oomd.yaml"
    path.write_text("level: {grace: 600ms}\n", encoding="utf-8")
    return str(path)


def outcome_of(events: list[dict[str, Any]], comm: str) -> dict[str, Any]:
    """The outcome of the one kill of this name."""
    outcomes = [event for event in events if event["event"] == "outcome" and event["comm"] == comm]
    assert len(outcomes) == 1
    return outcomes[0]


def test_leaker_dies_bystander_lives() -> None:
    """The leaker is killed once, its memory is told to be back, and the larger part of nobody else's is touched."""
    with guarded("320MiB", "beside", "hold,bystander,64", "leak,leaker,400") as run:
        assert run.wait_words("alive") == "alive bystander"
        assert run.wait_end() == 0
        assert run.victims() == ["leaker"]
        outcome = outcome_of(run.events, "leaker")
        assert outcome["returned_bytes"] > 0.9 * outcome["expected_bytes"]
        assert outcome["signal_to_memory_us"] is not None


def test_large_steady_database_outlives_the_smaller_leaker(tmp_path: Path) -> None:
    """The database owns more than the leaker when memory ends, and stood still for seconds: by size alone it dies."""
    by_size = tmp_path / "freeable.yaml"
    by_size.write_text(
        "rulesets: [{name: level, when: {all: [{memory_available: {below: 5%}}]}, choose: {policy: freeable}}]\n"
    )
    cast = ("beside", "hold,database,260", "leak,leaker,400,4,0.1")
    with guarded("448MiB", *cast) as run:
        assert run.wait_words("alive") == "alive database"
        assert run.victims() == ["leaker"]
    with guarded("448MiB", *cast, config=str(by_size)) as run:
        assert run.wait_event("decision")["decision"]["target"]["comm"] == "database"


def test_decision_carries_the_contract() -> None:
    """Every decision has the keys of the JSON contract, evidence, the ranked others, and the memory before."""
    with guarded("320MiB", "beside", "hold,bystander,64", "leak,leaker,400") as run:
        event = run.wait_event("decision")
        assert event["version"] == 1
        assert event["status"]["budget"]["limit_bytes"] == 320 << 20
        assert event["decision"]["target"]["kind"] == "process"
        assert event["decision"]["pids"] == [event["decision"]["target"]["pid"]]
        assert [each["comm"] for each in event["ranking"][:2]] == ["leaker", "bystander"]
        assert event["ranking"][0]["freeable_bytes"] > event["ranking"][1]["freeable_bytes"]
        level = next(each for each in event["detections"] if each["ruleset"] == "level")
        assert level["fired"]
        assert any(piece["detector"] == "memory_available" and piece["holds"] for piece in level["evidence"])
        outcome = run.wait_event("outcome")
        assert outcome["id"] == event["id"]


def test_ignored_term_is_followed_by_kill(tmp_path: Path) -> None:
    """F1: a victim that ignores SIGTERM while memory hovers between the levels is killed when its grace is over."""
    # It stops growing between the two limits (16 and 8 MiB of 320): only the end of its grace can bring SIGKILL.
    run_with = guarded("320MiB", "stubborn", "leaker", "304", config=short_grace(tmp_path))
    with run_with as run:
        decision = run.wait_event("decision")
        assert decision["decision"]["action"] == "term"
        escalation = run.wait_event("escalation")
        assert escalation["id"] == decision["id"]
        assert outcome_of([run.wait_event("outcome")], "leaker")["status"] == "killed"
        assert run.wait_end() == 128 + signal.SIGKILL


def test_victim_that_leaves_by_itself(tmp_path: Path) -> None:
    """A victim that ends at SIGTERM is never sent SIGKILL, and its outcome says that it went."""
    config = tmp_path / "oomd.yaml"
    # It stops growing before its grace could be cut short, however late it is looked at.
    config.write_text("level: {term: 400MiB, kill: 8MiB, grace: 60s}\nstall: off\n", encoding="utf-8")
    cast = ("beside", "hold,bystander,16", "polite,leaker,200,2")
    with guarded("600MiB", *cast, config=str(config)) as run:
        assert run.wait_words("ended leaker") == "ended leaker 7"
        assert run.wait_event("outcome")["status"] == "exited"
        run.wait_end()
        assert run.of("escalation") == []
        assert run.victims() == ["leaker"]


def test_crowd_with_a_hundred_exits_a_second() -> None:
    """F8: 300 processes, a hundred exits a second while it searches: still one right kill."""
    with guarded("512MiB", "crowd", "300", "900") as run:
        assert run.wait_words("ended leaker") in {"ended leaker -15", "ended leaker -9"}
        alive, total = run.wait_words("alive").split()[1::2]
        run.wait_end()
        assert run.victims() == ["leaker"]
        assert alive == total


def test_zombie_leader_with_live_threads() -> None:
    """F15: a process whose main thread is gone shows no memory in its status, and is found and killed all the same."""
    with guarded("256MiB", "beside", "hold,bystander,32", "dead_leader,300") as run:
        decision = run.wait_event("decision")
        assert decision["decision"]["target"]["comm"] == "deadleader"
        run.wait_words("alive bystander")
        run.wait_end()
        assert run.victims() == ["deadleader"]


def test_preforked_server_lives_beside_a_smaller_leaker() -> None:
    """F17: four idle children show 3 GiB of their server's memory each; the 500 MiB leaker gives back more."""
    with guarded("3700MiB", "preforked", "3072", "4", "900") as run:
        assert run.wait_words("alive") == "alive server"
        run.wait_end()
        assert run.victims() == ["leaker"]
        leader = run.of("decision")[0]["ranking"][0]
        assert leader["comm"] == "leaker"
        server = next(each for each in run.of("decision")[0]["ranking"] if each["comm"] == "server")
        assert server["measured"] == "private"
        assert server["freeable_bytes"] < 500 << 20


def test_memory_in_a_memfd_is_its_owners() -> None:
    """What a virtual machine or a JVM under ZGC does: hardly any anonymous memory, and all the same the one whose death
    gives everything back; the bystander, which owns more of that kind, lives.
    """
    with guarded("420MiB", "beside", "share,machine,330", "hold,bystander,60") as run:
        assert run.wait_words("alive") == "alive bystander"
        run.wait_end()
        assert run.victims() == ["machine"]
        leader = run.of("decision")[0]["ranking"][0]
        # The limit is reached while it still writes: some 300 MiB, more or less by when it was looked at.
        assert leader["own_shmem_bytes"] > 200 << 20
        assert run.of("outcome")[0]["returned_bytes"] > 200 << 20


def test_hostile_names() -> None:
    """Names with parentheses, newlines and bytes that are no text neither hide a leaker nor kill another."""
    with guarded("256MiB", "hostile", "300") as run:
        decision = run.wait_event("decision")
        assert decision["decision"]["target"]["comm"] == "a) R 1\\xff"
        assert run.wait_words("alive") == "alive other"
        run.wait_end()
        assert len(run.victims()) == 1


def test_two_hogs_at_once() -> None:
    """F2: a second hog that goes on while the first one's memory comes back is killed too, and nobody else."""
    roles = ("hold,bystander,32", "leak,first,600,8,0.02", "leak,second,600,8,0.02")
    with guarded("512MiB", "beside", *roles) as run:
        run.wait_event("outcome")
        run.wait_end()
        assert set(run.victims()) <= {"first", "second"}
        assert "bystander" in run.wait_words("alive")


def test_orphan_is_found() -> None:
    """A leaker whose parents are gone stays within the tree: orphans become the subreaper's."""
    with guarded("256MiB", "orphan", "400") as run:
        decision = run.wait_event("decision")
        assert decision["decision"]["target"]["comm"] == "orphan"
        run.wait_event("outcome")


@pytest.mark.parametrize("status", ["0", "3", "-15", "-9"])
def test_exit_status_is_passed_through(status: str) -> None:
    """The command's status is ours, a signal as 128 + its number, as shells have it."""
    with guarded("1GiB", "status", status) as run:
        assert run.wait_end() == (int(status) if int(status) >= 0 else 128 - int(status))
        assert run.of("decision") == []


def test_signal_is_handed_on() -> None:
    """SIGTERM to oomd exec reaches the command, whose end is ours."""
    with guarded("1GiB", "hold", "bystander", "8") as run:
        run.wait_words("holding")
        run.process.send_signal(signal.SIGTERM)
        assert run.wait_end() == 128 + signal.SIGTERM


def test_dry_run_touches_nobody(tmp_path: Path) -> None:
    """A dry run decides and reports as ever, and the leaker reaches its own limit."""
    path = tmp_path / "oomd.yaml"
    path.write_text("dry_run: true\n", encoding="utf-8")
    with guarded("128MiB", "leak", "leaker", "160", config=str(path)) as run:
        assert run.wait_event("decision")["dry_run"] is True
        run.wait_words("full leaker")
        assert run.process.poll() is None


@pytest.mark.parametrize(
    ("arguments", "status", "text"),
    [
        (["--budget", "4", "--"], 2, "no COMMAND"),
        (["--budget", "4XB", "--", "true"], 2, "--budget: unknown unit 'XB'"),
        (["--budget", "1GiB", "--", "/no/such/program"], 127, "not found"),
        (["--budget", "1GiB", "--", "/etc"], 126, "ermission denied"),
        (
            ["--budget", "1GiB", "--config", "/no/such/file", "--", "true"],
            2,
            "/no/such/file:1:1: cannot be read: No such file",
        ),
    ],
)
def test_mistakes_are_told(arguments: list[str], status: int, text: str) -> None:
    """Wrong input ends with a clear message and a status of its own; the command never runs."""
    command = [sys.executable, "-m", "oomd", "exec", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == status
    assert text in done.stderr


def test_scope_of_the_environment_narrows() -> None:
    """OOMD_SCOPE is an intersection: with a tree that is not the command's, nobody is in scope and nobody dies."""
    stranger = subprocess.Popen(["sleep", "300"])
    try:
        with guarded("128MiB", "leak", "leaker", "200", env={"OOMD_SCOPE": f"tree:{stranger.pid}"}) as run:
            run.wait_words("full leaker")
            assert run.victims() == []
            assert run.process.poll() is None
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def test_nothing_of_ours_is_left() -> None:
    """After the command nothing that was started remains: no killer, no outside process."""
    with guarded("1GiB", "status", "0") as run:
        children = Path(f"/proc/{run.process.pid}/task/{run.process.pid}/children")
        started = children.read_text(encoding="ascii").split() if children.exists() else []
        run.wait_end()
    assert not [pid for pid in started if os.path.exists(f"/proc/{pid}") and ACTORS in _cmdline(pid)]


def _cmdline(pid: str) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def test_closed_standard_descriptors() -> None:
    """With standard input, output, error closed everything works, and nothing is written where it does not belong."""
    command = f"{sys.executable} -m oomd exec --budget 1GiB -- sh -c 'exit 5' <&- >&- 2>&-"
    scope = {"OOMD_SCOPE": f"tree:{os.getpid()}"}
    done = subprocess.run(["sh", "-c", command], timeout=120, check=False, env={**os.environ, **scope})
    assert done.returncode == 5


def test_command_itself_is_taken_when_it_is_the_one() -> None:
    """The command that was started is a process like the others: its small children do not die in its place."""
    with guarded("200MiB", "parent", "400") as run:
        run.wait_event("outcome")
        assert run.wait_end() in {128 + signal.SIGTERM, 128 + signal.SIGKILL}  # its grace may be cut short
        assert run.victims() == ["leaker"]


@pytest.mark.parametrize("number", [signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2, signal.SIGINT])
def test_other_signals_are_handed_on(number: signal.Signals) -> None:
    """What would end oomd exec reaches the command instead, whose end is ours: it is never left unguarded."""
    before = signal.signal(number, signal.SIG_DFL)  # a shell's background job ignores SIGQUIT, and hands that on
    with guarded("1GiB", "hold", "bystander", "8") as run:
        signal.signal(number, before)
        pid = int(run.wait_words("holding").split()[2])
        run.process.send_signal(number)
        assert run.wait_end() == 128 + number
        assert not os.path.exists(f"/proc/{pid}")

"""The control socket of a real daemon, asked by the commands that people use: answers, refusals, errors."""

from __future__ import annotations

import io
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from oomd.__main__ import main
from oomd.outside.doorway import NAME, address_of
from tests.integration.harness import PATIENCE_S, Guarded
from tests.integration.test_run import daemon, hear, outside_of, tell, tree, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.integration

ROOT = os.geteuid() == 0
REPOSITORY = Path(__file__).parents[2]
AS_SOMEBODY = """
import json, os, sys
from tests.integration.test_control import oomd
oomd("kills", "--runtime-dir", "/nowhere")
uid, groups, commands = json.loads(sys.argv[1])
os.setgroups(groups)
os.setgid(uid)
os.setuid(uid)
print(json.dumps([oomd(*words) for words in commands]))
"""
"""Imports as the one that we are: somebody else may not be able to read where we lie."""
Said = tuple[int, str, str]
"""Exit status, standard output, standard error."""


def oomd(*words: str) -> Said:
    """What a command says, in this process."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        try:
            status = main(list(words))
        except SystemExit as end:
            status = int(str(end.code))
    return status, out.getvalue(), err.getvalue()


def oomd_as(uid: int, groups: list[int], *commands: list[str]) -> list[Said]:
    """What commands say to somebody else."""
    argv = [sys.executable, "-c", AS_SOMEBODY, json.dumps([uid, groups, commands])]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=120, check=False, cwd=REPOSITORY)
    assert done.returncode == 0, done.stderr
    return [(status, out, err) for status, out, err in json.loads(done.stdout)]


def place(folder: Path) -> tuple[str, str]:
    """The option that names the daemon of a test."""
    return "--runtime-dir", str(folder / "run")


def status_of(folder: Path) -> dict[str, Any]:
    """``oomd status --json``."""
    code, out, err = oomd("status", "--json", *place(folder))
    assert code == 0, err
    answer: dict[str, Any] = json.loads(out)
    return answer


@pytest.fixture
def public() -> Iterator[Path]:
    """A folder that other users may look into."""
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o755)
        yield Path(name)


@contextmanager
def guarding(folder: Path, text: str = "", *options: str) -> Iterator[tuple[subprocess.Popen[bytes], Guarded]]:
    """A daemon with this configuration on a tree of its own."""
    config = folder / "oomd.yaml"
    config.write_text(text or "level: {grace: 60s}\n", encoding="utf-8")
    with tree() as root, daemon(root, folder, "--config", str(config), *options) as run:
        run.wait_event("start")
        wait_until("the socket is there", (folder / "run" / NAME).exists)
        yield root, run


def test_status_kill_now_and_history(tmp_path: Path) -> None:
    """Who would be next is who goes by hand, with the reason and the result in the history."""
    with guarding(tmp_path) as (root, run):
        tell(root, "hold hog 60")
        hear(root, "holding hog")
        tell(root, "hold bystander 24")
        hear(root, "holding bystander")
        status = status_of(tmp_path)
        assert status["daemon"]["pid"] == run.process.pid
        assert status["state"]["status"]["budget"]["limit_bytes"] == 256 << 20
        assert [ruleset["ruleset"] for ruleset in status["state"]["rulesets"]] == ["level", "stall"]
        code, out, _ = oomd("status", *place(tmp_path))
        assert code == 0
        assert f"oomd 0.1.0 (pid {run.process.pid}) watches tree:{root.pid}" in out
        assert "kills: none since the start" in out
        code, out, _ = oomd("kill-now", "--dry-run", *place(tmp_path))
        assert (code, "would send SIGTERM to hog (" in out, "asked by uid" in out) == (0, True, True)
        assert run.of("decision") == []
        code, out, _ = oomd("kill-now", "--json", *place(tmp_path))
        decision = json.loads(out)
        assert (code, decision["decision"]["target"]["comm"], decision["signalled"]) == (0, "hog", True)
        assert run.wait_event("outcome")["comm"] == "hog"
        wait_until("its end is told", lambda: '"outcome": {' in oomd("kills", "--json", *place(tmp_path))[1])
        (line,) = oomd("kills", "--json", "--since", "1h", *place(tmp_path))[1].splitlines()
        kill = json.loads(line)
        assert (kill["victim"]["comm"], kill["asked"], kill["outcome"]["status"]) == ("hog", True, "exited")
        code, out, _ = oomd("kills", "-n", "1", *place(tmp_path))
        assert "SIGTERM to hog (" in out
        assert out.endswith("1 of 1 kill since the daemon was started\n")
        assert status_of(tmp_path)["kills"][0]["id"] == kill["id"]
        assert any(child.name() == "bystander" for child in psutil.Process(root.pid).children(recursive=True))
    assert not (tmp_path / "run" / NAME).exists()


def test_nobody_to_kill(tmp_path: Path) -> None:
    """Exit status 1, and why."""
    with guarding(tmp_path, "protect: [default, sh, sleep, hog]\n") as (root, _):
        tell(root, "hold hog 40")
        hear(root, "holding hog")
        code, out, _ = oomd("kill-now", *place(tmp_path))
        assert (code, out.startswith("nobody: level: nobody may be killed")) == (1, True)


def test_a_pause_spares_and_its_end_does_not(tmp_path: Path) -> None:
    """While it holds a leaker may take what it wants; a reload does not end it; then the leaker goes."""
    with guarding(tmp_path) as (root, run):
        code, out, _ = oomd("pause", "10m", "--reason", "backup", *place(tmp_path))
        assert (code, out.startswith("paused until ")) == (0, True)
        assert run.wait_event("pause")["why"] == "backup"
        assert oomd("reload", *place(tmp_path))[:2] == (0, "oomd: reloaded\n")
        tell(root, "leak leaker 320")
        note = run.wait_event("note", lambda event: "fires, and nobody is chosen" in event["text"])
        assert "paused by uid" in note["text"]
        assert ": backup" in note["text"]
        code, out, _ = oomd("status", *place(tmp_path))
        assert "PAUSED until " in out
        assert "below a limit" in out or "above the nearest limit" in out
        assert oomd("kill-now", *place(tmp_path))[0] == 1
        assert run.of("decision") == []
        assert oomd("resume", *place(tmp_path))[:2] == (0, "resumed\n")
        assert run.wait_event("resume")["why"].startswith("by uid")
        assert run.wait_event("decision")["decision"]["target"]["comm"] == "leaker"
        assert oomd("resume", *place(tmp_path)) == (1, "", "oomd: it is not paused\n")


def test_a_pause_ends_by_itself(tmp_path: Path) -> None:
    """And nobody has to look at it."""
    with guarding(tmp_path) as (root, run):
        assert oomd("pause", "1s", "--reason", "x", "--json", *place(tmp_path))[0] == 0
        tell(root, "leak leaker 400")
        assert run.wait_event("resume")["why"] == "its time is over"
        assert run.wait_event("decision")["decision"]["target"]["comm"] == "leaker"


def test_what_is_under_way_goes_on_in_a_pause(tmp_path: Path) -> None:
    """A victim that was asked to go and does not is killed all the same."""
    with guarding(tmp_path, "level: {grace: 3s}\n") as (root, run):
        tell(root, "stubborn stubborn 320")
        run.wait_event("decision")
        assert oomd("pause", "10m", "--reason", "x", *place(tmp_path))[0] == 0
        assert run.wait_event("escalation")["why"]
        assert run.wait_event("outcome")["comm"] == "stubborn"
        assert status_of(tmp_path)["kills"][0]["escalations"]


def test_reload_tells_every_problem(tmp_path: Path) -> None:
    """With its place, and an exit status that a script can use; SIGHUP goes the same way."""
    with guarding(tmp_path) as (_, run):
        config = tmp_path / "oomd.yaml"
        config.write_text("level: {term: 5X}\nprotekt: []\n", encoding="utf-8")
        code, out, err = oomd("reload", *place(tmp_path))
        assert (code, out) == (1, "")
        lines = err.splitlines()
        assert [line.split(": ")[0] for line in lines[:2]] == [f"{config}:1:15", f"{config}:2:1"]
        assert lines[2] == "oomd: kept the old configuration"
        assert "kept the old configuration" in oomd("status", *place(tmp_path))[1]
        answer = json.loads(oomd("reload", "--json", *place(tmp_path))[1])
        assert (answer["ok"], len(answer["problems"])) == (False, 2)
        config.write_text("reap: {backend: none}\n", encoding="utf-8")
        assert "reap: changed; that needs a restart" in oomd("reload", *place(tmp_path))[2]
        config.write_text("level: {grace: 2s}\n", encoding="utf-8")
        assert oomd("reload", *place(tmp_path))[:2] == (0, "oomd: reloaded\n")
        known = len(run.of("reload"))
        run.process.send_signal(signal.SIGHUP)
        wait_until("it was reloaded again", lambda: len(run.of("reload")) > known)


def test_the_service_manager_hears_of_it(tmp_path: Path) -> None:
    """RELOADING and READY around a reload, and the pause in the status."""
    address = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        with address_of(str(address)) as bound:
            manager.bind(bound)
        manager.settimeout(PATIENCE_S)

        def hear_until(word: str) -> list[str]:
            heard = [manager.recv(4096).decode()]
            while word not in heard[-1]:
                heard.append(manager.recv(4096).decode())
            return heard

        argv = [sys.executable, "-m", "oomd", "run", "--budget", "256MiB", "--log-format", "json", *place(tmp_path)]
        with tree() as root:
            argv += ["--scope", f"tree:{root.pid}"]
            with Guarded(argv, env={"NOTIFY_SOCKET": os.path.relpath(address, os.getcwd())}) as run:
                hear_until("READY=1\nSTATUS=")
                run.wait_event("start")
                assert oomd("reload", *place(tmp_path))[0] == 0
                heard = hear_until("READY=1")
                assert heard[0] == "RELOADING=1"
                assert oomd("pause", "10m", "--reason", "x", *place(tmp_path))[0] == 0
                assert hear_until("PAUSED for 10min by uid")
                assert oomd("resume", *place(tmp_path))[0] == 0
                assert not hear_until("STATUS=watching")[-1].startswith("STATUS=PAUSED")


@pytest.mark.skipif(not ROOT, reason="becomes other users")
def test_who_may_do_what(public: Path) -> None:
    """Root everything; a member of the group reads; a stranger is told who may."""
    with guarding(public, "control: {group: '54321'}\n") as (_, run):
        where, socket_path = place(public), public / "run" / NAME
        changes = [["pause", "1m", "--reason", "x"], ["resume"], ["reload"], ["kill-now", "--dry-run"]]
        reads = [["status"], ["kills"]]
        said = oomd_as(4711, [54321], *([*words, *where] for words in reads + changes))
        assert [(code, err) for code, _, err in said[:2]] == [(0, ""), (0, "")]
        assert "watches tree:" in said[0][1]
        for words, (code, out, err) in zip(changes, said[2:], strict=True):
            assert (code, out) == (4, "")
            assert err == f"oomd: uid 4711 may not {words[0]}; root may\n"
        ((code, out, err),) = oomd_as(4712, [], ["status", *where])
        assert (code, out) == (4, "")
        assert err.startswith(
            f"oomd: not permitted: {socket_path} is for root and members of the group 54321, and this"
        )
        assert "uid 4712 (without a name)" in err
        assert run.wait_event("note", lambda event: "may not pause" in event["text"])


@pytest.mark.skipif(not ROOT, reason="becomes other users")
def test_nobody_but_root_without_a_group(public: Path) -> None:
    """And a hint how to change that; where nobody may even look, that is told."""
    with guarding(public):
        ((code, _, err),) = oomd_as(4712, [], ["status", *place(public)])
        assert code == 4
        assert "is for root, and this is uid 4712" in err
        assert "control: {group: NAME} in its configuration lets a group read" in err
        os.chmod(public / "run", 0o700)
        ((code, _, err),) = oomd_as(4712, [], ["status", *place(public)])
        assert (code, f"uid 4712 (without a name) may not look into {public}/run" in err) == (4, True)


def test_a_group_that_there_is_not(tmp_path: Path) -> None:
    """The daemon runs, and says what is lost."""
    with guarding(tmp_path, "control: {group: no-such-group-here}\n") as (_, run):
        text = "control.group: there is no group 'no-such-group-here'"
        assert text in run.wait_event("degraded", lambda event: "group" in event["text"])["text"]
        assert any(text in each["text"] for each in status_of(tmp_path)["degraded"])


def test_no_daemon(tmp_path: Path) -> None:
    """Neither socket nor daemon; a stale socket is none; something else is none."""
    code, _, err = oomd("status", *place(tmp_path))
    assert code == 3
    assert err == (f"oomd: no daemon found: nobody listens at {tmp_path}/run/{NAME}; --runtime-dir says where else\n")
    (tmp_path / "run").mkdir()
    with socket.socket(socket.AF_UNIX) as stale, address_of(str(tmp_path / "run" / NAME)) as address:
        stale.bind(address)
    assert oomd("kills", *place(tmp_path))[0] == 3
    (tmp_path / "run" / "lock").write_text(f"{os.getpid()}\n")  # ours, and no oomd
    assert oomd("resume", *place(tmp_path))[0] == 3


def test_several_daemons(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without --runtime-dir the one that runs is meant; with several that is asked for."""
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    second.mkdir()
    code = "from oomd.commands import client; import sys; from oomd.__main__ import main\n"
    code += f"client.OTHER_PLACES = ({str(first / 'run')!r}, {str(second / 'run')!r}); sys.exit(main(['kills']))"
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))

    def ask() -> tuple[int, str]:
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
        return done.returncode, done.stderr

    with guarding(first) as (_, one):
        assert ask() == (0, "")
        with guarding(second) as (_, other):
            status, err = ask()
        assert status == 3
        assert (
            f"several daemons run: {first}/run (pid {one.process.pid}), {second}/run (pid {other.process.pid})" in err
        )
        assert "--runtime-dir" in err


def test_switched_off(tmp_path: Path) -> None:
    """Then the daemon is there, and nobody to ask."""
    (tmp_path / "oomd.yaml").write_text("control: {enabled: false}\n", encoding="utf-8")
    with tree() as root, daemon(root, tmp_path, "--config", str(tmp_path / "oomd.yaml")) as run:
        run.wait_event("start")
        code, _, err = oomd("status", *place(tmp_path))
        assert code == 5
        assert f"the daemon in {tmp_path}/run (pid {run.process.pid}) has no control socket" in err
        assert not (tmp_path / "run" / NAME).exists()


def test_a_daemon_that_hangs(tmp_path: Path) -> None:
    """The outside answers for the killer; one that hangs itself is given up on."""
    with guarding(tmp_path) as (_, run):
        run.process.send_signal(signal.SIGSTOP)
        try:
            code, _, err = oomd("resume", *place(tmp_path))
            assert (code, err) == (5, "oomd: the killer does not answer in time\n")
            assert oomd("kills", *place(tmp_path))[0] == 0
        finally:
            run.process.send_signal(signal.SIGCONT)
        assert status_of(tmp_path)["state"]["ticks"] > 0


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["pause", "25h", "--reason", "x"], "pause: '25h': a pause lasts from 1s to 24h"),
        (["pause", "10ms", "--reason", "x"], "a pause lasts from 1s to 24h"),
        (["pause", "soon", "--reason", "x"], "pause: 'soon' does not begin with a number"),
        (["pause", "10m", "--reason", " "], "--reason: should be one line of at most 200 characters"),
        (["pause", "10m", "--reason", "a\nb"], "--reason: should be one line"),
        (["pause", "10m"], "--reason"),
        (["kills", "-n", "0"], "kills: -n: '0' is not a number above 0"),
        (["kills", "--since", "never"], "kills: --since: 'never' is neither a duration (2h) nor a time"),
        (["status", "--watch", "x"], "status: --watch: 'x' is not a number of seconds"),
        (["status", "--watch", "0"], "status: --watch: should be between 0.2 and 3600 seconds"),
    ],
)
def test_mistakes_of_people(tmp_path: Path, words: list[str], text: str) -> None:
    """Before any daemon is looked for: exit status 2."""
    code, out, err = oomd(*words, *place(tmp_path))
    assert (code, out) == (2, "")
    assert text in err


def test_watch(tmp_path: Path) -> None:
    """Again and again on one connection, until it is interrupted or the daemon ends."""
    with guarding(tmp_path) as (_, run):
        argv = [sys.executable, "-m", "oomd", "status", "--watch", "0.2", "--json", *place(tmp_path)]
        with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as watching:
            assert watching.stdout is not None
            ticks = [json.loads(watching.stdout.readline())["state"]["ticks"] for _ in range(3)]
            assert ticks == sorted(ticks)
            run.process.send_signal(signal.SIGTERM)
            run.wait_end()
            assert watching.wait(PATIENCE_S) in (5, 141)


def test_the_outside_is_killed_and_comes_back(tmp_path: Path) -> None:
    """Started again by the killer when memory is calm: the socket answers, the history goes on, the pause holds."""
    with guarding(tmp_path) as (root, run):
        tell(root, "hold hog 60")
        hear(root, "holding hog")
        assert oomd("kill-now", *place(tmp_path))[0] == 0
        run.wait_event("outcome")
        wait_until("its end is told", lambda: (status_of(tmp_path)["kills"] or [{"outcome": None}])[0]["outcome"])
        assert oomd("pause", "10m", "--reason", "x", *place(tmp_path))[0] == 0
        outside_of(run).kill()
        code, _, err = oomd("status", *place(tmp_path))
        assert code == 5
        assert "its outside process has ended and is started again when memory is calm" in err or "hung up" in err
        run.wait_event("note", lambda event: "started again" in event["text"])
        wait_until("it answers again", lambda: oomd("kills", *place(tmp_path))[0] == 0)
        status = status_of(tmp_path)
        assert status["outside"]["starts"] == 2
        assert status["daemon"]["pid"] == run.process.pid
        assert [kill["victim"]["comm"] for kill in status["kills"]] == ["hog"]
        assert status["pause"]["why"] == "x"
        assert oomd("resume", *place(tmp_path))[0] == 0
        tell(root, "leak leaker 400")
        run.wait_event("outcome", lambda event: event["comm"] == "leaker")
        wait_until("both are told", lambda: status_of(tmp_path)["kills_total"] == 2)


def test_the_killer_is_killed(tmp_path: Path) -> None:
    """The outside ends with it and takes the socket along; the next daemon is not disturbed."""
    with guarding(tmp_path) as (_, run):
        outside = outside_of(run)
        run.process.kill()
        outside.wait(PATIENCE_S)
        assert not (tmp_path / "run" / NAME).exists()
    with guarding(tmp_path):
        assert oomd("kills", *place(tmp_path))[0] == 0


def test_a_flood_during_a_kill(tmp_path: Path) -> None:
    """Clients that flood, drip and never read: the leaker dies as ever, and others are answered."""
    with guarding(tmp_path) as (root, run):
        path = str(tmp_path / "run" / NAME)
        rude = []
        for number in range(12):
            client = socket.socket(socket.AF_UNIX)
            client.setblocking(False)
            with address_of(path) as address:
                client.connect(address)
            client.send((b'{"request":"status"}\n' * 500, b'{"request"', b'{"request":"kills"}\n' * 500)[number % 3])
            rude.append(client)
        tell(root, "hold bystander 24")
        tell(root, "leak leaker 400")
        assert run.wait_event("decision")["decision"]["target"]["comm"] == "leaker"
        assert run.wait_event("outcome")["comm"] == "leaker"
        assert oomd("kills", *place(tmp_path))[0] == 0
        assert psutil.Process(outside_of(run).pid).num_fds() < 64
        for client in rude:
            client.close()

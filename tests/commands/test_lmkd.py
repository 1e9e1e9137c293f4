"""``oomd lmkd`` as a process, in a tree of its own."""

from __future__ import annotations

import os
import re
import signal
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from oomd.lmkd.listening import open_listener
from tests.integration.harness import Guarded
from tests.integration.test_run import wait_until
from tests.lmkd.client import Client, words_of
from tests.lmkd.served import read_adj, sleepers

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.integration


@pytest.fixture
def sleeper() -> Iterator[int]:
    """Somebody to register."""
    with sleepers(1) as (pid,):
        yield pid


def lmkd(folder: Path, scope: int, *options: str) -> Guarded:
    """The daemon, which may touch this process's tree only."""
    argv = [sys.executable, "-m", "oomd", "lmkd", "--scope", f"tree:{scope}", "--log-format", "json"]
    return Guarded([*argv, "--runtime-dir", str(folder / "run"), *options])


def test_registers_answers_logs_and_leaves_nothing(tmp_path: Path, sleeper: int) -> None:
    """A client registers and is answered; the log has logcat's shape; at the end the socket is gone."""
    path, log = tmp_path / "lmkd", tmp_path / "log"
    with lmkd(tmp_path, os.getpid(), "--socket", str(path), "--log", str(log)) as run:
        run.wait_event("start")
        with Client(str(path)) as client:
            client.send(1, sleeper, 10001, 900)
            assert client.ask(4, -1000, 1000) == (4, 0)
            assert read_adj(sleeper) == 900
            client.send(99)
            assert client.ask(10) == (10, 0)
            assert client.ask(10) == (10, 1)
        shape = r"\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} +%d +%d E lowmemorykiller: Received unknown command code 99"
        pid = run.process.pid
        wait_until("the line", lambda: log.exists() and re.search(shape % (pid, pid), log.read_text(encoding="utf-8")))
        run.process.send_signal(signal.SIGTERM)
        assert run.wait_end() == 0
        (stop,) = run.of("stop")
        assert stop["counters"]["lmkd_registered"] == 1
        assert not path.exists()
        assert run.of("lmkd") == []


def test_properties_are_read_anew(tmp_path: Path) -> None:
    """By UPDATE_PROPS and by SIGHUP; the file is found wherever the daemon has gone since, a mistake is answered with
    -1, and a client that asked gets its answers in order.
    """
    path, file = str(tmp_path / "lmkd"), tmp_path / "lmkd.prop"
    file.write_text("ro.lmk.use_psi=false\n", encoding="utf-8")
    with lmkd(tmp_path, os.getpid(), "--socket", path, "--properties", os.path.relpath(file)) as run:
        run.wait_event("start")
        with Client(path) as client:
            assert client.ask(7) == (7, 0)
            file.write_text("ro.lmk.thrashing_limit=abc\n", encoding="utf-8")
            client.send(7)
            client.send(4, 1, 0)
            assert [words_of(client.receive()) for _ in range(2)] == [(7, -1), (4, 0)]
            mistake = "ro.lmk.thrashing_limit: 'abc' is no number"
            run.wait_event("lmkd", lambda event: event["text"] == f"properties: line 1: {mistake}")
            run.process.send_signal(signal.SIGHUP)
            refused = run.wait_event("reload", lambda event: not event["ok"])
            assert refused["problems"][0].endswith(f"lmkd.prop:1:1: {mistake}")
            file.write_text("ro.lmk.use_minfree_levels=true\n", encoding="utf-8")
            run.process.send_signal(signal.SIGHUP)
            run.wait_event("reload", lambda event: event["ok"])
            run.wait_event("lmkd", lambda event: event["text"] == "properties: use_minfree_levels has no effect here")
            file.unlink()
            assert client.ask(7) == (7, -1)
            run.wait_event("lmkd", lambda event: event["text"] == f"properties: {file}: No such file or directory")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "lmkd.prop: No such file or directory"),
        ("ro.lmk.debug=perhaps\n", "lmkd.prop:1:1: ro.lmk.debug: 'perhaps' is no truth value"),
    ],
)
def test_properties_that_are_of_no_use(tmp_path: Path, text: str | None, words: str) -> None:
    """At the start a person is there who can mend them: said at once, and nothing runs."""
    path, file = str(tmp_path / "lmkd"), tmp_path / "lmkd.prop"
    if text is not None:
        file.write_text(text, encoding="utf-8")
    with lmkd(tmp_path, os.getpid(), "--socket", path, "--properties", str(file)) as run:
        assert run.wait_end() == 2
        assert run.words[0].endswith(words)
    assert not os.path.exists(path)


def test_dry_run_writes_nothing(tmp_path: Path, sleeper: int) -> None:
    """Registrations are taken, oom_score_adj stays as it is."""
    before = read_adj(sleeper)
    with lmkd(tmp_path, os.getpid(), "--socket", str(tmp_path / "lmkd"), "--dry-run") as run:
        run.wait_event("start")
        with Client(str(tmp_path / "lmkd")) as client:
            client.send(1, sleeper, 10001, 900)
            client.settle()
        assert read_adj(sleeper) == before
        run.process.send_signal(signal.SIGTERM)
        assert run.wait_end() == 0
        assert run.of("stop")[0]["counters"]["lmkd_registered"] == 1


def test_protocol_and_compatibility(tmp_path: Path) -> None:
    """Android 11 knows no BOOT_COMPLETED; in compatibility mode the fourth client stays."""
    path = str(tmp_path / "lmkd")
    with lmkd(tmp_path, os.getpid(), "--socket", path, "--protocol", "A11", "--compatible") as run:
        run.wait_event("start")
        clients = [Client(path) for _ in range(4)]
        clients[3].send(10)
        clients[3].settle()
        assert [client.is_closed() for client in clients] == [True, True, True, False]
        run.wait_event("lmkd", lambda event: event["text"] == "Received unknown command code 10")
        for client in clients:
            client.socket.close()


# Descriptor 3 is standard input, and the environment says so, as init and systemd leave it.
PASSES = """
import os, sys
os.dup2(0, 3)
os.environ["LISTEN_PID"] = str(os.getpid())
os.execv(sys.executable, [sys.executable, "-m", "oomd", *sys.argv[1:]])
"""


@pytest.mark.parametrize("variables", [{"ANDROID_SOCKET_lmkd": "3"}, {"LISTEN_FDS": "1"}])
def test_socket_that_was_passed(tmp_path: Path, variables: dict[str, str]) -> None:
    """What init or systemd made is listened on, and not removed at the end."""
    path = str(tmp_path / "passed")
    with socket.socket(fileno=open_listener(path)) as listener:
        listener.listen(3)
        options = [
            "lmkd",
            "--scope",
            f"tree:{os.getpid()}",
            "--log-format",
            "json",
            "--runtime-dir",
            str(tmp_path / "r"),
        ]
        with Guarded([sys.executable, "-c", PASSES, *options], env=variables, stdin=listener.fileno()) as run:
            run.wait_event("start")
            with Client(path) as client:
                assert client.ask(7) == (7, 0)
            run.process.send_signal(signal.SIGTERM)
            assert run.wait_end() == 0
    assert os.path.exists(path)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--socket", "/nowhere/lmkd"), "/nowhere/lmkd: No such file or directory"),
        (("--socket", "SECOND"), "somebody listens there already"),
        (("--socket", ""), "lmkd's socket: '' is no path"),
        (("--log", "/nowhere/log"), "lmkd's log /nowhere/log: there is no folder /nowhere"),
        (("--log", "/proc"), "lmkd's log /proc: is a folder"),
    ],
)
def test_no_socket_or_log(tmp_path: Path, options: tuple[str, ...], words: str) -> None:
    """Said at once, and nothing runs."""
    path = str(tmp_path / "lmkd")
    with socket.socket(fileno=open_listener(path)) as listener:
        listener.listen(1)
        with lmkd(tmp_path, os.getpid(), *(path if each == "SECOND" else each for each in options)) as run:
            assert run.wait_end() == 2
            assert words in run.words[0]


def test_within_oomd_run(tmp_path: Path, sleeper: int) -> None:
    """`lmkd:` in the configuration listens beside the ordinary rules; without it nothing of lmkd is there."""
    path, file = str(tmp_path / "lmkd"), tmp_path / "oomd.yaml"
    file.write_text(f"lmkd: {{socket: {path}}}\n", encoding="utf-8")
    options = ["--config", str(file), "--scope", f"tree:{os.getpid()}", "--log-format", "json"]
    argv = [sys.executable, "-m", "oomd", "run", *options, "--budget", "4GiB", "--runtime-dir", str(tmp_path / "run")]
    with Guarded(argv) as run:
        run.wait_event("start")
        with Client(path) as client:
            client.send(1, sleeper, 10001, 900)
            client.settle()
            assert read_adj(sleeper) == 900
            run.process.send_signal(signal.SIGHUP)
            assert run.wait_event("reload")["ok"]
            client.settle()
        file.write_text("lmkd: {socket: /elsewhere}\n", encoding="utf-8")
        run.process.send_signal(signal.SIGHUP)
        refused = run.wait_event("reload", lambda event: not event["ok"])
        assert refused["problems"] == ["lmkd: changed; that needs a restart"]


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (("explain",), "who dies next depends on who is registered"),
        (("exec", "--budget", "1GiB", "--", "true"), "exec: lmkd: has no effect here"),
    ],
)
def test_where_it_has_no_place(tmp_path: Path, command: tuple[str, ...], words: str) -> None:
    """Said, rather than passed over."""
    file = tmp_path / "oomd.yaml"
    file.write_text("lmkd: {only: true}\n", encoding="utf-8")
    argv = [sys.executable, "-m", "oomd", command[0], "--config", str(file), *command[1:]]
    with Guarded(argv) as run:
        assert run.wait_end() == 2
        assert words in run.words[0]

"""The killer's end of the link, against real sockets and a real outside process."""

from __future__ import annotations

import json
import marshal
import os
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from oomd.outside.link import Link
from oomd.outside.spawn import spawn_outside

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NOTE = {"event": "note", "time": 0.0, "text": "hello"}


def pair() -> tuple[Link, socket.socket]:
    """A link and its other end."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.setblocking(False)
    return Link(ours.detach()), theirs


def test_events_and_commands_pass() -> None:
    """What is sent arrives as one datagram; what comes back is one message."""
    link, other = pair()
    with other:
        assert link.receive() is None
        assert link.send(NOTE)
        assert marshal.loads(other.recv(65536)) == NOTE
        other.send(marshal.dumps({"command": "config", "plain": []}))
        assert link.receive() == {"command": "config", "plain": []}
        other.send(b"\xff\xff")
        assert link.receive() is None
        assert not link.closed
    link.close()


def test_full_link_drops_and_counts() -> None:
    """F20: an outside process that reads nothing costs reports, never time."""
    link, other = pair()
    with other:
        sent = 0
        while link.send(NOTE):
            sent += 1
        assert sent > 10
        begin = time.monotonic()
        for _ in range(100):
            assert not link.send(NOTE)
        assert time.monotonic() - begin < 1
        assert link.dropped == 101
    link.close()


def test_dead_other_end_is_noticed() -> None:
    """The end of the other process is an empty read; sending then is counted, not raised, and raises no SIGPIPE."""
    link, other = pair()
    other.close()
    assert not link.send(NOTE)
    assert link.receive() is None
    assert link.closed
    assert not link.send(NOTE)
    assert link.dropped == 2
    link.close()


def test_event_that_is_too_long_is_sent_without_its_lists() -> None:
    """A decision with endless names still tells who died."""
    link, other = pair()
    with other:
        event = {
            "event": "decision",
            "id": "1",
            "ranking": [f"{number:01000}" for number in range(1000)],
            "rejected": [],
            "detections": [],
        }
        assert link.send(event)
        assert marshal.loads(other.recv(1 << 20)) == event | {"ranking": []}
    link.close()


def test_reopened_link_goes_on() -> None:
    """After the outside was started again the counts stay."""
    link, other = pair()
    other.close()
    link.send(NOTE)
    link.close()
    again, new = pair()
    link.reopen(os.dup(again.fileno()))
    again.close()
    with new:
        os.set_blocking(link.fileno(), False)
        assert link.send(NOTE)
        assert link.dropped == 1
    link.close()


@contextmanager
def outside(folder: Path, *, stdout: int, options: dict[str, Any]) -> Iterator[tuple[Link, int]]:
    """A real outside process that writes to ``stdout``."""
    everything = {"link_fd": "@LINK@", "format": "json", "config_path": None, "overrides": {}, "quiet": False} | options
    argument = json.dumps(everything).replace('"@LINK@"', "@LINK@")
    saved = os.dup(1)
    os.dup2(stdout, 1)
    try:
        started = spawn_outside([sys.executable, "-m", "oomd.outside.main", argument], "@LINK@")
    finally:
        os.dup2(saved, 1)
        os.close(saved)
    link = Link(started.link_fd)
    try:
        yield link, started.pid
    finally:
        link.close()
        assert os.waitpid(started.pid, 0)[1] == 0


def test_outside_writes_what_it_is_told_and_ends_with_the_link(tmp_path: Path) -> None:
    """Every event becomes one line of JSON, the last ones after the killer's end too."""
    path = tmp_path / "log"
    with path.open("wb") as log, outside(tmp_path, stdout=log.fileno(), options={}) as (link, _):
        for number in range(50):
            assert link.send(NOTE | {"text": f"name \udcff {number}".encode("utf-8", "backslashreplace").decode()})
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert [line["text"] for line in lines] == [f"name \\udcff {number}" for number in range(50)]


def test_blocked_sink_never_blocks_the_link(tmp_path: Path) -> None:
    """F20: nobody reads what it writes; it goes on taking events, drops them and ends when told."""
    reading, writing = os.pipe()
    with outside(tmp_path, stdout=writing, options={}) as (link, _):
        sent = 0
        end = time.monotonic() + 20
        while sent < 3000 and time.monotonic() < end:
            sent += link.send(NOTE | {"text": "x" * 500})
        assert sent == 3000
    os.close(reading)
    os.close(writing)


def test_reload_answers_with_problems_or_a_configuration(tmp_path: Path) -> None:
    """The outside process reads the file; the killer gets plain values or the list of problems."""
    path = tmp_path / "oomd.yaml"
    path.write_text("levl: {}\n", encoding="utf-8")
    with (tmp_path / "log").open("wb") as log:
        options = {"config_path": str(path), "overrides": {"budget": "1GiB"}}
        with outside(tmp_path, stdout=log.fileno(), options=options) as (link, _):
            os.set_blocking(link.fileno(), True)
            link.send({"event": "reload_request", "time": 0.0})
            answer = link.receive()
            assert answer is not None
            assert answer["command"] == "reload_failed"
            assert "did you mean 'level'" in answer["problems"][0]
            path.write_text("level: {term: 64MiB}\n", encoding="utf-8")
            link.send({"event": "reload_request", "time": 0.0})
            answer = link.receive()
            assert answer is not None
            assert answer["command"] == "config"


def test_outside_ignores_the_signals_of_the_killer(tmp_path: Path) -> None:
    """Ctrl-C and a service's stop reach both; the outside ends only with the link, after the last report."""
    path = tmp_path / "log"
    with path.open("wb") as log, outside(tmp_path, stdout=log.fileno(), options={}) as (link, pid):
        link.send(NOTE)
        while not path.read_bytes():
            assert os.waitpid(pid, os.WNOHANG) == (0, 0)
        subprocess.run(["kill", "-TERM", str(pid)], check=True)
        subprocess.run(["kill", "-INT", str(pid)], check=True)
        link.send(NOTE | {"text": "last"})
    assert json.loads(path.read_text(encoding="utf-8").splitlines()[-1])["text"] == "last"

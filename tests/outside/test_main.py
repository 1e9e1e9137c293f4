"""The outside process: real ones, on sinks that fail too."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from oomd.debts import Debt, Debts
from oomd.outside.link import Link
from oomd.outside.reporter import MOST_QUEUED
from oomd.outside.spawn import Outside, spawn_outside
from tests.fakes.cgroup_tree import CgroupTree
from tests.waiting import is_ready

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NOTE = {"event": "note", "time": 0.0, "text": "hello"}
PATIENCE_S = 90.0


def start_outside(stdout: int, stderr: int, options: dict[str, Any]) -> Outside:
    """A real outside process that writes to these descriptors."""
    everything = {
        "link_fd": "@LINK@",
        "format": "json",
        "config_path": None,
        "overrides": {},
        "quiet": False,
        "instances_fd": -1,
        "trace_instance": "",
    } | options
    argument = json.dumps(everything).replace('"@LINK@"', "@LINK@")
    saved = os.dup(1), os.dup(2)
    os.dup2(stdout, 1)
    os.dup2(stderr, 2)
    try:
        return spawn_outside([sys.executable, "-m", "oomd.outside.main", argument], "@LINK@")
    finally:
        for fd, kept in enumerate(saved, 1):
            os.dup2(kept, fd)
            os.close(kept)


@contextmanager
def outside(stdout: int, *, stderr: int = 2, **options: Any) -> Iterator[tuple[Link, int]]:
    """A started one: its link and its pid. It must end by itself and well when the link does."""
    started = start_outside(stdout, stderr, options)
    link = Link(started.link_fd)
    try:
        yield link, started.pid
    finally:
        link.close()
        assert os.waitpid(started.pid, 0)[1] == 0


def ask_for_configuration(link: Link) -> dict[str, Any]:
    """What it answers when asked to read its file anew."""
    assert link.send({"event": "request", "request": "reload", "number": 1, "patience_us": 20_000_000, "time": 0.0})
    assert is_ready(link, PATIENCE_S)
    answer = link.receive()
    assert answer is not None
    assert (answer["command"], answer["number"]) == ("answer", 1)
    return answer


def send_many(link: Link, number: int) -> None:
    """So many events, each again until the link has taken it: the outside process must go on draining it."""
    end = time.monotonic() + PATIENCE_S
    sent = 0
    while sent < number:
        sent += link.send(NOTE | {"text": "x" * 500})
        assert time.monotonic() < end, f"the link took only {sent} of {number}"


def read_until(fd: int, word: str) -> list[dict[str, Any]]:
    """All events read from ``fd``, up to the first whose text holds the word."""
    data = b""
    while word.encode() not in data or not data.endswith(b"\n"):
        assert is_ready(fd, PATIENCE_S), f"no {word!r} in {data[-200:]!r}"
        data += os.read(fd, 1 << 16)
    return [json.loads(line) for line in data.decode("utf-8").splitlines()]


def test_writes_what_it_is_told_and_ends_with_the_link(tmp_path: Path) -> None:
    """Every event becomes one line of JSON with its names readable, the last ones after the killer's end too."""
    path = tmp_path / "log"
    names = [b"caf\xc3\xa9 \xff\n".decode("utf-8", "backslashreplace") + str(number) for number in range(50)]
    with path.open("wb") as log, outside(log.fileno()) as (link, _):
        for name in names:
            assert link.send(NOTE | {"text": name})
    lines = path.read_bytes().split(b"\n")
    assert [json.loads(line)["text"] for line in lines[:-1]] == names
    assert b"caf\xc3\xa9 \\\\xff\\n0" in lines[0]


def test_text_goes_to_standard_error(tmp_path: Path) -> None:
    """Text is for people beside the program that they run: standard output stays its own."""
    path = tmp_path / "log"
    with path.open("wb") as log, outside(1, stderr=log.fileno(), format="text") as (link, _):
        assert link.send(NOTE)
    assert path.read_text(encoding="utf-8").endswith("note: hello\n")


def test_what_a_killed_killer_had_changed(tmp_path: Path) -> None:
    """Is put back at the end of the link, and told; what another oomd has written down there is left alone."""
    CgroupTree(tmp_path / "cgroup").add_group("/a", high=4096)
    group = tmp_path / "cgroup" / "a"
    debt = Debt("memory.high", group.stat().st_ino, str(group), "max", ("4096",))
    Debts(str(tmp_path), "mine").write_down(debt)
    for token, high in (("other", "4096"), ("mine", "max")):
        reading, writing = os.pipe()
        with outside(writing, runtime_dir=str(tmp_path), debts_token=token):
            os.close(writing)
        with os.fdopen(reading, "rb") as told:
            texts = [json.loads(line)["text"] for line in told]
        assert (group / "memory.high").read_text("ascii").strip() == high
        assert len(texts) == (token == "mine")


def test_quiet_tells_neither_start_nor_stop(tmp_path: Path) -> None:
    """Beneath ``exec`` only what concerns the command is told."""
    path = tmp_path / "log"
    with path.open("wb") as log, outside(log.fileno(), quiet=True) as (link, _):
        for kind in ("start", "note", "stop"):
            assert link.send(NOTE | {"event": kind})
    assert [json.loads(line)["event"] for line in path.read_text(encoding="utf-8").splitlines()] == ["note"]


def test_blocked_sink_never_blocks_the_link() -> None:
    """F20: while nobody reads what it writes it goes on taking events, and says afterwards how many were dropped."""
    reading, writing = os.pipe()
    with outside(writing) as (link, _):
        send_many(link, 3000)
        accounted = dropped = 0
        while accounted < 3000:
            for event in read_until(reading, "\n"):
                lost = int(event["text"].split()[0]) if "were dropped" in event["text"] else 0
                dropped += lost
                accounted += lost or 1
        assert accounted == 3000
        assert dropped > 0
    os.close(reading)
    os.close(writing)


def test_blocked_sink_never_keeps_it_alive() -> None:
    """F20: when the killer has ended it does not wait for ever for somebody to read the rest."""
    reading, writing = os.pipe()
    with outside(writing) as (link, _):
        send_many(link, 2 * MOST_QUEUED)
    os.close(reading)
    os.close(writing)


def test_broken_pipe_is_survived(tmp_path: Path) -> None:
    """F20: whoever read its output is gone; it goes on taking events and answering."""
    reading, writing = os.pipe()
    os.close(reading)
    with outside(writing, config_path=None) as (link, _):
        send_many(link, 10)
        assert ask_for_configuration(link)["ok"]
    os.close(writing)


def test_full_disk_is_survived() -> None:
    """F20: a sink that takes nothing costs reports only."""
    full = os.open("/dev/full", os.O_WRONLY)
    with outside(full) as (link, _):
        send_many(link, 10)
        assert ask_for_configuration(link)["ok"]
    os.close(full)


def test_its_death_costs_reports_only() -> None:
    """F20: killed, it takes the reports with it; sending to it is counted, raises nothing and no SIGPIPE."""
    reading, writing = os.pipe()
    started = start_outside(writing, 2, {})
    link = Link(started.link_fd)
    send_many(link, 1)
    os.kill(started.pid, signal.SIGKILL)
    os.waitpid(started.pid, 0)
    assert [link.send(NOTE), link.send(NOTE)] == [False, False]
    assert link.dropped == 2
    while link.receive() is not None or not link.closed:
        assert is_ready(link, PATIENCE_S)
    link.close()
    os.close(reading)
    os.close(writing)


def test_reload_answers_with_problems_or_a_configuration(tmp_path: Path) -> None:
    """It reads the file; the killer gets plain values or the list of problems."""
    path = tmp_path / "oomd.yaml"
    path.write_text("levl: {}\n", encoding="utf-8")
    with outside(2, config_path=str(path), overrides={"budget": "1GiB"}) as (link, _):
        answer = ask_for_configuration(link)
        assert answer["ok"] is False
        assert "did you mean 'level'" in answer["problems"][0]
        path.write_text("level: {term: 64MiB}\n", encoding="utf-8")
        assert ask_for_configuration(link)["ok"]


def test_signals_are_the_killers_business() -> None:
    """Ctrl-C, a hangup and a service's stop reach both; it ends only with the link, after the last report."""
    reading, writing = os.pipe()
    with outside(writing) as (link, pid):
        link.send(NOTE)
        read_until(reading, "hello")
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            os.kill(pid, number)
        link.send(NOTE | {"text": "last"})
    assert read_until(reading, "last")[0]["text"] == "last"
    os.close(reading)
    os.close(writing)

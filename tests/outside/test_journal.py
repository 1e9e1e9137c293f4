"""journald: the fields, a journald that hangs, and none."""

from __future__ import annotations

import json
import os
import select
import socket
import subprocess
import sys
from importlib.util import find_spec
from typing import TYPE_CHECKING

import pytest

from oomd.outside.journal import SOCKET, JournalMissing, fields_of, message_of, open_journal, wait_for_room
from oomd.outside.sinks import Stream, choose_sink
from tests.outside.events import DECISION, OUTCOME, STEP
from tests.waiting import is_ready

if TYPE_CHECKING:
    from pathlib import Path

LISTENING = """
import json, os, socket, sys
from oomd.outside.journal import SOCKET, open_journal
os.makedirs(os.path.dirname(SOCKET))
journald = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
journald.bind(SOCKET)
journald.settimeout(90)
open_journal()(json.loads(sys.argv[1]))
print(journald.recv(1 << 20).decode("utf-8", "backslashreplace"))
"""


def test_fields() -> None:
    """Programs ask the journal by event, decision, victim and result."""
    fields = fields_of(DECISION)
    assert fields["OOMD_EVENT"] == "decision"
    assert (fields["OOMD_DECISION_ID"], fields["OOMD_VICTIM_PID"], fields["OOMD_VICTIM_COMM"]) == ("3", "7", "leaker")
    assert fields["PRIORITY"] == "4"
    assert (fields["OOMD_WAKE_TO_SIGNAL_US"], fields["OOMD_LAG_US"]) == ("400", "20")
    untold = {**DECISION, "times": {**DECISION["times"], "signalled_us": None}}
    assert "OOMD_WAKE_TO_SIGNAL_US" not in fields_of(untold)
    assert (fields["OOMD_CRITICAL"], fields["OOMD_DRY_RUN"]) == ("1", "0")
    held = {"detector": "memory_available", "holds": True, "text": "24 MiB available"}
    alarm = {**DECISION["detections"][0], "evidence": [held, {**held, "detector": "swap_free", "holds": False}]}
    told = fields_of({**DECISION, "detections": [alarm]})
    assert (told["OOMD_DETECTORS"], told["OOMD_EVIDENCE"]) == ("memory_available", "24 MiB available")
    assert int(fields["OOMD_FREEABLE_BYTES"]) == 500 << 20
    assert int(fields["OOMD_AVAILABLE_BYTES"]) == DECISION["status"]["available_bytes"]
    outcome = fields_of(OUTCOME)
    assert (outcome["OOMD_REAP_BACKEND"], outcome["OOMD_HINDRANCES"]) == ("mrelease", "SCHED_IDLE")
    assert (outcome["OOMD_STATUS"], outcome["OOMD_SIGNAL_TO_MEMORY_US"]) == ("killed", "30000")
    step = fields_of(STEP)
    assert (step["OOMD_ACTION"], step["OOMD_STATUS"], step["OOMD_RULESET"]) == ("reclaim", "enough", "level")
    assert (step["OOMD_GAINED_BYTES"], step["OOMD_TAKEN_BYTES"]) == (str(200 << 20), str(210 << 20))
    assert (step["OOMD_REASON"], step["OOMD_VICTIM_CGROUP"]) == ("there is nothing cold left", "/a")
    assert len({fields["MESSAGE_ID"], outcome["MESSAGE_ID"]}) == 2
    assert all(isinstance(value, str) for value in (*fields.values(), *outcome.values()))


def test_unit_of_the_victim() -> None:
    """``journalctl -u nginx`` shows what happened to it; a process in a slice belongs to no unit."""
    inside = {**OUTCOME, "cgroup": "/system.slice/nginx.service/worker"}
    assert fields_of(inside)["OBJECT_SYSTEMD_UNIT"] == "nginx.service"
    assert "OBJECT_SYSTEMD_UNIT" not in fields_of({**OUTCOME, "cgroup": "/user.slice"})


def test_several_values_of_a_field_are_lines() -> None:
    """Every mistake of a configuration, as it was told."""
    event = {"event": "reload", "time": 0.0, "ok": False, "text": "kept", "problems": ["a:1:1: x", "a:2:1: y"]}
    fields = fields_of(event)
    assert (fields["OOMD_OK"], fields["OOMD_PROBLEMS"]) == ("0", "a:1:1: x\na:2:1: y")


def test_start_is_nobodys_death() -> None:
    """The start tells our own pid, which is no victim's."""
    report = {"kernel": "6.1", "reaper": "mrelease", "lost": []}
    fields = fields_of({"event": "start", "time": 0.0, "pid": 4, "scope": "machine", "report": report})
    assert "OOMD_VICTIM_PID" not in fields
    assert (fields["OOMD_SCOPE"], fields["OOMD_REAPER"]) == ("machine", "mrelease")


def test_lines_of_lmkd_keep_their_shape_and_tag() -> None:
    """Readers of logcat ask for a tag, and parse what stands in the message."""
    text = "Kill 'a' (1), uid 2, oom_score_adj 900 to free 3kB rss, 0kB swap; reason: low watermark is breached"
    event = {"event": "lmkd", "time": 0.25, "letter": "I", "tag": "lowmemorykiller", "writer": 77, "text": text}
    assert message_of(event)[5:].partition(" ")[0] == ""
    assert message_of(event).endswith(f".250    77    77 I lowmemorykiller: {text}")
    fields = fields_of(event)
    assert (fields["SYSLOG_IDENTIFIER"], fields["OOMD_EVENT"], fields["PRIORITY"]) == ("lowmemorykiller", "lmkd", "6")
    assert [fields_of(event | {"letter": letter})["PRIORITY"] for letter in "WE"] == ["4", "3"]


def test_journald_gets_the_words_and_the_fields() -> None:
    """What arrives at journald's socket, sent by the real library, in a mount namespace with a /run of its own."""
    if os.geteuid() != 0 or find_spec("systemd.journal") is None:
        pytest.skip("needs root and systemd-python: make test, as root, has both")
    in_own_run = ["unshare", "--mount", "sh", "-c", 'mount -t tmpfs none /run && exec "$@"', "sh"]
    done = subprocess.run(
        [*in_own_run, sys.executable, "-c", LISTENING, json.dumps(DECISION | {"id": "3\nOOMD_STATUS=forged"})],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert {"SYSLOG_IDENTIFIER=oomd", "PRIORITY=4", "OOMD_EVENT=decision", "OOMD_VICTIM_COMM=leaker"} <= set(lines)
    assert any("SIGKILL to leaker (7)" in line for line in lines)
    assert "OOMD_DECISION_ID" in lines  # a value of two lines is sent by its length: it cannot forge a field


def test_hung_journald_is_waited_for_without_the_interpreter(tmp_path: Path) -> None:
    """F20: systemd-python would keep the GIL while journald hangs; poll tells us before, and other threads go on."""
    path = str(tmp_path / "socket")
    with (
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as journald,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender,
    ):
        journald.bind(path)
        assert wait_for_room(path)
        sender.connect(path)
        while is_ready(sender, 0, select.POLLOUT):
            sender.send(b"x")
        assert not wait_for_room(path, 0)
        journald.recv(1)
        assert wait_for_room(path)


def test_journald_that_is_gone_is_an_error_of_the_sink(tmp_path: Path) -> None:
    """Nobody listens any more: the report counts as lost, as with a broken pipe."""
    path = str(tmp_path / "socket")
    with pytest.raises(FileNotFoundError):
        wait_for_room(path)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as journald:
        journald.bind(path)
    with pytest.raises(ConnectionRefusedError):
        wait_for_room(path)


def test_without_journald_it_reports_as_text(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where journald cannot be had that is said once, and nothing is lost."""
    monkeypatch.setattr("oomd.outside.journal.SOCKET", f"{SOCKET}.absent")
    with pytest.raises(JournalMissing, match="journald does not run here"):
        open_journal()
    sink, remark = choose_sink("journal")
    assert isinstance(sink, Stream)
    assert remark == "journald does not run here; reporting as text"

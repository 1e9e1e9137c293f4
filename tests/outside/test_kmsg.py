"""Lines in the kernel log, and the patterns by which node-problem-detector finds them."""

from __future__ import annotations

import json
import os
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from oomd.model.decision import KillOutcome
from oomd.model.report import plain_outcome
from oomd.outside.kmsg import MOST_BYTES, PATH, Kmsg, line_of
from oomd.outside.reporter import note
from tests.ends import until_end
from tests.fakes.builders import process
from tests.outside.events import DECISION, OUTCOME

if TYPE_CHECKING:
    from oomd.model.report import Plain

RULES = json.loads(
    (Path(__file__).parents[2] / "configs" / "node-problem-detector" / "oomd.json").read_text(encoding="utf-8")
)["rules"]
KERNELS_OWN = "Memory cgroup out of memory: Killed process 7 (leaker) total-vm:1kB, anon-rss:1kB, file-rss:1kB"


def written(path: Path, *events: Plain) -> list[str]:
    """The records that these events make in a file."""
    path.touch()
    kmsg = Kmsg(str(path))
    until_end(kmsg._fd)
    for event in events:
        kmsg(event)
    return path.read_text(encoding="ascii").splitlines()


def reasons(line: str) -> list[str]:
    """The rules that match this line."""
    return [rule["reason"] for rule in RULES if re.search(rule["pattern"], line)]


def outcome(status: str, **changes: Any) -> Plain:
    """An outcome of the real engine's shape."""
    victim = process(7, 500, **{"comm": "leaker", **changes})
    content = KillOutcome("3", victim, status, expected_bytes=500 << 20, returned_bytes=490 << 20)
    return {"event": "outcome", "time": 0.0, "id": "3", **plain_outcome(content)}


def test_a_decision_and_its_outcome(tmp_path: Path) -> None:
    """Who, why, and what came back, under the facility of user programs."""
    first, second = written(tmp_path / "kmsg", DECISION, OUTCOME)
    assert first.startswith("<12>oomd: decision 3: sending SIGKILL to process 7 (leaker), uid 1000")
    assert second.startswith("<13>oomd: decision 3: process 7 (leaker), uid 1000")
    assert second.endswith(", killed: 501760kB of 512000kB back")


def test_what_else_is_told(tmp_path: Path) -> None:
    """An escalation is; a dry run says what it would do; anything else is not the kernel log's affair."""
    escalation = {"event": "escalation", "time": 0.0, "id": "3", "pid": 7, "why": "its grace is over"}
    lines = written(tmp_path / "kmsg", escalation, DECISION | {"dry_run": True}, note("hello"))
    assert lines[0] == "<12>oomd: decision 3: sending SIGKILL to process 7: its grace is over"
    assert "would send SIGKILL" in lines[1]
    assert len(lines) == 2
    nobody = {**DECISION["decision"], "action": "notify", "target": None}
    assert line_of({**DECISION, "decision": nobody}) == (0, "")


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        ("killed", ["OomdKilling"]),
        ("exited", ["OomdKilling"]),
        ("timed_out", ["OomdVictimStuck"]),
        ("not_permitted", ["OomdVictimStuck"]),
        ("already_gone", []),
        ("dry_run", []),
    ],
)
def test_node_problem_detector_matches_what_is_written(tmp_path: Path, status: str, expected: list[str]) -> None:
    """The rules that ship match the very lines, in a pod as well; one kill is one event."""
    pod = "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod1_2.slice/cri-containerd-0123456789ab.scope"
    lines = written(tmp_path / "kmsg", DECISION, outcome(status, cgroup=pod))
    assert [reason for line in lines for reason in reasons(line)] == expected
    assert reasons(KERNELS_OWN) == []


def test_pod_is_named(tmp_path: Path) -> None:
    """As people call it, where that is known; else by its uid."""
    named = {**outcome("killed"), "pod": "u-1", "pod_name": "web", "namespace": "shop"}
    first, second = written(tmp_path / "kmsg", named, {**outcome("killed"), "pod": "u-1"})
    assert ", pod shop/web" in first
    assert ", pod /u-1" in second
    assert reasons(first) == ["OomdKilling"]


def test_nobody_forges_a_line_by_his_name(tmp_path: Path) -> None:
    """A name with a line of its own, with control signs or letters beyond ASCII stays one line."""
    evil = "a\n<0>oomd: decision 1: process 1 (x), uid 0, killed: 1kB of 1kB back\x1b[2Jé€"
    (line,) = written(tmp_path / "kmsg", outcome("killed", comm=evil))
    assert reasons(line) == ["OomdKilling"]
    assert "\x1b" not in line
    assert "\\x1b[2J" in line


def test_a_long_line_is_cut(tmp_path: Path) -> None:
    """The kernel takes no record beyond 1024 bytes."""
    (line,) = written(tmp_path / "kmsg", {**DECISION, "decision": {**DECISION["decision"], "reason": "x" * 5000}})
    assert len(line) == len("<12>") + MOST_BYTES


def test_the_kernel_takes_it() -> None:
    """Into the real log, and read back from it."""
    if not os.access(PATH, os.R_OK | os.W_OK):
        pytest.skip("the kernel log can be read and written by root alone")
    mark = f"test of oomd {os.getpid()}"
    reading = os.open(PATH, os.O_RDONLY | os.O_NONBLOCK)
    try:
        os.lseek(reading, 0, os.SEEK_END)
        kmsg = Kmsg()
        until_end(kmsg._fd)
        kmsg(outcome("killed", comm=mark))
        record = read_record(reading, mark)
    finally:
        os.close(reading)
    head, _, text = record.partition(";")
    assert head.split(",")[0] == "13"
    assert reasons(text) == ["OomdKilling"]


def read_record(fd: int, mark: str) -> str:
    """The record with this mark, among what others write."""
    end = time.monotonic() + 90
    while time.monotonic() < end:
        try:
            record = os.read(fd, 8192).decode("utf-8", "replace")
        except BlockingIOError:
            continue
        if mark in record:
            return record
    raise AssertionError("the line did not arrive")


def test_no_kernel_log_is_an_error(tmp_path: Path) -> None:
    """Whoever opens it can say so."""
    with pytest.raises(FileNotFoundError):
        Kmsg(str(tmp_path / "absent"))

"""Events as people read them."""

from __future__ import annotations

from typing import Any

import pytest

from oomd.outside.text import describe_event
from tests.outside.events import DECISION, OUTCOME, STEP


def lines(event: dict[str, Any]) -> list[str]:
    """Without the time of day."""
    return [line[9:] for line in describe_event(event)]


def test_decision() -> None:
    """Who, with which signal, why, who would have been next, who was spared."""
    told = lines(DECISION)
    assert told[0].startswith("#3 SIGKILL to leaker (7): level (critical):")
    assert told[1:] == ["next 2: p8 (8) 20 MiB", "spared: sshd (9) is protected by its name sshd*"]
    assert lines(DECISION | {"dry_run": True})[0].startswith("#3 would send SIGKILL")


def test_outcome() -> None:
    """Death, memory, the reaper's word, what hindered."""
    assert lines(OUTCOME)[0].split(", ") == [
        "#3 leaker (7) killed",
        "dead after 40ms",
        "490 MiB of 500 MiB back after 30ms",
        "reaped by mrelease in 25ms",
        "hindered by SCHED_IDLE",
    ]


def test_gentle_step() -> None:
    """What is begun has no signal; what came of it: bytes and times, and why; and what was put back when."""
    begun = DECISION | {"decision": DECISION["decision"] | {"action": "freeze", "reason": "level: low; freeze for /a"}}
    assert lines(begun) == ["#3 freeze: level: low; freeze for /a"]
    assert lines(begun | {"dry_run": True}) == ["#3 would freeze: level: low; freeze for /a"]
    assert lines(STEP)[0].split(", ") == [
        "#4 reclaim cgroup /a: enough",
        "200 MiB more available after 3s",
        "210 MiB taken in 400ms",
        "there is nothing cold left",
    ]
    less = lines(STEP | {"gained_bytes": -5 << 20, "taken_bytes": 0, "status": "not_enough"})
    assert less[0].startswith("#4 reclaim cgroup /a: not enough, 5.0 MiB less available after 3s")
    put_back = lines(STEP | {"status": "put_back", "taken_bytes": 0, "why": "its time is over"})
    assert put_back == ["#4 reclaim cgroup /a: put back, after 3s, its time is over"]
    impossible = {key: value for key, value in STEP.items() if key != "pid"} | {
        "status": "impossible",
        "taken_bytes": 0,
    }
    assert lines(impossible) == ["#4 reclaim: impossible, there is nothing cold left"]


def test_proactive() -> None:
    """What was taken from whom; in a dry run, what would have been."""
    told = [{"cgroup": "/a", "taken_bytes": 5 << 20, "why": "somebody there stalls for it"}]
    told.append({"cgroup": "/b", "taken_bytes": 7 << 20, "why": ""})
    event = {"event": "proactive", "time": 0.0, "cgroups": told, "over_us": 60_000_000, "dry_run": False}
    assert lines(event) == [
        "proactive: 12 MiB taken over 60s",
        "/a: 5.0 MiB (somebody there stalls for it)",
        "/b: 7.0 MiB",
    ]
    assert lines(event | {"dry_run": True})[0] == "proactive: 12 MiB would be taken over 60s"


@pytest.mark.parametrize(
    ("backend", "number", "words"),
    [
        ("none", 38, "not reaped"),
        ("mrelease", 3, "it was quicker than mrelease"),
        ("mrelease", 22, "not reaped: a process that shares its memory lives, or it dumps core"),
    ],
)
def test_reaper_is_reported_honestly(backend: str, number: int, words: str) -> None:
    """No reaping is told as none, ESRCH as the victim's speed, anything else by its name."""
    event = OUTCOME | {"reap": {"backend": backend, "errno": number, "duration_us": 5}}
    assert words in lines(event)[0]


def test_hastened() -> None:
    """A victim of somebody else: how large, the reaper's word, what hindered and was lifted, who went untold."""
    reap = {"backend": "mrelease", "errno": 0, "duration_us": 25000}
    event = OUTCOME | {"event": "hastened", "reap": reap, "hindrances": [], "lifted": [], "untold": 0}
    assert lines(event) == ["leaker (7), killed by somebody else, owned 500 MiB, reaped by mrelease in 25ms"]
    more = event | {"hindrances": ["nice 19"], "lifted": ["nice 19"], "untold": 3}
    words = ["hindered by nice 19", "lifted: nice 19", "after 3 more of which nothing was told"]
    assert lines(more)[0].split(", ")[-3:] == words


def test_other_events() -> None:
    """Everything else has its line too, unknown kinds included."""
    assert lines({"event": "note", "time": 0, "text": "x"}) == ["note: x"]
    assert lines({"event": "unheard", "time": 0}) == ["unheard: "]
    assert lines({"event": "reload", "time": 0, "text": "kept", "problems": ["a", "b"]}) == ["kept", "a", "b"]
    assert lines({"event": "stop", "time": 0, "text": "stopping", "counters": {"n": 1}}) == ["stopping (n 1)"]
    assert lines({"event": "escalation", "time": 0, "id": "1", "pid": 7, "why": "w"}) == ["#1 SIGKILL to 7: w"]
    refused = {"event": "refused", "time": 0, "id": "1", "pid": 7, "comm": "c", "why": "is gone"}
    assert lines(refused) == ["#1 c (7) is gone: next candidate"]


def test_names_forge_no_lines_and_reach_no_terminal() -> None:
    """A victim may be called anything: newlines and escape sequences in its name are shown, not obeyed."""
    name = "a\n\x1b[2J\x9b\x7f\u00e9"
    told = describe_event({"event": "refused", "time": 0, "id": "1", "pid": 7, "comm": name, "why": "is gone"})
    assert len(told) == 1
    assert told[0].endswith("#1 a\\x0a\\x1b[2J\\x9b\\x7f\u00e9 (7) is gone: next candidate")

"""``oomd status`` for people: every line that may be in it."""

from __future__ import annotations

import time
from typing import Any

import pytest

from oomd.commands.status import describe, printable_lines
from oomd.engine.pacing import NO_LIMIT_BYTES

STATUS: dict[str, Any] = {
    "time_us": 100_000_000,
    "available_bytes": 2 << 30,
    "base_bytes": 8 << 30,
    "swap_total_bytes": 2 << 30,
    "swap_free_bytes": 1 << 30,
    "psi_some_us": 1_500_000,
    "psi_full_us": None,
    "budget": None,
}
EVIDENCE = [{"holds": True, "text": "no swap"}, {"holds": False, "text": "2 GiB available"}]
RULESET: dict[str, Any] = {
    "ruleset": "level",
    "fired": False,
    "critical": False,
    "since_us": None,
    "evidence": EVIDENCE,
    "paused_until_us": 0,
}


def answer(**changes: Any) -> dict[str, Any]:
    """A quiet machine, or one with these changes (``state__x`` for those of the killer's state)."""
    state: dict[str, Any] = {
        "status": STATUS,
        "rulesets": [RULESET],
        "kills": [],
        "headroom_bytes": 1 << 30,
        "resting_until_us": 0,
        "futile_kills": 0,
    }
    state |= {key.removeprefix("state__"): value for key, value in changes.items() if key.startswith("state__")}
    daemon = {"pid": 7, "started": 1000.0, "scope": "machine", "dry_run": False, "reaper": "mrelease"}
    daemon |= {"locked": True, "realtime": True, "shielded": True, "reports_dropped": 0}
    told: dict[str, Any] = {
        "oomd": "0.1.0",
        "time": 1000.0 + 3 * 86400,
        "daemon": daemon,
        "outside": {"config": "/etc/oomd/oomd.yaml", "starts": 1, "reports_not_written": 0},
        "degraded": [],
        "reload": None,
        "pause": None,
        "kills": [],
        "kills_total": 0,
        "next": {"ok": True, "fresh": True, "age_us": 0, "why": "", "next": {"ranking": []}},
        "state": state,
    }
    return told | {key: value for key, value in changes.items() if not key.startswith("state__")}


def test_quiet() -> None:
    """All that there always is."""
    assert describe(answer()) == [
        "oomd 0.1.0 (pid 7) watches machine, up 3d",
        "configuration: /etc/oomd/oomd.yaml",
        "memory: 2.0 GiB of 8.0 GiB available, swap: 1.0 GiB of 2.0 GiB free; 1.0 GiB above the nearest limit",
        "memory pressure since boot: some 1.5s",
        "ruleset level: quiet",
        "  x no swap",
        "  - 2 GiB available",
        "next: nobody may be killed",
        "kills: none since the start",
        "reaper: mrelease; itself: memory locked, real-time, spared by the kernel",
    ]


CREDIT: dict[str, Any] = {
    "id": "4",
    "comm": "leaker",
    "pid": 12,
    "phase": "kill",
    "returned_bytes": 1 << 20,
    "expected_bytes": 4 << 20,
    "deadline_us": 101_000_000,
}
RANKED = {
    "comm": "web",
    "pid": 5,
    "freeable_bytes": 1 << 30,
    "because": "name web",
    "preference": "prefer",
    "oom_score_adj": 300,
}


def test_no_limit_no_distance() -> None:
    """Where no rule looks at available memory nothing is said of the way down to a limit."""
    told = "\n".join(describe(answer(state__headroom_bytes=NO_LIMIT_BYTES)))
    assert "memory: 2.0 GiB of 8.0 GiB available, swap: 1.0 GiB of 2.0 GiB free\n" in told


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"state__status": None}, "memory: not looked at yet"),
        ({"state__headroom_bytes": -(1 << 20)}, "free; 1.0 MiB below a limit"),
        (
            {"state__status": {**STATUS, "budget": {"source": "processes"}}},
            "memory: 2.0 GiB of 8.0 GiB available (budget, usage from processes); 1.0 GiB above the nearest limit",
        ),
        ({"state__status": {**STATUS, "psi_some_us": None}}, "memory pressure: not told here"),
        (
            {"state__rulesets": [{**RULESET, "fired": True, "critical": True, "since_us": 90_000_000}]},
            "ruleset level: fires, critical for 10s",
        ),
        ({"state__rulesets": [{**RULESET, "since_us": 99_000_000}]}, "ruleset level: holds, and waits for 1s"),
        ({"state__rulesets": [{**RULESET, "paused_until_us": 160_000_000}]}, "quiet, rests for 1min more"),
        (
            {"state__kills": [CREDIT]},
            "under way: #4 leaker (12) was killed, 1.0 MiB of 4.0 MiB back; counted as available for 1s more",
        ),
        (
            {"state__kills": [{**CREDIT, "phase": "term"}]},
            "leaker (12) was asked to go, 1.0 MiB of 4.0 MiB back; grace for",
        ),
        ({"state__resting_until_us": 160_000_000}, "degraded: kills returned almost nothing; resting for 1min more"),
        ({"degraded": [{"time": 1.0, "text": "no PSI"}]}, "degraded: no PSI"),
        ({"outside": {"config": None, "starts": 3, "reports_not_written": 2}}, "configuration: the embedded default"),
        ({"outside": {"config": None, "starts": 3, "reports_not_written": 2}}, "degraded: 2 reports were lost"),
        (
            {"outside": {"config": None, "starts": 3, "reports_not_written": 2}},
            "degraded: the outside process was started 3 times",
        ),
        ({"next": {"ok": False, "text": "no ruleset"}}, "next: no ruleset"),
        (
            {"next": {"ok": True, "fresh": False, "why": "memory is short", "age_us": None, "next": None}},
            "next: not looked at: memory is short",
        ),
        (
            {
                "next": {
                    "ok": True,
                    "fresh": False,
                    "why": "memory is short",
                    "age_us": 65_000_000,
                    "next": {"ranking": [RANKED]},
                }
            },
            "next (as of 1min 5s ago: memory is short):",
        ),
        (
            {"next": {"ok": True, "fresh": True, "why": "", "age_us": 0, "next": {"ranking": [RANKED]}}},
            "  1. web (5) gives back 1.0 GiB, oom_score_adj 300, prefer (name web)",
        ),
        (
            {
                "next": {
                    "ok": True,
                    "fresh": True,
                    "why": "",
                    "age_us": 0,
                    "next": {
                        "ranking": [{**RANKED, "kind": "cgroup", "name": "/a", "oom_score_adj": 0, "because": ""}]
                    },
                }
            },
            "  1. cgroup /a gives back 1.0 GiB, prefer",
        ),
    ],
)
def test_lines(changes: dict[str, Any], line: str) -> None:
    """What there may be."""
    assert any(line in each for each in describe(answer(**changes))), describe(answer(**changes))


def test_a_reload_that_failed_and_a_pause() -> None:
    """With their times."""
    now = time.time()
    reload = {"time": now, "ok": False, "text": "kept the old configuration", "problems": ["a:1:1: x"]}
    pause = {"until": now + 60, "left_us": 60_000_000, "by": "uid 0 (root)", "why": "backup"}
    lines = describe(answer(reload=reload, pause=pause))
    stamp, end = (time.strftime("%H:%M:%S", time.localtime(each)) for each in (now, now + 60))
    assert lines[1:4] == [
        f"configuration: /etc/oomd/oomd.yaml; {stamp} kept the old configuration",
        "  a:1:1: x",
        f"PAUSED until {end} (1min more) by uid 0 (root): backup",
    ]
    old = describe(answer(reload={**reload, "time": now - 86400}))[1]
    assert time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(now - 86400)) in old


def test_a_daemon_that_has_not_said_anything_yet() -> None:
    """And one that only tells."""
    told = answer()
    told["daemon"] |= {"started": None, "dry_run": True, "locked": None, "realtime": None, "shielded": None}
    lines = describe(told)
    assert lines[0] == "oomd 0.1.0 (pid 7) watches machine, dry run: nobody is signalled"
    assert lines[-1] == "reaper: mrelease; itself: not protected"


def test_hostile_names_do_not_speak_to_the_terminal() -> None:
    """Nor do they end a line."""
    text = printable_lines(["a\x1b[31mb", "c\nd"])
    assert text.count("\n") == 1
    assert "\x1b" not in text

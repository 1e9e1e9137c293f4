"""``oomd replay``: one line per step, mistakes with their place."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from oomd.__main__ import main
from oomd.config.effective import to_yaml
from oomd.config.loader import default_config
from oomd.engine.credit import open_credit
from oomd.engine.detection import initial_state
from oomd.model.decision import Decision
from oomd.model.units import SECOND_US
from oomd.monitor.tape import Tape
from oomd.outside.recording import header_line, tick_line
from tests.fakes.builders import candidate, process, snapshot, status
from tests.fakes.cgroup_tree import CgroupTree
from tests.fakes.tapes import drained
from tests.replay.traces import BIG_AND_SMALL, LOW, PLENTY, add_step

if TYPE_CHECKING:
    from pathlib import Path


def lines(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[dict[str, Any]]:
    """What ``oomd replay --json`` prints."""
    assert main(["replay", "--json", *arguments]) == 0
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_one_line_per_step(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The decision's form with the step's number and time; a tree that is absent is as before."""
    add_step(tmp_path, "0", PLENTY, BIG_AND_SMALL)
    add_step(tmp_path, "1.5", LOW, BIG_AND_SMALL)
    (tmp_path / "2").mkdir()
    answers = lines(capsys, str(tmp_path))
    assert [(line["step"], line["time"]) for line in answers] == [(0, 0), (1, 1.5), (2, 2)]
    assert [line["decision"]["action"] for line in answers] == ["none", "term", "none"]
    assert answers[1]["decision"]["target"]["pid"] == 50
    assert {"status", "detections", "ranking", "rejected", "version"} <= answers[1].keys()
    assert answers[1]["status"]["time_us"] == 1_500_000


def test_text(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One line each for people; a name cannot break out of it."""
    add_step(tmp_path, "0", LOW, {50: {"comm": b"a\n\x1b[2J", "rss_anon": 1 << 30}})
    assert main(["replay", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert out.count("\n") == 1
    assert "\x1b" not in out
    assert "term" in out


@pytest.mark.parametrize("recorded", [False, True])
def test_no_rules_at_all(tmp_path: Path, capsys: pytest.CaptureFixture[str], recorded: bool) -> None:
    """Units' own settings are told to a running oomd only: nothing is made up in their place."""
    rules = tmp_path / "oomd.yaml"
    rules.write_text("managed: {systemd: auto}\nlevel: off\nstall: off\n", encoding="utf-8")
    trace = tmp_path / "trace"
    if recorded:
        trace.write_text("whatever was recorded\n", encoding="utf-8")
    else:
        add_step(trace, "0", LOW, BIG_AND_SMALL)
    assert main(["replay", str(trace), "--config", str(rules)]) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith(
        "oomd: no ruleset is in force by this configuration: who dies next depends on units'"
    )
    assert captured.out == ""


def test_rules_of_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """--config asks the same trace other rules."""
    add_step(tmp_path / "trace", "0", LOW, BIG_AND_SMALL)
    config = tmp_path / "other.yaml"
    config.write_text("protect: [big]\nstall: off\n")
    (line,) = lines(capsys, str(tmp_path / "trace"), "--config", str(config))
    assert line["decision"]["target"]["comm"] == "small"
    config.write_text("protecct: []")
    assert main(["replay", str(tmp_path / "trace"), "--config", str(config)]) == 2
    assert "did you mean 'protect'?" in capsys.readouterr().err


def recording(folder: Path) -> str:
    """A recording in which somebody was asked to go."""
    config = default_config()
    tape = Tape()
    shown = snapshot(process(7, 3000, comm="big"), process(8, 1000, comm="small"), status=status())
    tape.begin(replace(shown.status, time_us=SECOND_US), initial_state(config.rules))
    tape.begin(replace(shown.status, time_us=3 * SECOND_US, mem_available_bytes=LOW // 2), initial_state(config.rules))
    decision = Decision("term", "low", shown.status, "level", target=candidate(7, 3000, comm="big"))
    opened = open_credit("1", candidate(7, 3000, comm="big"), "level", "term", shown.status)
    tape.note_decision(decision, shown, replace(initial_state(config.rules), credits=(opened,)))
    path = folder / "incident"
    lines = [tick_line(tick) for part in drained(tape) for tick in part]
    path.write_text("".join([header_line(to_yaml(config)), *lines]), encoding="utf-8")
    return str(path)


def test_recording(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Time counts from the first tick; what was recorded stands beside the answer; other rules are marked."""
    path = recording(tmp_path)
    quiet, asked = lines(capsys, path)
    assert (quiet["time"], asked["time"], asked["step"]) == (0, 2, 1)
    assert asked["decision"]["target"]["pid"] == asked["recorded"]["target"]["pid"] == 7
    assert (quiet["differs"], asked["differs"], asked["snapshot_time"]) == (False, False, 2)
    config = tmp_path / "other.yaml"
    config.write_text("protect: [big]")
    assert main(["replay", path, "--config", str(config)]) == 0
    out = capsys.readouterr().out.splitlines()
    assert "differs" not in out[0]
    assert out[1].endswith("[differs: recorded was term big (7)]")


def test_recording_that_was_cut(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The readable part is replayed, and standard error tells the cut; options of a trace are refused."""
    path = recording(tmp_path)
    os.truncate(path, os.path.getsize(path) - 10)
    assert len(lines(capsys, path)) == 1
    assert main(["replay", path]) == 0
    assert "incident:3: cut off in the middle of a line; what comes before is replayed" in capsys.readouterr().err
    assert main(["replay", path, "--budget", "1GiB"]) == 2
    os.truncate(path, 10)
    assert main(["replay", path]) == 2
    assert "is no recording of oomd" in capsys.readouterr().err


def test_marks_and_matches(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A trace's command lines, executables and cgroups count, and meta.yaml tells marks and owners."""
    crowd: dict[int, dict[str, Any]] = {
        50: {"rss_anon": 3 << 30, "cmdline": ("java", "-jar", "big.jar"), "cgroup": "/a"},
        60: {"rss_anon": 2 << 30, "cgroup": "/b", "comm": "two"},
        70: {"rss_anon": 1 << 30, "cgroup": "/c", "comm": "one"},
        80: {"rss_anon": 1 << 29, "cgroup": "/d", "comm": "half"},
    }
    trace = tmp_path / "trace"
    tree = add_step(trace, "0", LOW, crowd)
    groups = CgroupTree(trace / "0" / "cgroup")
    for name in ("/a", "/b", "/c", "/d"):
        groups.add_group(name)
    (tree.root / "70" / "exe").symlink_to("/opt/app/run")
    (trace / "0" / "meta.yaml").write_text(
        "xattrs: {/b: {user.oomd_omit: 1}, /c: {user.oomd_avoid: 1}, /d: {user.oomd_avoid: 1}}\n"
        "owners: {/a: 0, /b: 0, /c: 1000, /d: 0}"
    )
    config = tmp_path / "c.yaml"
    config.write_text("protect: [{cmdline: '*big.jar*'}]\nprefer: [{exe: /opt/app/*, name: nobody}]")
    (line,) = lines(capsys, str(trace), "--config", str(config))
    assert [(each["comm"], each["preference"], each["because"]) for each in line["ranking"]] == [
        ("one", "normal", ""),
        ("half", "avoid", "user.oomd_avoid"),
    ]
    assert {each["pid"]: each["why"] for each in line["rejected"]} == {
        1: "pid 1 is never killed",
        50: "is protected by its command line *big.jar*",
        60: "is omitted: its cgroup is marked user.oomd_omit",
    }
    config.write_text("protect: []\nprefer: [{exe: /opt/app/*}]\nomit: last_resort")
    (line,) = lines(capsys, str(trace), "--config", str(config))
    assert [each["comm"] for each in line["ranking"]] == ["one", "process", "half", "two"]
    assert line["ranking"][0]["because"] == "executable /opt/app/*"


CGROUP_RULES = """
rulesets:
  - name: hot
    when: {all: [{pressure: {of: "/work.slice/*", kind: full, over: 2s, above: 30%}}]}
    for: 1s
    choose: {from: ["/work.slice/*"], level: cgroup, policy: POLICY, HOW: true}
    then: [{kill: {}}]
    pause: 15s
"""


def test_cgroups_of_a_trace(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Windows, rates, timers and marks of cgroups go on from step to step; what dies is a cgroup with all its pids."""
    trace = tmp_path / "trace"
    for second in range(6):
        crowd: dict[int, dict[str, Any]] = {
            50: {"comm": "a", "rss_anon": 1 << 30, "cgroup": "/work.slice/one/x"},
            51: {"comm": "b", "rss_anon": 2 << 30, "cgroup": "/work.slice/two"},
            52: {"comm": "c", "rss_anon": 3 << 30, "cgroup": "/work.slice/three"},
            53: {"comm": "d", "rss_anon": 1 << 20, "cgroup": "/work.slice/one/x"},
        }
        add_step(trace, str(second), PLENTY, crowd)
        groups = CgroupTree(trace / str(second) / "cgroup")
        groups.add_group("/work.slice/one", anon=1 << 30, full_us=600_000 * second, pgscan=1000 * second)
        groups.add_group("/work.slice/one/x", anon=1 << 30, pids=(50, 53), pgscan=1000 * second)
        groups.add_group("/work.slice/two", anon=2 << 30, pids=(51,), pgscan=9000 + 10 * second)
        groups.add_group("/work.slice/three", anon=3 << 30, pids=(52,), pgscan=50_000)
        (trace / str(second) / "meta.yaml").write_text(
            "xattrs: {/work.slice/two: {user.oomd_avoid: 1}}\nowners: {/work.slice/two: 0, /work.slice: 0}"
        )
    config = tmp_path / "c.yaml"
    for how, policy, name, pids in (
        ("recursive", "pgscan", "/work.slice/one/x", [50, 53]),
        ("recursive", "resident", "/work.slice/three", [52]),
        ("leaves", "pgscan", "/work.slice/one/x", [50, 53]),
        ("leaves", "resident", "/work.slice/three", [52]),
    ):
        config.write_text(CGROUP_RULES.replace("POLICY", policy).replace("HOW", how))
        answers = lines(capsys, str(trace), "--config", str(config))
        killed = [line for line in answers if line["decision"]["action"] == "kill"]
        assert len(killed) == 1, [line["decision"] for line in answers]
        assert killed[0]["time"] >= 1
        assert killed[0]["decision"]["target"]["cgroup"] == name
        assert killed[0]["decision"]["pids"] == pids
        assert killed[0]["ranking"][-1]["because"] == "user.oomd_avoid"


def test_mistakes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What cannot be replayed is told, status 2; the steps before a broken one are printed."""
    assert main(["replay", str(tmp_path / "nowhere")]) == 2
    assert "nowhere: there is no such file or folder" in capsys.readouterr().err
    assert main(["replay", str(tmp_path)]) == 2
    assert "no step in it" in capsys.readouterr().err
    add_step(tmp_path, "0", LOW, {})
    (add_step(tmp_path, "1", LOW, {}).root / "meminfo").write_text("")
    assert main(["replay", str(tmp_path)]) == 2
    captured = capsys.readouterr()
    assert captured.out.count("\n") == 1
    assert f"step 1: {tmp_path}/1/proc/meminfo: MemTotal is missing" in captured.err

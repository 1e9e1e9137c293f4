"""The table of lmkd's reasons as traces, replayed by the command: one per reason, and its boundary."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from oomd.__main__ import main
from tests.fakes.proc_tree import MIB, ProcTree
from tests.lmkd.machine import Machine
from tests.lmkd.test_decision import BUSY, CASES, NONE

if TYPE_CHECKING:
    from pathlib import Path

APPS = {50: 900, 60: 701, 70: 201, 80: 0, 90: -800}
"""oom_score_adj by pid."""


def add_step(root: Path, name: str, changes: dict[str, int], apps: dict[int, int], event: str = "") -> None:
    """One step: capitals change meminfo (kB), small letters vmstat."""
    folder = root / name / "proc"
    tree = ProcTree(folder)
    for pid, adj in apps.items():
        tree.add_process(pid, comm=f"app{adj}", oom_score_adj=adj, rss_anon=64 * MIB, start_ticks=pid, uid=10_000)
    machine = Machine(folder)
    meminfo = {key: value for key, value in changes.items() if key[0].isupper()}
    machine.set_meminfo(MemAvailable=900_000, AnonPages=1_000_000, **meminfo)
    machine.set_vmstat(**{key: value for key, value in changes.items() if not key[0].isupper()})
    if event:
        (root / name / "meta.yaml").write_text(f"lmkd: {{event: {event}}}\n", encoding="utf-8")


def replayed(root: Path, capsys: pytest.CaptureFixture[str], **options: Any) -> list[tuple[str, str, str | None]]:
    """Action, reason and victim of each step."""
    lines = [f"'ro.lmk.{name}={value}'" for name, value in options.items()]
    config = root.parent / "config.yaml"
    config.write_text(f"lmkd: {{only: true, override: [{', '.join(lines)}]}}\n", encoding="utf-8")
    assert main(["replay", str(root), "--json", "--config", str(config)]) == 0
    told = [json.loads(line)["decision"] for line in capsys.readouterr().out.splitlines()]
    return [(each["action"], each["reason"], each["target"] and each["target"]["comm"]) for each in told]


def merged(parts: Any) -> dict[str, int]:
    """All changes of a case."""
    return {key: value for part in parts for key, value in part.items()}


@pytest.mark.parametrize(("parts", "options", "reason", "min_adj", "text"), CASES)
def test_reason(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], parts: Any, options: Any, reason: int, min_adj: int, text: str
) -> None:
    """The reason's words, and the least important process that it allows; nobody where all are more important."""
    apps = {pid: adj for pid, adj in APPS.items() if adj <= min_adj} | {55: min_adj}
    add_step(tmp_path / "trace", "10", {}, apps)
    add_step(tmp_path / "trace", "10.5", merged(parts), apps)
    add_step(tmp_path / "trace", "10.6", merged(parts), apps)
    first, second, third = replayed(tmp_path / "trace", capsys, **options)
    assert first == ("none", "nothing is asked for", None)
    assert second == ("kill", text, f"app{min_adj}")
    assert third[0] == "none"
    assert "still gives its memory back" in third[1]
    assert reason in range(10)


@pytest.mark.parametrize(("parts", "options"), NONE)
def test_boundary(tmp_path: Path, capsys: pytest.CaptureFixture[str], parts: Any, options: Any) -> None:
    """At the limit nobody dies."""
    add_step(tmp_path / "trace", "10", {}, APPS)
    add_step(tmp_path / "trace", "10.5", merged(parts), APPS)
    assert [action for action, _, _ in replayed(tmp_path / "trace", capsys, **options)] == ["none", "none"]


def test_events_and_after_a_kill(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A critical event takes whoever is least important; once the trace no longer shows the victim, what is still
    below the min watermark takes the next one; nobody below 0, ever.
    """
    trace, short = tmp_path / "trace", {"MemFree": 4 * 9_999}
    add_step(trace, "10", {}, APPS)
    add_step(trace, "10.5", BUSY, APPS, event="medium")
    add_step(trace, "10.6", {"pgscan_kswapd": 2}, APPS, event="critical")
    left = {pid: adj for pid, adj in APPS.items() if pid != 50}
    add_step(trace, "10.7", {"pgscan_kswapd": 3, **short}, left)
    add_step(trace, "10.8", {"pgscan_kswapd": 4, **short}, {90: -800}, event="critical")
    told = replayed(trace, capsys, pressure_after_kill_min_score=200)
    assert [(action, victim) for action, _, victim in told] == [
        ("none", None), ("none", None), ("kill", "app900"), ("kill", "app701"), ("none", None)
    ]  # fmt: skip
    assert told[3][1] == "min watermark is breached even after kill"
    assert "nobody has an oom_score_adj of at least" in told[4][1]


def test_bad_properties(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What is no property's value is said, and nothing is replayed; nor without the file that was asked for."""
    add_step(tmp_path / "trace", "10", {}, APPS)
    config, file = tmp_path / "config.yaml", tmp_path / "props"
    config.write_text(f"lmkd: {{only: true, properties: {file}}}", encoding="utf-8")
    for text, words in ((None, "No such file"), ("ro.lmk.thrashing_limit=much", "'much' is no number")):
        if text is not None:
            file.write_text(text, encoding="utf-8")
        assert main(["replay", str(tmp_path / "trace"), "--config", str(config)]) == 2
        told = capsys.readouterr().err
        assert str(file) in told
        assert words in told

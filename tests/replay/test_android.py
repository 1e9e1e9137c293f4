"""The table of lmkd's reasons as traces, replayed by the command: one per reason, and its boundary."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from oomd.__main__ import main
from tests.fakes.proc_tree import MIB, ProcTree
from tests.lmkd.machine import Machine
from tests.lmkd.test_decision import (
    AT_MIN,
    BELOW_LOW,
    BELOW_MIN,
    BUSY,
    CASES,
    DIRECT,
    NONE,
    SWAP_LOW,
    refaults,
)

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


Steps = list[tuple[str, dict[str, Any], list[int], str]]
"""Time, changes, the adjs of those who live, the event."""
EVERYBODY = list(APPS.values())
WITHOUT_THE_FIRST = [adj for adj in EVERYBODY if adj != 900]
SMALL_CACHE = {"Active(file)": 20_000, "Inactive(file)": 29_999}
ENOUGH_CACHE = {"Active(file)": 20_000, "Inactive(file)": 30_000}


def after_a_kill(*later: dict[str, Any]) -> Steps:
    """A kill for thrashing, whose victim is gone in the step after it; then what comes later, by tenths of a second."""
    thrashing = {**BELOW_LOW, **refaults(101)}
    steps: Steps = [("10", {}, EVERYBODY, ""), ("10.1", thrashing, EVERYBODY, "")]
    return [*steps, *((f"10.{at}", changes, WITHOUT_THE_FIRST, "") for at, changes in enumerate(later, 2))]


def reclaiming(*scanned: int) -> Steps:
    """A look every 300 ms, with so many pages scanned directly."""
    return [
        (f"{10 + number * 0.3:.1f}", {"pgscan_direct": count, "pgscan_kswapd": number}, EVERYBODY, "")
        for number, count in enumerate(scanned)
    ]


TRACES: list[tuple[str, Steps, dict[str, int], list[tuple[str, str]]]] = [
    (
        "0 below min after a kill",
        after_a_kill({"pgscan_kswapd": 1, **BELOW_MIN}),
        {"pressure_after_kill_min_score": 300},
        [
            ("app900", "low watermark is breached and thrashing (101%)"),
            ("app701", "min watermark is breached even after kill"),
        ],
    ),
    (
        "0 below min after a kill, but nobody so unimportant",
        after_a_kill({"pgscan_kswapd": 1, **BELOW_MIN}),
        {"pressure_after_kill_min_score": 702},
        [
            ("app900", "low watermark is breached and thrashing (101%)"),
            ("", "min watermark is breached even after kill; nobody"),
        ],
    ),
    (
        "0 at min after a kill",
        after_a_kill({"pgscan_kswapd": 1, **AT_MIN}),
        {"pressure_after_kill_min_score": 0, "lowmem_min_oom_score": 800},
        [("app900", "low watermark is breached and thrashing (101%)"), ("", "low watermark is breached; nobody")],
    ),
    (
        "1 critical event",
        [("10", {}, EVERYBODY, ""), ("10.1", BUSY, [0, -1], "critical")],
        {},
        [("app0", "device is not responding")],
    ),
    ("1 medium event", [("10", {}, EVERYBODY, ""), ("10.1", BUSY, [0, -1], "medium")], {}, []),
    (
        "1 critical event, only the protected",
        [("10", {}, EVERYBODY, ""), ("10.1", BUSY, [-1, -800], "critical")],
        {},
        [("", "device is not responding; nobody")],
    ),
    (
        "7 small file cache after thrashing",
        after_a_kill({"pgscan_kswapd": 1, **SMALL_CACHE}),
        {"filecache_min_kb": 50_000},
        [
            ("app900", "low watermark is breached and thrashing (101%)"),
            ("app701", "filecache is low (49999kB < 50000kB) after thrashing"),
        ],
    ),
    (
        "7 cache just large enough, and later small",
        after_a_kill({"pgscan_kswapd": 1, **ENOUGH_CACHE}, {"pgscan_kswapd": 2, **SMALL_CACHE}),
        {"filecache_min_kb": 50_000},
        [("app900", "low watermark is breached and thrashing (101%)")],
    ),
    (
        "9 stuck in direct reclaim",
        reclaiming(0, 1, 2, 3),
        {"direct_reclaim_threshold_ms": 599},
        [("app900", "device is stuck in direct reclaim (600ms > 599ms)")],
    ),
    ("9 just as long", reclaiming(0, 1, 2, 3), {"direct_reclaim_threshold_ms": 600}, []),
    ("9 with a pause", reclaiming(0, 1, 2, 2, 3, 4), {"direct_reclaim_threshold_ms": 599}, []),
]


@pytest.mark.parametrize(("steps", "options", "told"), [each[1:] for each in TRACES], ids=[each[0] for each in TRACES])
def test_reasons_with_a_past(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], steps: Steps, options: dict[str, int], told: list[Any]
) -> None:
    """Those that need an event, an earlier kill or some time, each with its boundary."""
    for name, changes, adjs, event in steps:
        add_step(tmp_path / "trace", name, changes, {60 + place: adj for place, adj in enumerate(sorted(adjs))}, event)
    found = [
        (victim or "", reason)
        for action, reason, victim in replayed(tmp_path / "trace", capsys, **options)
        if action == "kill" or "nobody has" in reason
    ]
    assert len(found) == len(told), found
    for (victim, reason), (wanted, words) in zip(found, told, strict=True):
        assert victim == wanted
        assert reason == words if wanted else reason.startswith(words)


BOUNDARIES = [
    ("below min", (BUSY, BELOW_MIN, SWAP_LOW), {}, "app0"),
    ("at min", (BUSY, AT_MIN, SWAP_LOW), {}, ""),
    ("critical thrashing", (BELOW_LOW, refaults(300)), {}, "app0"),
    ("just not", (BELOW_LOW, refaults(299)), {}, ""),
    ("critical thrashing as configured", (BELOW_LOW, refaults(250)), {"thrashing_limit_critical": 250}, "app0"),
    ("direct, critical", (DIRECT, refaults(300)), {}, "app0"),
    ("direct, just not", (DIRECT, refaults(299)), {}, ""),
    ("swap low, critical", (SWAP_LOW, refaults(300)), {}, "app0"),
    ("swap low, just not", (SWAP_LOW, refaults(299)), {}, ""),
]


@pytest.mark.parametrize(
    ("parts", "options", "victim"), [each[1:] for each in BOUNDARIES], ids=[each[0] for each in BOUNDARIES]
)
def test_perceptible_ones(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], parts: Any, options: dict[str, int], victim: str
) -> None:
    """People notice when these die: only at the worst, and not just short of it."""
    add_step(tmp_path / "trace", "10", {}, {60: 200, 70: 0})
    add_step(tmp_path / "trace", "10.5", merged(parts), {60: 0, 70: -1})
    _, (action, reason, found) = replayed(tmp_path / "trace", capsys, **options)
    assert (action, found or "") == (("kill", victim) if victim else ("none", ""))
    assert victim or "nobody has an oom_score_adj of at least 201" in reason


ARM64_MEMINFO = {"MemTotal": 7_864_320, "SwapTotal": 0, "SwapFree": 0}
"""kB, in pages of 16 KiB."""
ARM64_ZONES = """\
Node 0, zone      DMA
  pages free     4096
        boost    0
        min      352
        low      440
        high     528
        spanned  196608
        present  131072
        managed  122880
        cma      16384
        protection: (0, 0, 5760, 5760)
Node 0, zone    DMA32
  pages free     0
        boost    0
        min      0
        low      0
        high     0
        spanned  0
        present  0
        managed  0
        cma      0
        protection: (0, 0, 5760, 5760)
Node 0, zone   Normal
  pages free     8192
        boost    0
        min      1056
        low      1320
        high     1584
        spanned  393216
        present  393216
        managed  368640
        cma      0
        protection: (0, 0, 0, 0)
"""
"""As such a kernel prints them: below low is less than (440 + 5760) + 1320 pages, 120320 kB."""


@pytest.mark.parametrize(("free_kb", "victim"), [(120_319, "app900"), (120_320, None)])
def test_machine_with_large_pages(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], free_kb: int, victim: str | None
) -> None:
    """A trace of an arm64 machine, replayed anywhere: watermarks count its pages, and CMA's free memory is not
    everybody's.
    """
    for number, free in enumerate((4_000_000, free_kb + 1000)):
        changes = {**ARM64_MEMINFO, "MemFree": free, "CmaFree": 1000, "pgscan_kswapd": number}
        add_step(tmp_path / "trace", str(10 + number), changes, APPS)
        (tmp_path / "trace" / str(10 + number) / "proc" / "zoneinfo").write_text(ARM64_ZONES, encoding="ascii")
    _, (_, reason, found) = replayed(tmp_path / "trace", capsys)
    assert found == victim, reason


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

"""The judge of the VM lab, on a hand-written trace: no guest is booted."""

from __future__ import annotations

import json
import struct
from typing import TYPE_CHECKING, Any

from tests.vm import killers, report, scenarios, scoreboard
from tests.vm.image import ARCHITECTURE, HOST_PACKAGES, Image
from tests.vm.measure import Figures, find_kills, measure
from tests.vm.qemu import GuestRun

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

TRACE = """# tracer: nop
        oomd-183 [000] d..1.    11.000000: signal_generate: sig=15 errno=0 code=0 comm=leaker pid=191 grp=1 res=0
    a) b-c-500 [000] d..1.    11.100000: signal_generate: sig=9 errno=0 code=128 comm=database pid=190 grp=1 res=0
     systemd-1 [000] d..1.    11.150000: signal_generate: sig=15 errno=0 code=0 comm=database pid=190 grp=1 res=1
    leaker-191 [000] .....    11.200000: sched_process_exit: comm=leaker pid=191 prio=120
      oomd-183 [000] d..1.    99.000000: signal_generate: sig=9 errno=0 code=0 comm=late pid=192 grp=1 res=0
"""
RESULT: dict[str, Any] = {
    "go": 10.0,
    "pids": ["database.190", "late.192", "leaker.191"],
    "killer_tasks": [183],
    "before": {},
    "after": {},
    "peak_rss_kib": 0,
    "mem_total": 1000 * 1024,
}
ROWS = [
    (10.0, 500 * 1024, 0, 0, 0),
    (10.5, 50 * 1024, 0, 1000, 0),
    (11.1, 200 * 1024, 0, 3000, 0),
    (12.0, 400 * 1024, 0, 3000, 0),
]


def guest_run(trace: str = TRACE, *, ended: str = "poweroff") -> GuestRun:
    """A run whose database stalled once for 200 ms."""
    record = struct.pack("=QdQ", 100, 11.99, 1) + struct.pack("=dd", 10.6, 0.2)
    out = {
        "result.json": json.dumps(RESULT),
        "samples.json": json.dumps(ROWS),
        "trace": trace,
        "database": record.hex(),
    }
    return GuestRun({name: text.encode() for name, text in out.items()}, ended, 20.0, "", "tcg")


def test_who_died_by_whose_hand() -> None:
    """The sender's task tells the killer, SI_KERNEL the kernel; systemd's clearing up and what is late are left out."""
    kills = find_kills(TRACE, "", RESULT, 12.0)
    assert [(kill.comm, kill.by, kill.signals, kill.died_s) for kill in kills] == [
        ("leaker", "killer", (15,), 11.2),
        ("database", "kernel", (9,), None),
    ]
    limited = find_kills(TRACE, "Memory cgroup out of memory: Killed process 190 (database)", RESULT, 12.0)
    assert limited[1].by == "kernel-memcg"


def test_figures_of_a_run() -> None:
    """Times start below 10 %, memory may be back before its owner is dead, and every wrong is named."""
    figures = measure(guest_run(), scenarios.BY_NAME["leak"], "none", "oomd")
    assert (figures.low_to_signal_ms, figures.low_to_death_ms, figures.low_to_memory_ms) == (500, 700, 600)
    assert (figures.stalled_ms, figures.lowest_available_mib, figures.psi_full_ms) == (200, 50, 3)
    assert figures.killed_by == "oomd+kernel"
    assert figures.verdict == "1 wrong kills (database); 1 kernel OOM kills; the database died"


def test_right_run_and_hung_run() -> None:
    """A right run is ok, one without results says how it ended."""
    right = "\n".join(line for line in TRACE.splitlines() if "database" not in line)
    assert measure(guest_run(right), scenarios.BY_NAME["leak"], "none", "oomd").verdict == "ok"
    hung = measure(GuestRun({}, "timeout", 9.0, "last words", "tcg"), scenarios.BY_NAME["leak"], "none", "oomd")
    assert hung.verdict == "no result (timeout): last words"


def test_tie_within_noise_and_spread() -> None:
    """A tie is within the larger of 150 ms and the other's spread; a killer that was wrong is no measure."""

    def runs(*values: int, verdict: str = "ok") -> list[dict[str, Any]]:
        return [{**Figures("leak", "none", "x", "poweroff", verdict).plain(), "stalled_ms": value} for value in values]

    assert report.compare(runs(100, 120), {"a": runs(200, 240)}, "stalled_ms") == "tie with a"
    assert report.compare(runs(1000), {"a": runs(100, 1500)}, "stalled_ms") == "tie with a"
    assert report.compare(runs(1000), {"a": runs(100, 110)}, "stalled_ms") == "worse than a by 895 ms"
    assert report.compare(runs(10), {"a": runs(900)}, "stalled_ms") == "better than a by 890 ms"
    assert report.compare(runs(10), {"a": runs(0, verdict="nobody was killed")}, "stalled_ms") == "no other was right"


def test_every_scenario_is_complete() -> None:
    """Each has a database, actors with names of their own that fit into comm, and victims that are among them."""
    for scenario in scenarios.ALL:
        options = [actor["options"] for actor in scenario.cast(512)]
        names = {each["name"] for each in options} | {
            each["child"] for each in options if isinstance(each.get("child"), str)
        }
        names |= {each["child"]["name"] for each in options if isinstance(each.get("child"), dict)}
        assert "database" in names
        assert scenario.right <= names
        assert all(len(name) < 16 for name in names)
        assert len({actor["unit"] for actor in scenario.cast(512)}) == len(options)
    assert {name for name, _ in scenarios.EXTRA_CELLS} <= set(scenarios.BY_NAME)


def test_every_killer_is_known_by_its_unit() -> None:
    """Ours brings its unit with it, the others come with their packages."""
    assert [killer.name for killer in killers.ALL if not killer.package] == ["oomd"]
    assert "@BIN@" not in "".join(killers.OOMD.files.values())
    assert HOST_PACKAGES
    assert ARCHITECTURE


def test_names_choose_cells() -> None:
    """Scenarios and killers on the command line narrow the scoreboard, both together to their common cells."""
    assert scoreboard.wanted([], "leak", "oomd")
    assert scoreboard.wanted(["oomd"], "leak", "oomd")
    assert not scoreboard.wanted(["oomd"], "leak", "earlyoom")
    assert not scoreboard.wanted(["oomd", "burst"], "leak", "oomd")
    assert scoreboard.wanted(["oomd", "burst"], "burst", "oomd")


def test_exposure_is_asked_for_anew(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Once per version; with --fresh again, where our own cells are asked for, and not for another killer's."""
    figures = iter(["1.7 OK", "1.6 OK", "1.5 OK"])

    def check(_: object) -> GuestRun:
        facts = json.dumps({"rate": {"figure": next(figures)}}).encode()
        return GuestRun({"checks.json": facts}, "poweroff", 1.0, "", "tcg")

    monkeypatch.setattr(scoreboard, "check_unit", check)
    monkeypatch.setattr(scoreboard, "RESULTS", tmp_path / "results.json")
    monkeypatch.setattr(scoreboard, "TABLES", tmp_path / "tables.md")
    monkeypatch.setattr(scoreboard, "cells", list)
    monkeypatch.setattr(scoreboard, "find_accelerator", lambda _: "tcg")
    monkeypatch.setattr(scoreboard, "ensure_image", lambda: Image(tmp_path))
    (tmp_path / "versions").write_text("kernel 6.12\n", "utf-8")
    told = []
    for only, fresh in (([], False), ([], False), (["oomd"], True), (["earlyoom"], True), (["burst"], True)):
        scoreboard.run_missing(only, fresh=fresh)
        ((unit,),) = (runs for key, runs in scoreboard.load().items() if key.startswith("unit/"))
        told.append(unit["figure"])
    assert told == ["1.7 OK", "1.7 OK", "1.6 OK", "1.6 OK", "1.6 OK"]
    assert "`systemd-analyze security oomd.service`: 1.6 OK" in (tmp_path / "tables.md").read_text("utf-8")

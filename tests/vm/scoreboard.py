"""The scoreboard: every scenario under every killer, three times each; only what is missing is run."""

from __future__ import annotations

import datetime as dt
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.vm import killers, report, scenarios
from tests.vm.image import ensure_image
from tests.vm.qemu import find_accelerator
from tests.vm.runs import check_unit, run_scenario

if TYPE_CHECKING:
    from tests.vm.image import Image

RUNS = 3
MEMORY_MIB = 512
RESULTS = Path(__file__).with_name("scoreboard.json")
TABLES = Path(__file__).with_name("SCOREBOARD.md")
COMMAND = "python -m tests.vm scoreboard"
_NOTE = """Times are relative: compare the killers of one table, not tables of different machines. A guest under
emulation (tcg) is 20–30 times slower than the same machine; differences below {tie} ms are noise. Times begin when
MemAvailable falls below 10 %, or at the first signal if that comes earlier. *stalled*: turns of the database of more
than 50 ms, summed. *false kills*: processes that should not have died. A run in which nobody was killed where nobody
had to die is `ok`.
"""


def cells() -> list[tuple[str, str]]:
    """Scenario and swap, each scenario's natural one first."""
    return [(scenario.name, scenario.swap) for scenario in scenarios.ALL] + list(scenarios.EXTRA_CELLS)


def wanted(only: list[str], scenario: str, killer: str) -> bool:
    """Whether the names on the command line leave this cell in: of the scenarios named, for the killers named."""
    return all(
        name in only for name, known in ((scenario, scenarios.BY_NAME), (killer, killers.BY_NAME)) if {*only} & {*known}
    )


def run_missing(only: list[str], *, fresh: bool = False) -> None:
    """Runs what the results file lacks for the versions of now, writing it and the tables after each run."""
    image = ensure_image()
    results = load()
    _record_unit(image, results, fresh=fresh and wanted(only, "unit", "oomd"))
    for scenario, swap in cells():
        for killer in killers.ALL:
            if not wanted(only, scenario, killer.name):
                continue
            key = cell_key(scenario, swap, killer.name, killer.version(image))
            runs = [] if fresh else list(results.get(key, []))
            while len(runs) < RUNS:
                figures = run_scenario(image, scenario, killer.name, swap=swap, memory_mib=MEMORY_MIB).plain()
                runs.append({**figures, "date": today(), "accelerator": find_accelerator(image)})
                results[key] = runs
                print(report.describe_run(figures), flush=True)
                save(results)
                write_tables(image, results)
    write_tables(image, results)


def _record_unit(image: Image, results: dict[str, list[dict[str, Any]]], *, fresh: bool) -> None:
    """What systemd says of our unit's exposure, once per version, or anew."""
    key = cell_key("unit", "none", "oomd", killers.our_version())
    if fresh or key not in results:
        facts = json.loads(check_unit(image).out["checks.json"])
        results[key] = [{"figure": facts["rate"]["figure"], "date": today()}]
        save(results)


def cell_key(scenario: str, swap: str, killer: str, version: str) -> str:
    """The key of the results file."""
    return f"{scenario}/{swap}/{killer}/{version}"


def today() -> str:
    """The date, UTC."""
    return dt.datetime.now(dt.UTC).date().isoformat()


def load() -> dict[str, list[dict[str, Any]]]:
    """The results so far."""
    return dict(json.loads(RESULTS.read_text())) if RESULTS.exists() else {}


def save(results: dict[str, list[dict[str, Any]]]) -> None:
    """All at once: an interrupted run leaves a whole file."""
    part = RESULTS.with_suffix(".part")
    part.write_text(json.dumps(dict(sorted(results.items())), indent=1) + "\n")
    part.rename(RESULTS)


def write_tables(image: Image, results: dict[str, list[dict[str, Any]]]) -> None:
    """SCOREBOARD.md from the results."""
    versions = ", ".join(f"{killer.name} {killer.version(image)}" for killer in killers.ALL)
    lines = [
        "# Scoreboard of the VM lab",
        "",
        f"`{COMMAND}`, {today()}; guest: {MEMORY_MIB} MiB, 1 CPU, n = {RUNS}; median (min..max).",
    ]
    lines += [f"Host: {os.cpu_count()} CPUs, accelerator {find_accelerator(image)}."]
    lines += [f"Guest: Debian trixie, Linux {image.versions['kernel']}. Killers: {versions}.", ""]
    lines += [f"- {killer.name}: {killer.configured}" for killer in killers.ALL]
    for unit in results.get(cell_key("unit", "none", "oomd", killers.our_version()), []):
        lines += ["", f"`systemd-analyze security oomd.service`: {unit['figure'].strip()}"]
    lines += ["", _NOTE.format(tie=report.TIE_MS)]
    for scenario, swap in cells():
        rows = []
        for killer in killers.ALL:
            runs = results.get(cell_key(scenario, swap, killer.name, killer.version(image)))
            if runs:
                rows.append((killer.name, runs))
        if not rows:
            continue
        lines += [
            f"## {scenario}, swap {swap}",
            "",
            f"{scenarios.BY_NAME[scenario].about}.",
            "",
            report.table(rows),
            "",
        ]
        by_name = dict(rows)
        ours = by_name.pop("oomd", None)
        if ours and by_name:
            words = [
                f"{label}: {report.compare(ours, by_name, name)}"
                for name, label in (("stalled_ms", "database stalled"), ("low_to_memory_ms", "memory back"))
            ]
            lines += ["; ".join(words) + ".", ""]
    TABLES.write_text("\n".join(lines))

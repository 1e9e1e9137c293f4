"""How fast and how small oomd is beside others of its kind, and whether that is what was promised (``make bench``).

Writes RESULTS.md and results.json beside this file. OOMD_BENCH_SIZES=80,1000 and OOMD_BENCH_KILLS=12 make it shorter.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.bench.arena import ROOT, command, why_not
from tests.bench.race import SIZES
from tests.bench.results import goals, render, shown, verdict

if TYPE_CHECKING:
    from tests.bench.results import Goal

pytestmark = [pytest.mark.bench, pytest.mark.timeout(1500)]
HERE = Path(__file__).parent
LONGEST_S = 1200


@pytest.fixture(scope="module")
def figures(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """One run of everything; the namespace ends with it, whatever happens."""
    reason = why_not()
    if reason:
        pytest.skip(f"no namespace of our own: {reason}")
    path = tmp_path_factory.mktemp("race") / "figures.json"
    load = os.getloadavg()[0]
    subprocess.run(command("tests.bench.race", str(path)), timeout=LONGEST_S, check=True, cwd=ROOT)
    told: dict[str, Any] = json.loads(path.read_text("utf-8")) | {"load": round(load, 2)}
    (HERE / "results.json").write_text(json.dumps(told, indent=1, sort_keys=True) + "\n", "utf-8")
    (HERE / "RESULTS.md").write_text(render(told, SIZES), "utf-8")
    return told


@pytest.mark.parametrize("goal", goals(SIZES), ids=lambda goal: goal.what)
def test_promise(figures: dict[str, Any], goal: Goal) -> None:
    """It holds; else its figure is told."""
    met, measured, most = verdict(goal, figures)
    if met is None:
        pytest.skip(f"{goal.figure} was not measured")
    assert met, f"missed: {shown(measured, goal.unit)}, at most {shown(most, goal.unit)} were promised"

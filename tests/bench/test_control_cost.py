"""What the control socket's clients cost a kill: the measurement itself in short; figures and a million inputs in `make
bench`.
"""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.bench.control_cost import KINDS, measure, one_kill
from tests.lmkd.served import ROOT


@pytest.mark.integration
@pytest.mark.parametrize("kind", ["drip", "stopped"])
def test_measurement(kind: str) -> None:
    """The victim dies, whatever happens beside it; every process is ended."""
    assert one_kill(kind) > 0


@pytest.mark.bench
def test_a_kill_beside_rude_clients() -> None:
    """No client, and no fate of the outside process, makes a kill take twice as long as a busy process does."""
    figures = measure()
    print(figures)
    assert set(figures) == set(KINDS)
    reference = max(figures["quiet"]["median_ms"], figures["busy"]["median_ms"])
    assert all(each["median_ms"] < 2 * reference for each in figures.values()), figures


@pytest.mark.bench
@pytest.mark.timeout(5000)
def test_a_million_inputs() -> None:
    """Of each kind: no leak of descriptors or memory."""
    command = [sys.executable, "-m", "pytest", "-q", "-o", "timeout=5000", "tests/outside/test_fuzz.py"]
    environment = {**os.environ, "OOMD_FUZZ_LINES": "1000000"}
    assert subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode == 0

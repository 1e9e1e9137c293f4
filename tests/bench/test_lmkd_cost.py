"""lmkd's costs: the measurement itself in short, its figures and a million packets in `make bench`."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.bench.lmkd_cost import measure
from tests.lmkd.served import ROOT


@pytest.mark.integration
def test_measurement() -> None:
    """It registers, kills what it started, and has a figure for everything."""
    figures = measure(count=12, rounds=2, kills=1)
    assert all(figure > 0 for figure in figures.values()), figures


@pytest.mark.bench
def test_costs() -> None:
    """From the event to the Kill line with 500 registered processes: of the order of the original's 3 ms."""
    figures = measure()
    print(figures)
    assert figures["event_to_kill_ms"] < 10, figures


@pytest.mark.bench
def test_a_million_packets() -> None:
    """No leak of descriptors or memory."""
    command = [sys.executable, "-m", "pytest", "-q", "-s", "-o", "timeout=900", "tests/lmkd/test_fuzz.py"]
    environment = {**os.environ, "OOMD_FUZZ_PACKETS": "1000000"}
    assert subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode == 0

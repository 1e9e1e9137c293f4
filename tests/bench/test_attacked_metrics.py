"""Attacks on the metrics during a kill: the measurement itself in short, its figures in ``make bench``."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.bench.attacked_metrics import FLOOD, LORIS, QUIET, SCRAPED, STOPPED, WAYS, describe, play, summary

ROOT = Path(__file__).parents[2]


@pytest.mark.integration
def test_kills_go_on_and_scrapes_are_answered() -> None:
    """In every way the leaker dies with all its times, and beside each attack a scrape is answered."""
    (result,) = play(1)
    assert set(result) == set(WAYS)
    assert all(figures["to_memory_ms"] > 0 for figures in result.values())
    assert {way for way, figures in result.items() if "scrape_ms" in figures} == {SCRAPED, LORIS, FLOOD}
    assert len(describe(summary([result]))) == len(WAYS) + 2


def test_summary() -> None:
    """Medians with their spread."""
    results = [{way: {"to_signal_ms": base, "to_memory_ms": 2 * base} for way in WAYS} for base in (1.0, 9.0, 2.0)]
    found = summary(results)
    assert found[QUIET] == {"to_signal_ms": [2.0, 1.0, 9.0], "to_memory_ms": [4.0, 2.0, 18.0]}
    assert f"| {STOPPED} | 2.00 ms [1.00–9.00] | 4.00 ms [2.00–18.00] | – |" in describe(found)


@pytest.mark.bench
@pytest.mark.timeout(900)
def test_two_hundred_thousand_requests() -> None:
    """Torn, doubled and random: no leak of descriptors or memory."""
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-o",
        "timeout=800",
        "tests/outside/metrics/test_web.py",
        "-k",
        "fuzz",
    ]
    environment = {**os.environ, "OOMD_FUZZ_REQUESTS": "200000"}
    assert subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode == 0


@pytest.mark.bench
@pytest.mark.timeout(900)
def test_attacks_cost_a_kill_nothing() -> None:
    """The signal leaves as soon as ever, memory is back as soon, but for the CPU that attackers take themselves."""
    found = summary(play(11))
    print("\n".join(describe(found)))
    quiet = found[QUIET]
    for way in WAYS:
        assert found[way]["to_signal_ms"][0] < 2 * quiet["to_signal_ms"][0] + 1, way
        assert found[way]["to_memory_ms"][0] < 3 * quiet["to_memory_ms"][0] + 10, way

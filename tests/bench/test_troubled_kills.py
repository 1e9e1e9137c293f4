"""Trouble during a kill: the measurement itself in short; its figures, and inputs by the million, in ``make bench``."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.bench.troubled_kills import SCRAPE, TO_END, TO_MEMORY, TO_SIGNAL, describe, summary, too_slow
from tests.bench.troubles import BUSY, BY_NAME, QUIET, TROUBLES, WAIT_MS

ROOT = Path(__file__).parents[2]
COMMAND = [sys.executable, "-m", "tests.bench.troubled_kills"]
IN_SHORT = (
    "metrics: flood by four clients",
    "control: slow loris, 24 connections",
    "journald stopped",
    "the message bus gone",
    "the outside process killed",
    f"a hook that hangs (deadline {WAIT_MS} ms); SIGTERM",
)


def measured(*words: str) -> dict[str, dict[str, list[float]]]:
    """What the command prints."""
    if os.geteuid() != 0:
        pytest.skip("needs root, for a mount namespace")
    done = subprocess.run([*COMMAND, "--json", *words], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


@pytest.mark.integration
def test_kills_go_on() -> None:
    """Each of these troubles was there (the measurement makes sure of it), and the victim died all the same."""
    found = measured("--rounds", "1", *(word for name in IN_SHORT for word in ("--only", name)))
    assert tuple(found) == IN_SHORT
    assert all(figures[TO_END][0] > 0 for figures in found.values())
    assert found["the outside process killed"].keys() == {TO_END}
    assert found[IN_SHORT[0]][SCRAPE][0] > 0
    assert found[IN_SHORT[-1]][TO_END][0] >= WAIT_MS


def test_every_trouble_of_its_own() -> None:
    """No name twice; somebody else takes the processor as well."""
    assert len(BY_NAME) == len(TROUBLES)
    assert {QUIET.name, BUSY.name, *IN_SHORT} <= BY_NAME.keys()


def test_summary_and_table() -> None:
    """Medians with their spread; what nobody told is a dash."""
    kills = [{TO_END: 10 * base, TO_SIGNAL: base, TO_MEMORY: 5 * base} for base in (1.0, 9.0, 2.0)]
    found = summary(kills)
    assert found == {TO_END: [20.0, 10.0, 90.0], TO_SIGNAL: [2.0, 1.0, 9.0], TO_MEMORY: [10.0, 5.0, 45.0]}
    head, line, row = describe({"x": found})
    assert head.count("|") == line.count("|") == row.count("|") == 6
    assert row == "| x | 20 [10–90] | 2.00 [1.00–9.00] | 10 [5–45] | – |"


def test_verdict() -> None:
    """A hook's deadline is granted; anything else that takes twice as long is named."""
    usual = {TO_END: [50.0] * 3, TO_SIGNAL: [2.0] * 3}
    waiting = {TO_END: [100.0 + WAIT_MS] * 3, TO_SIGNAL: [5.0] * 3}
    found = {QUIET.name: usual, BUSY.name: usual, IN_SHORT[-1]: waiting}
    assert too_slow(found) == []
    assert too_slow({**found, IN_SHORT[0]: {TO_END: [101.0] * 3}}) == [f"{IN_SHORT[0]}: end after 101.0 ms"]
    assert too_slow({**found, IN_SHORT[0]: {TO_END: [1.0] * 3, TO_SIGNAL: [5.1] * 3}}) == [
        f"{IN_SHORT[0]}: signal after 5.1 ms"
    ]


@pytest.mark.bench
@pytest.mark.timeout(1200)
def test_trouble_costs_a_kill_nothing() -> None:
    """The table of the README."""
    found = measured()
    print("\n".join(describe(found)))
    assert too_slow(found) == []


@pytest.mark.bench
@pytest.mark.timeout(5000)
@pytest.mark.parametrize(
    ("path", "variable", "count"),
    [
        ("tests/outside/metrics/test_web.py", "OOMD_FUZZ_REQUESTS", 200_000),
        ("tests/outside/test_fuzz.py", "OOMD_FUZZ_LINES", 1_000_000),
        ("tests/test_fuzz_parsers.py", "OOMD_FUZZ_LINES", 100_000),
    ],
)
def test_inputs_by_the_hundred_thousand(path: str, variable: str, count: int) -> None:
    """Of each kind: no leak of descriptors or memory."""
    command = [sys.executable, "-m", "pytest", "-q", "-o", "timeout=5000", path, "-k", "fuzz or any"]
    environment = {**os.environ, variable: str(count)}
    assert subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode == 0

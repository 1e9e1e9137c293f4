"""What oomd promises of its reaper, measured on this machine (``make bench``). It takes a quiet machine, root for the
real-time classes, and 8 GiB; times are compared within one run, with a plain SIGKILL of an unhindered victim.
"""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import pytest

from tests.bench.test_bench import ENV, bench

pytestmark = [pytest.mark.bench, pytest.mark.timeout(1500)]
ROOT = Path(__file__).parents[2]
RUNS = "5"
RUNS_ON_A_PAR = "15"
"""Where no more can be reached than is to be: the victim frees its memory itself, as the one that it is compared with
does, and the median of five runs is off by a tenth either way on a virtual machine whose host is busy."""
FORBID = [sys.executable, str(ROOT / "tests/integration/forbid.py"), "process_mrelease", "ENOSYS"]
GATES = [
    ("running", "mrelease", 0.62, None),
    ("busy", "mrelease", 0.62, None),
    ("stopped", "mrelease", 0.62, None),
    ("starved", "mrelease", 0.60, 0.9),
    ("frozen", "mrelease", 0.65, 0.9),
]
"""Victim, backend, the median of 95 % back as a share of the reference, and the most that any run may take."""
RACES = 300
"""Of 100 six may be late by chance where three in a hundred are."""
VICTIMS = ("running", "busy", "stopped", "starved", "frozen", "throttled")


def options(*victims: str) -> list[str]:
    """Of a bench with these victims."""
    return [word for victim in victims for word in ("--victim", victim)]


@pytest.fixture(scope="module")
def measured() -> dict[str, Any]:
    """One interleaved run of all victims with all backends."""
    words = ["--size", "4GiB", "--backend", "all", "--repeat", RUNS, "--json", *options(*VICTIMS)]
    argv = [sys.executable, "-m", "oomd", "bench", "reap", *words]
    done = subprocess.run(argv, stdout=subprocess.PIPE, text=True, timeout=1400, check=True, env=ENV)
    told: dict[str, Any] = json.loads(done.stdout)
    for row in told["summary"]:
        print(row)
    return told


def row_of(told: dict[str, Any], victim: str, backend: str) -> dict[str, Any]:
    """The summary's row; a victim that could not be staged is skipped, with the reason."""
    for skipped in told["skipped"]:
        if skipped["victim"] == victim:
            pytest.skip(f"{victim} was not measured: {skipped['reason']}")  # -ra lists it at the end
    (row,) = (row for row in told["summary"] if (row["victim"], row["backend"]) == (victim, backend))
    return dict(row)


def holds(told: dict[str, Any], victim: str, backend: str, most: float, most_of_any: float | None) -> None:
    """The gate."""
    row = row_of(told, victim, backend)
    reference = row_of(told, "running", "plain")["t95_ms_median"]
    assert row["never"] == 0, row
    assert row["ratio_to_plain_running"] <= most, row
    assert most_of_any is None or row["t95_ms_max"] <= most_of_any * reference, (row, reference)


@pytest.mark.parametrize(("victim", "backend", "most", "most_of_any"), GATES)
def test_memory_is_back(
    measured: dict[str, Any], victim: str, backend: str, most: float, most_of_any: float | None
) -> None:
    """95 % of a 4 GiB victim within its share of the time that a plain kill of an unhindered one takes."""
    holds(measured, victim, backend, most, most_of_any)


def test_throttled_victim(measured: dict[str, Any]) -> None:
    """It comes back at all; how near to 0.7 depends on when the kernel lets a throttled thread go (README)."""
    row = row_of(measured, "throttled", "mrelease")
    assert row["never"] == 0, row
    assert row["ratio_to_plain_running"] <= 1.0, row


@pytest.mark.parametrize("victim", ["starved", "frozen"])
def test_expedite_without_mrelease(victim: str) -> None:
    """On a kernel without process_mrelease the simulation alone is no slower than an unhindered victim's own end."""
    words = ["--size", "4GiB", "--backend", "expedite", "--repeat", RUNS_ON_A_PAR, "--json", *options(victim)]
    argv = [*FORBID, sys.executable, "-m", "oomd", "bench", "reap", *words]
    done = subprocess.run(argv, stdout=subprocess.PIPE, text=True, timeout=600, check=True, env=ENV)
    told = json.loads(done.stdout)
    print(told["summary"])
    holds(told, victim, "expedite", 1.0, 1.4)


def test_a_hundred_processes() -> None:
    """100 processes of 20 MiB in one group are back no later than after a plain kill of all of them."""
    words = ["--size", "2000MiB", "--backend", "plain", "--backend", "mrelease", "--repeat", RUNS, *options("many")]
    told = json.loads(bench(*words, "--json").stdout)
    print(told["summary"])
    ours, plain = (row_of(told, "many", backend)["t95_ms_median"] for backend in ("mrelease", "plain"))
    assert ours <= plain, (ours, plain)


WAYS = ("foreseen", "ordinary")
"""What the loop has foreseen, and what it decides in the moment."""


def latency(kills: int, mib: int, way: str) -> dict[str, Any]:
    """Kills while another Python thread is busy."""
    argv = [sys.executable, str(Path(__file__).with_name("kill_latency.py")), str(kills), str(mib), way]
    done = subprocess.run(argv, stdout=subprocess.PIPE, text=True, timeout=600, check=True, env=ENV)
    return dict(json.loads(done.stdout))


@pytest.mark.parametrize("way", WAYS)
def test_small_victims_do_not_win_the_race(way: str) -> None:
    """As root at most 5 % of the reaps of 32 MiB victims come too late (ESRCH)."""
    told = latency(RACES, 32, way)
    if not told["realtime"]:
        pytest.skip("not permitted to be real-time: the race is lost more often")
    late = told["errnos"].count(errno.ESRCH)
    print(f"{way}: ESRCH {late} of {RACES}")
    assert set(told["errnos"]) <= {0, errno.ESRCH}
    assert late <= RACES * 0.05, late


@pytest.mark.parametrize("way", [*WAYS, "hindered"])
def test_from_decision_to_signal(way: str) -> None:
    """200 µs at the median and 1 ms at p99 over 1000 kills, while another Python thread is busy."""
    waits = sorted(latency(1000, 0, way)["waits_us"])
    p99 = quantiles(waits, n=100)[98]
    print(f"{way}: median {median(waits)} µs, p99 {p99} µs, max {waits[-1]} µs on {os.cpu_count()} CPUs")
    assert median(waits) <= 200
    assert p99 <= 1000

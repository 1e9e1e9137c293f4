"""What attacks on the metrics cost a kill: ``python -m tests.bench.attacked_metrics [--rounds 15] [--json]``.

One daemon guards a tree of its own and serves metrics. Round by round something leaks there and is killed: while nobody
asks, while a scraper asks every second, beside a slow loris (200 connections that drip), beside a flood (four clients
that ask as fast as they are answered), and while the outside process is stopped. The daemon's own times of each kill
are compared; beside the attacks a scrape is tried as well.
"""

from __future__ import annotations

import argparse
import json
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from oomd.config.addresses import Address
from tests.integration.test_metrics import scrape
from tests.integration.test_run import daemon, hear, lives, outside_of, tell, tree, wait_until
from tests.outside.metrics.serving import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tests.integration.harness import Guarded

ATTACKER = Path(__file__).with_name("attacker.py")
QUIET, SCRAPED, LORIS, FLOOD, STOPPED = "quiet", "scraped", "slow loris", "flood", "outside stopped"
WAYS = (QUIET, SCRAPED, LORIS, FLOOD, STOPPED)
ATTACKS = {LORIS: "loris", FLOOD: "flood"}


@contextmanager
def way_of(way: str, run: Guarded, address: Address) -> Iterator[None]:
    """The world around a kill."""
    if way == STOPPED:
        outside = outside_of(run)
        outside.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            outside.send_signal(signal.SIGCONT)
    elif way in ATTACKS:
        argv = [sys.executable, str(ATTACKER), ATTACKS[way], str(address)]
        with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as attacker:
            assert attacker.stdout is not None
            attacker.stdout.readline()
            try:
                yield
            finally:
                attacker.communicate()
    else:
        yield


def measure(way: str, run: Guarded, root: Any, address: Address, identity: int) -> dict[str, float]:
    """One kill: from the wake-up to the signal and from the signal until memory is back, milliseconds; and how long a
    scrape took meanwhile, where one was tried.
    """
    figures: dict[str, float] = {}
    with way_of(way, run, address):
        tell(root, "leak leaker 400")
        leaker = int(hear(root, "leaking").split()[2])
        if way not in (QUIET, STOPPED):
            before = time.monotonic()
            with urllib.request.urlopen(f"http://{address}/metrics", timeout=20) as answer:
                assert b"oomd_killer_up 1.0" in answer.read()
            figures["scrape_ms"] = (time.monotonic() - before) * 1000
        wait_until("it is dead", lambda: not lives(leaker))
        if way != STOPPED:  # then nothing is told meanwhile
            run.wait_event("outcome", lambda event: int(event["id"]) >= identity)
    outcome = run.wait_event("outcome", lambda event: int(event["id"]) >= identity)
    decision = run.wait_event("decision", lambda event: event["id"] == outcome["id"])
    signalled_us = decision["times"]["signalled_us"] or outcome["signalled_us"]
    figures["to_signal_ms"] = (signalled_us - decision["times"]["wake_us"]) / 1000
    figures["to_memory_ms"] = (outcome["signal_to_memory_us"] or outcome["signal_to_death_us"]) / 1000
    return figures


def play(rounds: int) -> list[dict[str, dict[str, float]]]:
    """All ways, round by round."""
    results = []
    address = Address("127.0.0.1", free_port())
    with (
        tempfile.TemporaryDirectory() as folder,
        tree() as root,
        daemon(root, Path(folder), "--metrics-listen", str(address)) as run,
    ):
        run.wait_event("start")
        wait_until("it is served", lambda: bool(scrape(address)))
        for _ in range(rounds):
            result = {}
            for way in WAYS:
                known = max((int(event["id"]) for event in run.of("decision")), default=0)
                result[way] = measure(way, run, root, address, known + 1)
            results.append(result)
    return results


def summary(results: Sequence[dict[str, dict[str, float]]]) -> dict[str, dict[str, list[float]]]:
    """Median, least and most of each figure, by way."""
    found: dict[str, dict[str, list[float]]] = {}
    for way in WAYS:
        names = results[0][way]
        columns = {name: [result[way][name] for result in results] for name in names}
        found[way] = {name: [statistics.median(each), min(each), max(each)] for name, each in columns.items()}
    return found


def describe(found: dict[str, dict[str, list[float]]]) -> list[str]:
    """The rows of a table."""
    lines = ["| | wake-up → signal | signal → memory back | a scrape meanwhile |", "|---|---|---|---|"]
    for way, figures in found.items():
        cells = [
            "–" if name not in figures else "{:.2f} ms [{:.2f}–{:.2f}]".format(*figures[name])
            for name in ("to_signal_ms", "to_memory_ms", "scrape_ms")
        ]
        lines.append(f"| {way} | {' | '.join(cells)} |")
    return lines


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    found = summary(play(arguments.rounds))
    print(json.dumps(found) if arguments.json else "\n".join(describe(found)))


if __name__ == "__main__":
    main()

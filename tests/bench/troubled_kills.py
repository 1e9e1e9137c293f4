"""What trouble costs a kill: attacks on metrics and control, hooks that hang, a bus or a journald that is stopped or
gone, the outside process stopped or killed; each during a kill, in turns with kills beside which nothing happens.

``python -m tests.bench.troubled_kills [--rounds 5] [--only NAME]… [--json]``, as root: it goes on in a mount namespace
of its own with a journald and a message bus of its own. Each kill is by a daemon of its own, which guards a tree of
ours.
"""

from __future__ import annotations

import argparse
import json
import os
import select
import signal
import statistics
import tempfile
import threading
import time
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from oomd.config.addresses import Address
from tests.bench import surroundings
from tests.bench.troubles import BUSY, BY_NAME, QUIET, TROUBLES, Stage, Trouble, lay_hook
from tests.integration.test_metrics import scrape
from tests.integration.test_run import daemon, hear, tell, tree, wait_until
from tests.outside.metrics.serving import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

SETTLE_S = 0.5
"""The loop looks often by then, because the limit is near."""
PATIENCE_S = 30.0
VICTIM_MIB = 185
TO_END, TO_SIGNAL, TO_MEMORY, SCRAPE = "to_end_ms", "to_signal_ms", "to_memory_ms", "scrape_ms"
COLUMNS = {
    TO_END: "over the limit → end, seen from outside",
    TO_SIGNAL: "wake-up → signal",
    TO_MEMORY: "signal → memory back",
    SCRAPE: "a scrape meanwhile",
}
Figures = dict[str, float]


def one_kill(trouble: Trouble) -> Figures:
    """Milliseconds, by column."""
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder, address = Path(name), Address("127.0.0.1", free_port())
        journald = surroundings.Journald() if trouble.journal else None
        if journald is not None:
            stack.callback(journald.close)
        bus = stack.enter_context(surroundings.user_bus(folder)) if trouble.bus else None
        config = folder / "oomd.yaml"
        told = "tell: {desktop: true, low_memory_monitor: on}\n" if trouble.bus else ""
        config.write_text(trouble.config + told, encoding="utf-8")
        root = stack.enter_context(tree())
        options = ["--config", str(config), "--metrics-listen", str(address)]
        options += ["--log-format", "journal"] if trouble.journal else []
        run = stack.enter_context(daemon(root, folder, *options))
        wait_until("it serves", lambda: (folder / "run" / "control.sock").exists() and bool(scrape(address)))
        stage = Stage(folder, run, str(address), bus, journald)
        with nullcontext() if trouble.sudden else trouble.beside(stage), _brimful(root, trouble) as pidfd:
            time.sleep(SETTLE_S)
            with trouble.beside(stage) if trouble.sudden else nullcontext():
                figures = _overfill(pidfd, address, trouble)
        trouble.proof(run)
        if journald is not None:
            wait_until("it is in the journal", lambda: journald.entries("decision") == 1)
        return figures if trouble.untold else figures | _own_times(address)


@contextmanager
def _brimful(root: Any, trouble: Trouble) -> Iterator[int]:
    """A victim that takes too much when it is told to, as a pidfd."""
    tell(root, f"brim victim {VICTIM_MIB} {trouble.more_mib}")
    pidfd = os.pidfd_open(int(hear(root, "brimful").split()[2]))
    try:
        yield pidfd
    finally:
        os.close(pidfd)


def _overfill(pidfd: int, address: Address, trouble: Trouble) -> Figures:
    """From the moment at which it does to its end; and how long a scrape took that began then."""
    scrapes: list[float] = []

    def ask() -> None:
        before = time.perf_counter()
        if scrape(address).get("oomd_killer_up{}") == 1:
            scrapes.append(1000 * (time.perf_counter() - before))

    asking = threading.Thread(target=ask)
    begin = time.perf_counter()
    signal.pidfd_send_signal(pidfd, signal.SIGUSR1)
    if trouble.scraped:
        asking.start()
    dead, _, _ = select.select([pidfd], [], [], PATIENCE_S)
    figures = {TO_END: 1000 * (time.perf_counter() - begin)}
    assert dead, f"{trouble.name}: the victim lives after {PATIENCE_S} s"
    if trouble.scraped:
        asking.join()
        (figures[SCRAPE],) = scrapes
    return figures


def _own_times(address: Address) -> Figures:
    """By oomd's own clock, of its only kill: as its metrics tell, once they do."""
    names = {TO_SIGNAL: "oomd_detection_to_signal_seconds", TO_MEMORY: "oomd_signal_to_memory_seconds"}
    figures: Figures = {}

    def told() -> bool:
        found = scrape(address)
        for column, name in names.items():
            sums = {key: value for key, value in found.items() if key.startswith(f"{name}_sum{{")}
            if sum(found[key.replace("_sum{", "_count{")] for key in sums) == 1:
                figures[column] = 1000 * sum(sums.values())
        return figures.keys() == names.keys()

    wait_until("it has told of its kill", told)
    return figures


def measure(rounds: int, troubles: Sequence[Trouble] = TROUBLES) -> dict[str, dict[str, list[float]]]:
    """Median, least and most of each column by trouble; all of them in turns, so that a noisy minute is everybody's."""
    taken: dict[str, list[Figures]] = {trouble.name: [] for trouble in troubles}
    for _ in range(rounds):
        for trouble in troubles:
            taken[trouble.name].append(one_kill(trouble))
    return {name: summary(kills) for name, kills in taken.items()}


def summary(kills: Sequence[Figures]) -> dict[str, list[float]]:
    """Median, least and most of each column."""
    columns = {name: [kill[name] for kill in kills] for name in COLUMNS if name in kills[0]}
    return {
        name: [round(each, 2) for each in (statistics.median(of), min(of), max(of))] for name, of in columns.items()
    }


def describe(found: dict[str, dict[str, list[float]]]) -> list[str]:
    """The rows of a table."""
    lines = [f"| meanwhile | {' | '.join(f'{each}, ms' for each in COLUMNS.values())} |", "|---|---|---|---|---|"]
    for name, figures in found.items():
        cells = ["–" if each not in figures else _cell(*figures[each], exact=each == TO_SIGNAL) for each in COLUMNS]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines


def _cell(median: float, least: float, most: float, *, exact: bool) -> str:
    digits = 2 if exact else 0
    return f"{median:.{digits}f} [{least:.{digits}f}–{most:.{digits}f}]"


def too_slow(found: dict[str, dict[str, list[float]]]) -> list[str]:
    """Which trouble costs a kill something. The signal leaves as soon as ever; the end comes as soon, but for the
    processor time that attackers take themselves (a process that only computes takes as much) and hooks' deadlines.
    """
    quiet, busy = found[QUIET.name], found[BUSY.name]
    slow = []
    for name, figures in found.items():
        end_ms = 2 * max(quiet[TO_END][0], busy[TO_END][0]) + BY_NAME[name].waits_ms
        if figures[TO_END][0] > end_ms:
            slow.append(f"{name}: end after {figures[TO_END][0]} ms")
        if TO_SIGNAL in figures and figures[TO_SIGNAL][0] > 2 * quiet[TO_SIGNAL][0] + 1:
            slow.append(f"{name}: signal after {figures[TO_SIGNAL][0]} ms")
    return slow


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", action="append", choices=BY_NAME, metavar="NAME")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    surroundings.enter()
    lay_hook()
    found = measure(arguments.rounds, [BY_NAME[name] for name in arguments.only or BY_NAME])
    print(json.dumps(found) if arguments.json else "\n".join(describe(found)))


if __name__ == "__main__":
    main()

"""``oomd bench reap``: how fast does the memory of a killed process come back on this machine? Victims are processes of
our own; nobody else is touched.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import threading

from oomd.bench import figures
from oomd.bench.conduct import conduct
from oomd.bench.guardian import Guardian, GuardianLostError
from oomd.bench.killers import BACKENDS
from oomd.bench.stages import ABOUT, KINDS
from oomd.commands.options import complain
from oomd.image import STACK_BYTES, SWITCH_INTERVAL_S
from oomd.kernel.meminfo import parse_meminfo
from oomd.kernel.sched import LOOP_PRIORITY, be_realtime
from oomd.model.scope import ScopeError
from oomd.model.units import GIB, MIB, UnitError, format_size, parse_size

DEFAULT_VICTIMS = ("running", "stopped", "starved", "frozen")
SMALLEST = 16 * MIB


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the command."""
    parser = subparsers.add_parser("bench", help="measure this machine", description=__doc__)
    inner = parser.add_subparsers(dest="what", required=True, metavar="WHAT")
    reap = inner.add_parser(
        "reap",
        help="how fast memory comes back after a kill",
        description=__doc__,
        epilog="Victims: " + "; ".join(f"{name}: {about}" for name, about in ABOUT.items()),
    )
    reap.add_argument("--size", default="2GiB", metavar="SIZE", help="memory of each victim (2GiB)")
    reap.add_argument("--victim", action="append", choices=(*KINDS, "all"), help="repeatable; default: some of them")
    reap.add_argument("--backend", action="append", choices=(*BACKENDS, "all"), help="repeatable; default: all")
    reap.add_argument("--repeat", type=_count, default=3, metavar="N", help="runs of each victim and backend (3)")
    reap.add_argument("--json", action="store_true", help="print one JSON document")
    reap.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """0: measured; 1: the guardian was lost; 2: bad options."""
    try:
        size = parse_size(arguments.size)
    except UnitError as error:
        return complain(f"--size: {error}")
    with open("/proc/meminfo", "rb") as file:
        available = parse_meminfo(file.read()).mem_available_bytes
    if not SMALLEST <= size <= available // 2:
        return complain(
            f"--size {arguments.size}: should be between {format_size(SMALLEST)} and half of the available memory, "
            f"{format_size(available // 2)}"
        )
    victims = _chosen(arguments.victim, KINDS, DEFAULT_VICTIMS)
    backends = _chosen(arguments.backend, BACKENDS, BACKENDS)
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    threading.stack_size(STACK_BYTES)
    guardian = Guardian()
    realtime = _be_realtime()
    try:
        findings = conduct(
            victims, backends, size_bytes=size, repeat=arguments.repeat, guardian=guardian, tell=_tell_error
        )
    except ScopeError as error:
        return complain(str(error))
    except GuardianLostError as error:
        _tell_error(f"oomd: {error}")
        return 1
    finally:
        _be_ordinary(realtime=realtime)
        guardian.close()
    if findings.made_again or findings.kept:
        _tell_error(
            f"somebody else moved memory or kept the CPUs busy: {findings.made_again} runs were made again, "
            f"{findings.kept} disturbed ones count"
        )
    if arguments.json:
        print(json.dumps(figures.document(size, findings.runs, findings.skipped)))
        return 0
    _print_table(size, figures.summarize(findings.runs))
    for skipped in findings.skipped:
        print(f"{skipped['victim']}: skipped: {skipped['reason']}")
    _print_reserve(size, figures.summarize(findings.runs), findings.fill_rates)
    return 0


def _chosen(given: list[str] | None, known: tuple[str, ...], default: tuple[str, ...]) -> tuple[str, ...]:
    if given is None:
        return default
    return known if "all" in given else tuple(dict.fromkeys(given))


def _count(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= 1000:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number between 1 and 1000")
    return int(text)


def _be_realtime() -> bool:
    """As the daemon does: what it measures is the daemon's way to a kill. Victims do not inherit it."""
    if be_realtime(LOOP_PRIORITY):
        return True
    print("not permitted to be real-time: times are longer than those of the service", file=sys.stderr)
    return False


def _be_ordinary(*, realtime: bool) -> None:
    if realtime:
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


def _tell_error(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _print_table(size: int, rows: list[figures.Row]) -> None:
    print(
        f"Victims of {format_size(size)}; milliseconds from the signal until 95 % of what they held are free.\n"
        "A plain kill of a running victim, which nothing hinders, is always measured: the others are compared with it."
    )
    print(f"{'victim':<10} {'backend':<9} {'n':>3} {'median':>8} {'max':>8} {'never':>5} {'to plain running':>17}")
    for row in rows:
        middle, most = ("-" if value is None else f"{value:.1f}" for value in (row.t95_ms_median, row.t95_ms_max))
        ratio = "-" if row.ratio_to_plain_running is None else f"{row.ratio_to_plain_running:.2f}"
        print(f"{row.victim:<10} {row.backend:<9} {row.n:>3} {middle:>8} {most:>8} {row.never:>5} {ratio:>17}")


def _print_reserve(size: int, rows: list[figures.Row], rates: list[float]) -> None:
    """What this machine should have free when a kill begins."""
    if not rates:
        return
    rate = max(rates)
    print(
        f"One process takes fresh memory at {rate / GIB:.1f} GiB/s here. To kill {format_size(size)} in time, reserve:"
    )
    for backend in dict.fromkeys(row.backend for row in rows):
        own = [row for row in rows if row.backend == backend]
        if any(row.never for row in own):
            late = ", ".join(row.victim for row in own if row.never)
            print(f"  {backend}: no reserve is enough ({late} did not give it back in time)")
            continue
        worst = max(own, key=lambda row: row.t95_ms_max or 0.0)
        amount = format_size(figures.reserve_bytes(rate, worst.t95_ms_max or 0.0))
        print(f"  {backend}: {amount} (worst: {worst.victim}, {worst.t95_ms_max:.0f} ms)")

"""What hastening every exit costs a killall of thousands of small processes, the objection of 2019 to doing it always:
``python -m tests.bench.killall_cost [--processes 2000] [--rounds 10] [--json]`` (root, with tracefs).

Interleaved rounds without oomd, with oomd and ``every_exit: off``, and with oomd and ``every_exit: always``. Each round
starts the processes, kills them all in one loop, and waits until the last is dead. Printed are the time until all are
dead and the time of each kill() call: the median over the rounds with the least and the most, and ratios to both others
(the median of the ratios of each round, so that a machine that drifts does harm to none of them).
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from oomd.kernel.tracefs import why_not_traced
from oomd.kill.exits import WORTH_BYTES
from tests.integration.harness import Guarded
from tests.kill.parked import parked

if TYPE_CHECKING:
    from collections.abc import Sequence

WITHOUT, OFF, ALWAYS = "without oomd", "every_exit: off", "every_exit: always"
WAYS = (WITHOUT, OFF, ALWAYS)
LONGEST_S = "300"


def start(number: int) -> list[int]:
    """Pids of sleeping processes of our own, of about 1 MiB each."""
    return [os.posix_spawn("/bin/sleep", ["sleep", LONGEST_S], os.environ) for _ in range(number)]


def kill_all(pids: Sequence[int]) -> tuple[float, list[float]]:
    """Milliseconds until all are dead and taken note of, and microseconds of each kill() call."""
    calls = []
    begin = before = time.perf_counter_ns()
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
        after = time.perf_counter_ns()
        calls.append((after - before) / 1000)
        before = after
    for pid in pids:
        os.waitpid(pid, 0)
    return (time.perf_counter_ns() - begin) / 1_000_000, calls


def measure(way: str, number: int, folder: Path) -> dict[str, float]:
    """One round in one way."""
    pids = start(number)
    if way == WITHOUT:
        return figures(*kill_all(pids))
    config = folder / "oomd.yaml"
    config.write_text(f"reap: {{{way}}}\n", encoding="utf-8")
    argv = [sys.executable, "-m", "oomd", "run", "--config", str(config), "--scope", f"tree:{os.getpid()}"]
    with Guarded([*argv, "--runtime-dir", str(folder / "run"), "--log-format", "json"]) as run:
        run.wait_event("start")
        before = cpu_ms(run.process.pid)
        measured = figures(*kill_all(pids))
        if way == ALWAYS:
            wait_for_the_rest(run)
        measured["oomd_cpu_ms"] = cpu_ms(run.process.pid) - before
        run.process.send_signal(signal.SIGTERM)
        run.wait_end()
        counters = run.of("stop")[0]["counters"]
    if way == ALWAYS:
        told = counters["sigkills seen"] + counters["sigkills lost"]
        assert told >= number, f"the trace told of {told} of {number} SIGKILLs: nothing was measured"
        measured["lost"] = counters["sigkills lost"]
    return measured


def wait_for_the_rest(run: Guarded) -> None:
    """Until oomd has read all of the trace: it comes in the order of time, and a victim that is held is its mark."""
    with parked(2 * WORTH_BYTES >> 20) as mark:
        os.kill(mark.pid, signal.SIGKILL)
        run.wait_event("hastened", lambda event: bool(event["pid"] == mark.pid))


def cpu_ms(pid: int) -> float:
    """Processor time of the killer so far."""
    times = psutil.Process(pid).cpu_times()
    return 1000 * (times.user + times.system)


def figures(total_ms: float, calls_us: list[float]) -> dict[str, float]:
    """Of one round."""
    calls_us.sort()
    return {
        "all_dead_ms": total_ms,
        "kill_us_median": statistics.median(calls_us),
        "kill_us_p99": calls_us[len(calls_us) * 99 // 100],
        "kill_us_max": calls_us[-1],
    }


def summary(rounds: list[dict[str, dict[str, float]]]) -> dict[str, Any]:
    """Median, least and most over the rounds, and the median ratios."""
    result: dict[str, Any] = {"ways": {}, "ratios": {}}
    for way in WAYS:
        result["ways"][way] = {}
        for name in ("all_dead_ms", "kill_us_median", "kill_us_p99", "kill_us_max"):
            values = [each[way][name] for each in rounds]
            result["ways"][way][name] = [statistics.median(values), min(values), max(values)]
    for other in (WITHOUT, OFF):
        result["ratios"][other] = {
            name: statistics.median(each[ALWAYS][name] / each[other][name] for each in rounds)
            for name in ("all_dead_ms", "kill_us_median", "kill_us_p99")
        }
    for way in (OFF, ALWAYS):
        values = [each[way]["oomd_cpu_ms"] for each in rounds]
        result["ways"][way]["oomd_cpu_ms"] = [statistics.median(values), min(values), max(values)]
    result["lost"] = [each[ALWAYS]["lost"] for each in rounds]
    return result


def describe(result: dict[str, Any]) -> list[str]:
    """As lines."""
    lines = []
    for way, values in result["ways"].items():
        words = [f"{name} {median:.1f} [{least:.1f}-{most:.1f}]" for name, (median, least, most) in values.items()]
        lines.append(f"{way:20} {', '.join(words)}")
    for other, values in result["ratios"].items():
        words = [f"{name} {ratio:.2f}" for name, ratio in values.items()]
        lines.append(f"always to {other}: {', '.join(words)}")
    lines.append(f"SIGKILLs that the kernel overwrote before they were read: {result['lost']}")
    return lines


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--processes", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    lost = why_not_traced()
    if lost:
        print(f"SIGKILLs cannot be traced: {lost}", file=sys.stderr)
        return 1
    rounds: list[dict[str, dict[str, float]]] = []
    with tempfile.TemporaryDirectory() as folder:
        for number in range(arguments.rounds):
            order = WAYS[number % 3 :] + WAYS[: number % 3]  # none is always the first
            rounds.append({way: measure(way, arguments.processes, Path(folder)) for way in order})
    result = summary(rounds)
    print(json.dumps(result) if arguments.json else "\n".join(describe(result)))
    return 0


if __name__ == "__main__":
    sys.exit(main())

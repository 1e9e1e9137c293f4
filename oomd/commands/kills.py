"""``oomd kills``: who was killed, why, and what came back."""

from __future__ import annotations

import json
import time
from datetime import datetime
from typing import TYPE_CHECKING

from oomd.commands.client import DONE, Failure, add_runtime_dir, daemon, fail
from oomd.commands.options import complain
from oomd.config.problems import printable
from oomd.model.units import SECOND_US, UnitError, format_duration, format_size, parse_duration

if TYPE_CHECKING:
    import argparse

    from oomd.model.report import Plain

USUAL = 20


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the command."""
    parser = subparsers.add_parser("kills", help="the last kills, with reasons and results", description=__doc__)
    parser.add_argument(
        "--since", metavar="WHEN", help="a duration (2h), a time (2026-01-31T14:00, 14:00) or seconds since 1970 (@…)"
    )
    parser.add_argument("-n", dest="most", metavar="N", help=f"so many at most (default: {USUAL}; with --since all)")
    parser.add_argument("--json", action="store_true", help="print one JSON object per kill")
    add_runtime_dir(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Print them, oldest first."""
    parameters: Plain = {} if arguments.since else {"most": USUAL}
    try:
        if arguments.since:
            parameters["since"] = parse_since(arguments.since, time.time())
        if arguments.most is not None:
            parameters["most"] = _parse_number(arguments.most)
    except ValueError as error:
        return complain(f"kills: {error}")
    try:
        with daemon(arguments.runtime_dir) as there:
            answer = there.must("kills", **parameters)
    except Failure as failure:
        return fail(failure)
    for kill in answer["kills"]:
        print(json.dumps(kill) if arguments.json else "\n".join(describe(kill)))
    if not arguments.json:
        print(_summary(answer))
    return DONE


def describe(kill: Plain) -> list[str]:
    """One kill for people: when and whom, what came of it, why."""
    stamp = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(kill["time"]))
    victim = kill["victim"]
    who = f"{victim.get('comm', '?')} ({victim.get('pid', '?')})"
    if victim.get("kind", "process") != "process":
        who = f"{victim['kind']} {victim['name']} ({kill['processes']} processes, the largest {who})"
    signal = "SIGTERM" if kill["action"] == "term" else "SIGKILL"
    lines = [f"{stamp}  #{kill['id']} {'would send ' if kill['dry_run'] else ''}{signal} to {who}: {_result(kill)}"]
    lines.append(f"    {kill['reason']}")
    lines += [f"    then SIGKILL: {step['why']}" for step in kill["escalations"]]
    return [printable(line) for line in lines]


def parse_since(text: str, now: float) -> float:
    """Seconds since 1970. Raises ValueError."""
    if text.startswith("@") and text[1:].isascii() and text[1:].isdigit() and len(text) < 13:
        return float(text[1:])
    try:
        return now - parse_duration(text) / SECOND_US
    except UnitError:
        pass
    today = "" if "-" in text else f"{time.strftime('%Y-%m-%d', time.localtime(now))}T"
    try:
        return datetime.fromisoformat(f"{today}{text}").timestamp()
    except (ValueError, OverflowError):
        raise ValueError(f"--since: {text!r} is neither a duration (2h) nor a time (2026-01-31T14:00)") from None


def _parse_number(text: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 9 or int(text) == 0:
        raise ValueError(f"-n: {text!r} is not a number above 0")
    return int(text)


def _result(kill: Plain) -> str:
    outcome = kill["outcome"]
    if outcome is None:
        return "under way"
    words = [outcome["status"].replace("_", " ")]
    words[0] += f" ({outcome['detail']})" if outcome["detail"] else ""
    words.append(f"{format_size(outcome['returned_bytes'])} of {format_size(outcome['expected_bytes'])} back")
    if outcome["signal_to_memory_us"] is not None:
        words[-1] += f" after {format_duration(outcome['signal_to_memory_us'])}"
    return ", ".join(words)


def _summary(answer: Plain) -> str:
    shown, total = len(answer["kills"]), answer["total"]
    if not total:
        return "no kills since the daemon was started"
    left_out = f", {answer['left_out']} more did not fit into the answer" if answer["left_out"] else ""
    return f"{shown} of {total} kill{'s' if total != 1 else ''} since the daemon was started{left_out}"

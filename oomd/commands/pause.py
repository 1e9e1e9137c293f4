"""``oomd pause 10m --reason …`` and ``oomd resume``: nobody new is chosen for a while; what is under way goes on."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

from oomd.commands.client import DONE, Failure, add_runtime_dir, daemon, fail
from oomd.commands.options import complain
from oomd.model.units import SECOND_US, UnitError, parse_duration
from oomd.pausing import LEAST_US, MOST_US, MOST_WHY

if TYPE_CHECKING:
    import argparse


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare both commands."""
    parser = subparsers.add_parser("pause", help="choose nobody new for a while", description=__doc__)
    parser.add_argument("duration", metavar="DURATION", help="as in 10m or 1h; at most 24h; it ends by itself")
    parser.add_argument("--reason", metavar="TEXT", required=True, help="for whoever finds the machine unprotected")
    parser.add_argument("--json", action="store_true", help="print the answer as one JSON object")
    add_runtime_dir(parser)
    parser.set_defaults(run=pause)
    parser = subparsers.add_parser("resume", help="end a pause", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print the answer as one JSON object")
    add_runtime_dir(parser)
    parser.set_defaults(run=resume)


def pause(arguments: argparse.Namespace) -> int:
    """Begin one, in the place of one that holds."""
    try:
        duration_us = parse_duration(arguments.duration)
    except UnitError as error:
        return complain(f"pause: {error}")
    if not LEAST_US <= duration_us <= MOST_US:
        return complain(f"pause: {arguments.duration!r}: a pause lasts from 1s to 24h")
    if not arguments.reason.strip() or not arguments.reason.isprintable() or len(arguments.reason) > MOST_WHY:
        return complain(f"pause: --reason: should be one line of at most {MOST_WHY} characters")
    try:
        with daemon(arguments.runtime_dir) as there:
            answer = there.must("pause", seconds=duration_us / SECOND_US, reason=arguments.reason)
    except Failure as failure:
        return fail(failure)
    end = time.strftime("%H:%M:%S", time.localtime(time.time() + duration_us / SECOND_US))
    text = f"paused until {end}: nobody new is chosen, not at the critical level either; `oomd resume` ends it"
    print(json.dumps(answer) if arguments.json else text)
    return DONE


def resume(arguments: argparse.Namespace) -> int:
    """End it before its time."""
    try:
        with daemon(arguments.runtime_dir) as there:
            answer = there.must("resume")
    except Failure as failure:
        return fail(failure)
    print(json.dumps(answer) if arguments.json else "resumed")
    return DONE

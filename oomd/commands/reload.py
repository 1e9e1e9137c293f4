"""``oomd reload``: have the daemon read its configuration anew, and wait for the result."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

from oomd.commands.client import DONE, REFUSED, Failure, add_runtime_dir, daemon, fail, refusal_of

if TYPE_CHECKING:
    import argparse


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the command."""
    parser = subparsers.add_parser("reload", help="have the configuration read anew", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print the answer as one JSON object")
    add_runtime_dir(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """0 when the new one is in force; 1 with every problem when the old one stays."""
    try:
        with daemon(arguments.runtime_dir) as there:
            answer = there.ask("reload")
    except Failure as failure:
        return fail(failure)
    problems = answer.get("problems", [])
    if answer.get("ok") is not True and not problems:
        return fail(refusal_of(answer))
    if arguments.json:
        print(json.dumps(answer))
        return DONE if answer["ok"] else REFUSED
    for problem in problems:
        print(problem, file=sys.stderr)
    print(f"oomd: {answer['text']}", file=sys.stderr if problems else sys.stdout)
    return DONE if answer["ok"] else REFUSED

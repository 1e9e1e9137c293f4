"""``oomd kill-now``: one round of choice as though the first ruleset had fired, with everything that protects
processes.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from oomd.commands.client import DONE, REFUSED, Failure, add_runtime_dir, daemon, fail
from oomd.config.problems import printable
from oomd.model.decision import KILL, TERM

if TYPE_CHECKING:
    import argparse

    from oomd.model.report import Plain


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the command."""
    parser = subparsers.add_parser("kill-now", help="choose and kill one victim now", description=__doc__)
    parser.add_argument("--dry-run", action="store_true", help="only tell who it would be")
    parser.add_argument("--json", action="store_true", help="print the decision in the form of `oomd explain --json`")
    add_runtime_dir(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """0 when somebody was (in a dry run: would be) signalled, 1 when nobody was."""
    try:
        with daemon(arguments.runtime_dir) as there:
            answer = there.must("kill_now", dry_run=arguments.dry_run)
    except Failure as failure:
        return fail(failure)
    if arguments.json:
        told = {key: answer[key] for key in ("decision_id", "signalled", "dry_run")}
        print(json.dumps({**answer["decision"], **told}))
    else:
        print(printable(describe(answer)))
    return DONE if answer["decision"]["decision"]["action"] in (TERM, KILL) else REFUSED


def describe(answer: Plain) -> str:
    """The decision in one line."""
    decision = answer["decision"]["decision"]
    if decision["action"] not in (TERM, KILL):
        return f"nobody: {decision['reason']}"
    target = decision["target"]
    who = f"{target['comm']} ({target['pid']})"
    if target["kind"] != "process":
        who = f"{target['kind']} {target['name']} ({decision['processes']} processes, the largest {who})"
    signal = "SIGTERM" if decision["action"] == TERM else "SIGKILL"
    number = f"#{answer['decision_id']} " if answer["decision_id"] else ""
    return f"{number}{'' if answer['signalled'] else 'would send '}{signal} to {who}: {decision['reason']}"

"""``oomd replay``: what would have been decided, step by step, in a recorded trace. Nobody is ever signalled."""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING

from oomd.commands.options import add_config_options, complain, load_or_complain, no_ruleset, overrides_of
from oomd.config.problems import printable
from oomd.model.decision import NO_ACTION
from oomd.model.report import plain_decision
from oomd.model.units import SECOND_US, format_size
from oomd.replay.android import AndroidPlayer
from oomd.replay.asking import ask
from oomd.replay.incident import read_recording
from oomd.replay.observation import Observer
from oomd.replay.player import Player
from oomd.replay.trace import ReplayError, read_trace

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from oomd.model.config import Config
    from oomd.model.report import Plain
    from oomd.replay.incident import Recording


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the command."""
    parser = subparsers.add_parser("replay", help="decide again what was recorded", description=__doc__)
    parser.add_argument("path", metavar="PATH", help="a folder with one folder per step, or a recording (run --record)")
    add_config_options(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object per step")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Print one line per step."""
    overrides = overrides_of(arguments)
    config = load_or_complain(arguments.config, overrides)
    if config is None:
        return 2
    if not os.path.exists(arguments.path):
        return complain(f"{arguments.path}: there is no such file or folder")
    if not config.rules.rulesets and (config.lmkd is None or not os.path.isdir(arguments.path)):
        return complain(no_ruleset(config))
    try:
        if os.path.isdir(arguments.path):
            lines = replay_trace(arguments.path, config)
        else:
            recording = read_recording(arguments.path)
            if overrides and arguments.config is None:
                return complain("--scope and --budget belong to a trace: a recording has those that it was made with")
            lines = replay_recording(recording, None if arguments.config is None else config)
            if recording.cut:
                print(f"oomd: {recording.cut}; what comes before is replayed", file=sys.stderr)
        for line in lines:
            print(json.dumps(line) if arguments.json else describe(line), flush=True)
    except ReplayError as error:
        return complain(str(error))
    return 0


def replay_recording(recording: Recording, config: Config | None) -> Iterator[Plain]:
    """The answer to each tick of a recording, by these rules (None: by its own), beside the one that was given."""
    begin_us = recording.ticks[0].status.time_us
    for number, asked in enumerate(ask(recording, config)):
        recorded, target = asked.recorded, asked.recorded.target
        yield {
            "step": number,
            "time": (asked.tick.status.time_us - begin_us) / SECOND_US,
            **plain_decision(asked.decision),
            "recorded": {
                "action": recorded.action,
                "reason": recorded.reason,
                "target": None
                if target is None
                else {"pid": target.pid, "start_ticks": target.start_ticks, "comm": recorded.comm},
            },
            "differs": asked.differs,
            "cgroups_cut": asked.tick.cgroups_cut,
            "snapshot_time": None if asked.snapshot_us is None else (asked.snapshot_us - begin_us) / SECOND_US,
        }


def replay_trace(path: str, config: Config) -> Iterator[Plain]:
    """The decision of each step of a folder. Raises ReplayError."""
    player, observer = Player.begin(config.rules), Observer(config)
    android = None if config.lmkd is None else AndroidPlayer(config.lmkd)
    for step in read_trace(path):
        seen = observer.observe(step)
        try:
            decision = None if android is None else android.play(step, seen)
            if decision is None or (decision.action == NO_ACTION and config.lmkd is not None and not config.lmkd.only):
                decision = player.play(seen.status, seen.snapshot, seen.cgroups, seen.choice)
        finally:
            seen.watch.close()
        yield {"step": step.number, "time": step.time_us / SECOND_US, **plain_decision(decision)}


def describe(line: Plain) -> str:
    """One line for people."""
    decision = line["decision"]
    target = decision["target"]
    who = "" if target is None else f" {target['comm']} ({target['pid']})"
    memory = format_size(line["status"]["available_bytes"])
    text = f"{line['time']:>8g}s  {memory:>8} available  {decision['action']}{who}: {decision['reason']}"
    if line.get("differs"):
        recorded = line["recorded"]
        target = recorded["target"]
        whom = "" if target is None else f" {target['comm']} ({target['pid']})"
        text += f"  [differs: recorded was {recorded['action']}{whom}]"
    if line.get("cgroups_cut"):
        text += f"  [{line['cgroups_cut']} cgroups were not recorded]"
    return printable(text)

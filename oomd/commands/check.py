"""``oomd check``: every problem of a configuration at once; else what is in force, in words, and whom each pattern hits
now.
"""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING

import psutil

from oomd.commands.options import MISTAKE
from oomd.config.effective import effective, to_yaml
from oomd.config.loader import describe_file, load_config
from oomd.config.problems import printable
from oomd.engine.names import COMM_BYTES, matches_pattern
from oomd.kernel.process import decode_name
from oomd.kernel.tracefs import why_not_traced
from oomd.model.config import Config
from oomd.model.ruleset import ALWAYS, OFF
from oomd.model.units import format_duration

if TYPE_CHECKING:
    import argparse

    from oomd.model.report import Plain
    from oomd.model.ruleset import Detector, Ruleset


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the command."""
    parser = subparsers.add_parser("check", help="check a configuration and show what it means", description=__doc__)
    parser.add_argument("--config", metavar="FILE", help="configuration file; without it the embedded default")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """0 when the configuration is right, 2 otherwise."""
    loaded = load_config(arguments.config)
    if isinstance(loaded, Config):
        hits = pattern_hits(loaded)
        traced = every_exit(loaded)
        if arguments.json:
            content = {
                "version": 1,
                "problems": [],
                "config": effective(loaded),
                "rulesets": in_words(loaded),
                "patterns": hits,
                "every_exit": traced,
            }
            print(json.dumps(content))
        else:
            print("\n".join(describe(loaded, arguments.config, hits, traced)))
        return 0
    if arguments.json:
        keys = ("file", "line", "column", "path", "message")
        print(json.dumps({"version": 1, "problems": [{key: getattr(each, key) for key in keys} for each in loaded]}))
    else:
        for problem in loaded:
            print(problem, file=sys.stderr)
    return MISTAKE


def describe(config: Config, path: str | None, hits: list[Plain], traced: Plain) -> list[str]:
    """The effective configuration for people."""
    lines = [f"# {describe_file(path)}, in full:", *to_yaml(config).splitlines(), "", "# In words:", *in_words(config)]
    lines += _every_exit_words(traced)
    for name in ("protect", "prefer", "avoid"):
        lines.append(f"# {name} hits now:")
        lines += [f"  {_hit_line(hit)}" for hit in hits if hit["list"] == name] or ["  nobody"]
    return lines


def every_exit(config: Config) -> Plain:
    """Whether and when every exit is hastened, and why that cannot be done by whoever asks; it is tried."""
    mode = config.reap.every_exit
    return {"mode": mode, "lost": "" if mode == OFF else why_not_traced()}


def in_words(config: Config) -> list[str]:
    """Each ruleset as sentences."""
    return [line for ruleset in config.rules.rulesets for line in _ruleset_words(ruleset)]


def pattern_hits(config: Config) -> list[Plain]:
    """Which live processes each pattern of the name lists hits now."""
    # psutil shows names longer than the kernel's 15 bytes by looking at the command line; the killer compares the
    # kernel's.
    live = [
        (process.pid, decode_name(os.fsencode(process.info["name"] or "")[:COMM_BYTES]))
        for process in psutil.process_iter(["name"])
    ]
    hits = []
    for name in ("protect", "prefer", "avoid"):
        for pattern in getattr(config.rules.preferences, name).patterns:
            found = [(pid, comm) for pid, comm in live if matches_pattern(pattern, comm)]
            hits.append(
                {
                    "list": name,
                    "pattern": pattern,
                    "pids": [pid for pid, _ in found],
                    "names": sorted({comm for _, comm in found}),
                }
            )
    return hits


def _every_exit_words(traced: Plain) -> list[str]:
    if traced["mode"] == OFF:
        return []
    when = "always" if traced["mode"] == ALWAYS else "while memory is short"
    lines = [f"what anybody else SIGKILLs is reaped as well, {when}, if it owns 64 MiB or more"]
    if traced["lost"]:
        lines.append(f"  but not by whoever runs this: SIGKILLs cannot be traced: {traced['lost']}")
    return lines


def _ruleset_words(ruleset: Ruleset) -> list[str]:
    hold = f", for {format_duration(ruleset.for_us)}" if ruleset.for_us else ""
    ask = f"SIGTERM, SIGKILL after {format_duration(ruleset.grace_us)}" if ruleset.grace_us else "SIGKILL"
    lines = [f"ruleset {ruleset.name}: when {_groups_words(ruleset.when)}{hold}: {ask}"]
    if ruleset.critical:
        lines.append(f"  when {_groups_words(ruleset.critical)}: SIGKILL at once")
    if ruleset.policy is not None:
        lines.append(f"  to the process {ruleset.policy.words()}")
    if ruleset.pause_us:
        lines.append(f"  then it rests for {format_duration(ruleset.pause_us)}")
    return lines


def _groups_words(groups: tuple[tuple[Detector, ...], ...]) -> str:
    return ", or ".join(" and ".join(detector.words() for detector in group) for group in groups)


def _hit_line(hit: Plain) -> str:
    if not hit["pids"]:
        return f"{hit['pattern']}: nobody now"
    pids = ", ".join(str(pid) for pid in hit["pids"][:10])
    more = f" and {len(hit['pids']) - 10} more" if len(hit["pids"]) > 10 else ""
    return printable(f"{hit['pattern']}: {', '.join(hit['names'])} ({pids}{more})")

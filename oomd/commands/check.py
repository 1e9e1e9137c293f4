"""``oomd check``: every problem of a configuration at once; else what is in force, in words, and whom each pattern hits
now.
"""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING

from oomd.commands.options import MISTAKE
from oomd.config.addresses import Address
from oomd.config.effective import effective, to_yaml
from oomd.config.hooks import in_words as hooks_words
from oomd.config.loader import describe_file, load_config
from oomd.config.problems import printable
from oomd.config.telling import in_words as telling_words
from oomd.engine.names import matches_pattern
from oomd.engine.preferences import holds, is_trusted, wanted_of
from oomd.kernel.cgroup import CGROUP_ROOT
from oomd.kernel.files import PAGE_BYTES
from oomd.kernel.process import list_pids
from oomd.kernel.tracefs import why_not_traced
from oomd.model.config import Config
from oomd.model.managed import OFF as NOT_MANAGED
from oomd.model.managed import ManagedOptions
from oomd.model.matching import USER
from oomd.model.ruleset import ALWAYS, LAST_CGROUP_KILL, OFF
from oomd.model.units import format_duration, format_share
from oomd.monitor.facts import MarkReader, read_all
from oomd.monitor.rows import read_row
from oomd.outside.peers import group_id

if TYPE_CHECKING:
    import argparse

    from oomd.model.report import Plain
    from oomd.model.ruleset import Detector, Names, Preferences, Ruleset
    from oomd.model.snapshot import Process

LISTS = {"protect": "never killed", "prefer": "killed first", "avoid": "killed when nobody else is left"}


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
                "preferences": preferences_in_words(loaded.rules.preferences),
                "patterns": hits,
                "every_exit": traced,
                "control": control_in_words(loaded),
                "managed": managed_in_words(loaded),
                "metrics": metrics_in_words(loaded),
                "telling": telling_in_words(loaded),
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
    lines += preferences_in_words(config.rules.preferences)
    lines += [
        *managed_in_words(config),
        *_every_exit_words(traced),
        *control_in_words(config),
        *metrics_in_words(config),
        *telling_in_words(config),
    ]
    for name in LISTS:
        lines.append(f"# {name} hits now:")
        lines += [f"  {_hit_line(hit)}" for hit in hits if hit["list"] == name] or ["  nobody"]
    return lines


def every_exit(config: Config) -> Plain:
    """Whether and when every exit is hastened, and why that cannot be done by whoever asks; it is tried."""
    mode = config.reap.every_exit
    return {"mode": mode, "lost": "" if mode == OFF else why_not_traced()}


def in_words(config: Config) -> list[str]:
    """Each ruleset, and what is reclaimed before there is an alarm, as sentences."""
    lines = [line for ruleset in config.rules.rulesets for line in _ruleset_words(ruleset)]
    proactive = config.rules.proactive
    return lines if proactive is None else [*lines, f"proactive: {proactive.words()}"]


def preferences_in_words(preferences: Preferences) -> list[str]:
    """Each list as a sentence."""
    lines = []
    for name, meaning in LISTS.items():
        names: Names = getattr(preferences, name)
        entries = [f"name {pattern}" for pattern in names.own]
        entries += [match.words() for match in names.matches]
        if names.embedded:
            entries.append(f"root's processes and system services named {', '.join(names.embedded)}")
        lines.append(f"{meaning}: {'; '.join(entries) or 'nobody'}")
    omitted = "never" if preferences.omit == "never" else "as the last resort of all"
    return [*lines, f"killed {omitted}: cgroups of root's that are marked user.oomd_omit"]


def metrics_in_words(config: Config) -> list[str]:
    """Where figures for Prometheus are to be had, and by whom."""
    lines = []
    for text in config.metrics.listen:
        address = Address.of(text)
        whom = "whoever may reach that path" if address.path else "everybody on this machine"
        if not address.path and not address.is_local:
            whom = "EVERYBODY who can reach this machine there; nobody is asked for a password"
        lines.append(f"metrics are served on {text}, to {whom}")
    if config.metrics.textfile:
        lines.append(f"metrics are written to {config.metrics.textfile} every 15 s, and after each kill")
    return lines


def managed_in_words(config: Config) -> list[str]:
    """Whether units' own settings are honoured, how they are heard of, and what holds where they say nothing."""
    managed = config.managed
    limits = (
        f"ManagedOOMSwap=kill above {format_share(managed.swap_limit)} of memory and of swap,"
        f" ManagedOOMMemoryPressure=kill above {format_share(managed.pressure_limit)} for"
        f" {format_duration(managed.pressure_duration_us)} unless a unit says otherwise"
    )
    if managed.systemd != NOT_MANAGED:
        return [f"units' own settings ({managed.systemd}): {limits}"]
    if managed == ManagedOptions():
        return []
    return [f"units' own settings: not honoured (managed.systemd is off; --managed turns them on): {limits}"]


def telling_in_words(config: Config) -> list[str]:
    """Who is told besides the log, and what is run, as sentences."""
    lines = telling_words(config.tell) + hooks_words(config.rules.hooks)
    for ruleset in config.rules.rulesets:
        if ruleset.hooks is not None:
            lines += hooks_words(ruleset.hooks, ruleset.name) or [f"of {ruleset.name}: no hooks"]
    return lines


def pattern_hits(config: Config) -> list[Plain]:
    """Which live processes each entry of the lists hits now."""
    live = live_processes(wanted_of(config.rules.preferences))
    hits = []
    for name in LISTS:
        names: Names = getattr(config.rules.preferences, name)
        for pattern in names.patterns:
            found = [each for each in live if matches_pattern(pattern, each.comm)]
            if pattern in names.embedded:
                found = [each for each in found if is_trusted(each, os.geteuid())]
            hits.append(_hit(name, pattern, found))
        for match in names.matches:
            hit = _hit(name, match.words(), [each for each in live if holds(match, each)])
            unknown = [term.pattern for term in match.terms if term.key == USER and not term.uids]
            hits.append(hit | {"unknown_users": unknown})
    return hits


def live_processes(wanted: frozenset[str]) -> list[Process]:
    """Everybody on this machine, as the killer reads them."""
    proc_fd = os.open("/proc", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        rows = [read_row(proc_fd, pid, PAGE_BYTES) for pid in list_pids(proc_fd)]
        found = [row for row in rows if row is not None and row.read_status(proc_fd)]
        read_all(proc_fd, found, MarkReader(CGROUP_ROOT), 0, wanted)
    finally:
        os.close(proc_fd)
    return [row.value(0) for row in found]


def control_in_words(config: Config) -> list[str]:
    """Who may ask the daemon, and what."""
    if not config.control.enabled:
        return ["control socket: none"]
    group, known = config.control.group, True
    if group:
        known = group_id(group) is not None
    members = f" and members of the group {group}" if group else ""
    lines = [f"control socket: root and oomd's own user{members} may ask; root and oomd's own user may change things"]
    return lines if known else [*lines, f"  but there is no group {group!r} on this machine"]


def _hit(name: str, entry: str, found: list[Process]) -> Plain:
    names = sorted({each.comm for each in found})
    pids = [each.id.pid for each in found]
    return {"list": name, "pattern": entry, "pids": pids, "names": names, "unknown_users": []}


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
    *steps, last = ladder_words(ruleset)
    lines = [f"ruleset {ruleset.name}: when {_groups_words(ruleset.when)}{hold}: {steps[0] if steps else last}"]
    lines += [f"  then, if that is not enough: {words}" for words in [*steps, last][1:]]
    if ruleset.critical:
        lines.append(f"  when {_groups_words(ruleset.critical)}: SIGKILL at once")
    if ruleset.policy is not None:
        to = "to" if ruleset.last else "chosen is"
        lines.append(f"  {to} {_choice_words(ruleset)} {ruleset.policy.words()}")
    if ruleset.pause_us:
        lines.append(f"  then it rests for {format_duration(ruleset.pause_us)}")
    return lines


def ladder_words(ruleset: Ruleset) -> list[str]:
    """Each gentle step, and how it ends."""
    words = [step.words() for step in ruleset.steps]
    if not ruleset.last:
        return words
    kill = "SIGKILL to the whole cgroup by cgroup.kill" if ruleset.last == LAST_CGROUP_KILL else "SIGKILL"
    ask = f"SIGTERM, {kill} after {format_duration(ruleset.grace_us)}" if ruleset.grace_us else kill
    return [*words, ask]


def _choice_words(ruleset: Ruleset) -> str:
    choice = ruleset.choice
    whole = {"group": "the process group", "session": "the session", "cgroup": "the cgroup"}
    text = "the leaf (or whole by memory.oom.group)" if choice.leaves else whole.get(choice.level, "the process")
    among = " or ".join(choice.among)
    if choice.level == "process_in":
        text += " in the cgroup"
    if choice.among:
        text += f" {'below' if choice.recursive else 'of'} {among}"
    return text


def _groups_words(groups: tuple[tuple[Detector, ...], ...]) -> str:
    return ", or ".join(" and ".join(detector.words() for detector in group) for group in groups)


def _hit_line(hit: Plain) -> str:
    if hit["unknown_users"]:
        return printable(f"{hit['pattern']}: nobody; this machine has no user {', '.join(hit['unknown_users'])}")
    if not hit["pids"]:
        return printable(f"{hit['pattern']}: nobody now")
    pids = ", ".join(str(pid) for pid in hit["pids"][:10])
    more = f" and {len(hit['pids']) - 10} more" if len(hit["pids"]) > 10 else ""
    return printable(f"{hit['pattern']}: {', '.join(hit['names'])} ({pids}{more})")

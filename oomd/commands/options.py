"""Options that several commands share, and the configuration that they make together with the file."""

from __future__ import annotations

import os
import sys

from oomd.config.loader import load_config
from oomd.kernel.cgroup import CGROUP_ROOT, find_cgroup2_mount, find_v1_memory_mount
from oomd.model.config import Config
from oomd.model.scope import CGROUP, Scope

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

MISTAKE = 2
"""Exit status for a mistake in what the user wrote."""


def add_config_options(parser: argparse.ArgumentParser) -> None:
    """``--config``, ``--scope``, ``--budget``."""
    parser.add_argument("--config", metavar="FILE", help="configuration file; without it the embedded default")
    parser.add_argument(
        "--scope",
        metavar="SCOPE",
        help="whom oomd may touch: machine (default), tree:PID, cgroup:PATH, uid:UID",
    )
    parser.add_argument("--budget", metavar="SIZE", help="memory for the scope, as in 4GiB, instead of the machine's")


def add_tree_options(parser: argparse.ArgumentParser) -> None:
    """``--proc`` and ``--cgroup``: look at another tree than the machine's own."""
    parser.add_argument("--proc", metavar="DIR", help="read this procfs tree instead of /proc (nobody is signalled)")
    parser.add_argument(
        "--cgroup",
        metavar="DIR",
        help=f"read this cgroup tree instead of {CGROUP_ROOT} (nobody is signalled)",
    )


def overrides_of(arguments: argparse.Namespace) -> dict[str, str]:
    """What the command line says of configuration keys, as text for the loader."""
    overrides = {}
    for option, key in (
        ("scope", "scope"),
        ("budget", "budget"),
        ("runtime_dir", "runtime_dir"),
        ("log_format", "log.format"),
        ("managed", "managed.systemd"),
        ("metrics_listen", "metrics.listen"),
        ("metrics_textfile", "metrics.textfile"),
        ("socket", "lmkd.socket"),
        ("properties", "lmkd.properties"),
        ("protocol", "lmkd.protocol"),
        ("log", "lmkd.log"),
    ):
        value = getattr(arguments, option, None)
        if value is not None:
            overrides[key] = str(value)
    if getattr(arguments, "dry_run", False):
        overrides["dry_run"] = "true"
    if getattr(arguments, "compatible", False):
        overrides["lmkd.compatible"] = "true"
    if getattr(arguments, "only_registered", False):
        overrides["lmkd.only"] = "true"
    return overrides


def load_or_complain(path: str | None, overrides: dict[str, str]) -> Config | None:
    """The configuration, or None after every problem was printed."""
    loaded = load_config(path, overrides=overrides)
    if isinstance(loaded, Config):
        return loaded
    for problem in sorted(loaded):
        print(problem, file=sys.stderr)
    return None


def complain(text: str) -> int:
    """Print a mistake; returns its exit status."""
    print(f"oomd: {text}", file=sys.stderr)
    return MISTAKE


def no_ruleset(config: Config) -> str:
    """What is told of a configuration without rulesets: who says whom to kill then."""
    whose = "units' own settings (managed), which a running oomd is told"
    if config.lmkd is not None:
        whose = "who is registered with lmkd"
    return f"no ruleset is in force by this configuration: who dies next depends on {whose}"


def missing_tree(arguments: argparse.Namespace) -> str:
    """What is wrong with ``--cgroup``, empty for nothing: a tree that is not there looks like one without groups."""
    path = arguments.cgroup
    return f"--cgroup {path}: there is no such folder" if path is not None and not os.path.isdir(path) else ""


def missing_cgroup(scope: Scope) -> str:
    """The first cgroup of the scope that does not exist; empty when all do."""
    with open("/proc/self/mountinfo", "rb") as file:
        mountinfo = file.read()
    tops = [top for top in (find_cgroup2_mount(mountinfo), find_v1_memory_mount(mountinfo)) if top]
    for part in scope.parts:
        if part.kind == CGROUP and not any(os.path.isdir(top + part.path) for top in tops):
            return part.path
    return ""

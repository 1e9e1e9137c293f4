"""``oomd exec``: run a command with a memory budget of its own, and pass its exit status through."""

from __future__ import annotations

import os
import signal

from oomd.commands.launch import become_killer
from oomd.commands.options import MISTAKE, complain, load_or_complain, overrides_of
from oomd.daemon import STOPPING
from oomd.kernel.cgroup import CgroupError, open_cgroup_memory
from oomd.kernel.process import parse_cgroup
from oomd.kernel.scope import ScopeGuard
from oomd.kernel.syscalls import prctl_set_child_subreaper
from oomd.model.scope import ScopeError
from oomd.model.values import replace
from oomd.monitor.selfcheck import narrowed_by_environment
from oomd.ward import PASSED_ON

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

BLOCKED = (*STOPPING, signal.SIGHUP, *PASSED_ON)
NOT_FOUND = 127
NOT_EXECUTABLE = 126
"""Exit statuses of a command that could not be started, as shells have them."""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the command."""
    parser = subparsers.add_parser("exec", help="run a command with a memory budget", description=__doc__)
    parser.add_argument("--config", metavar="FILE", help="configuration file; without it the embedded default")
    parser.add_argument("--budget", metavar="SIZE", help="as in 4GiB; default: the limit of the cgroup that we are in")
    parser.add_argument("--dry-run", action="store_true", help="decide and report, but never signal anybody")
    parser.add_argument(
        "--log-format", choices=("text", "json", "journal"), help="how to report (default: text, to stderr)"
    )
    parser.add_argument(
        "guarded",
        nargs="...",
        metavar="COMMAND",
        help="the command and its arguments, after -- if they begin with -",
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Start the command and become its killer. Returns only when something is wrong."""
    command = arguments.guarded[1:] if arguments.guarded[:1] == ["--"] else arguments.guarded
    if not command:
        return complain("exec: no COMMAND given")
    arguments.scope = f"tree:{os.getpid()}"
    overrides = overrides_of(arguments)
    config = load_or_complain(arguments.config, overrides)
    if config is None:
        return MISTAKE
    if config.lmkd is not None:
        return complain("exec: lmkd: has no effect here; it is for `oomd run`")
    usage_cgroup = ""
    if config.budget_bytes is None:
        limit_bytes, usage_cgroup = _own_limit()
        if limit_bytes is None:
            return complain("exec: --budget is needed: no memory limit is set for the cgroup that we are in")
        config = replace(config, budget_bytes=limit_bytes)
    try:
        _check_scope()
    except ScopeError as error:
        return complain(str(error))
    child, status = _start(command)
    if child:
        become_killer(
            config,
            config_path=arguments.config,
            overrides=overrides,
            quiet=True,
            child_pid=child,
            usage_cgroup=usage_cgroup,
        )
    return status


def _start(command: list[str]) -> tuple[int, int]:
    """The pid of the started command; or 0 and the exit status for one that cannot be started."""
    # What arrives from now on waits until the killer's handlers stand: the mask outlives exec, and the command gets a
    # clean one.
    signal.pthread_sigmask(signal.SIG_BLOCK, BLOCKED)
    prctl_set_child_subreaper()  # orphans of the command become ours: nothing escapes the tree
    defaults = (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGINT, signal.SIGTERM)
    try:
        return os.posix_spawnp(command[0], command, os.environ, setsigdef=defaults, setsigmask=()), 1
    except FileNotFoundError:
        complain(f"exec: {command[0]}: not found")
        return 0, NOT_FOUND
    except OSError as error:
        complain(f"exec: {command[0]}: {error.strerror}")
        return 0, NOT_EXECUTABLE


def _own_limit() -> tuple[int | None, str]:
    """The limit of our own cgroup, and its path."""
    with open("/proc/self/cgroup", "rb") as file:
        path = parse_cgroup(file.read())
    try:
        memory = open_cgroup_memory(path)
        limit = memory.read_limit_bytes()
        memory.close()
    except (CgroupError, OSError):
        return None, ""
    return (None, "") if limit is None else (limit, path)


def _check_scope() -> None:
    """Raise ScopeError now, before the command runs, when OOMD_SCOPE names a tree that is no more."""
    from oomd.model.scope import Scope

    proc_fd = os.open("/proc", os.O_RDONLY | os.O_DIRECTORY)
    try:
        ScopeGuard(narrowed_by_environment(Scope()), proc_fd)
    finally:
        os.close(proc_fd)

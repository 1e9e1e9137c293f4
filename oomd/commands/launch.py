"""Stage one of ``run`` and ``exec``: the outside process is started, and this process becomes the killer; or, with a
scout (oomd/commands/scout.py), the killer waits already, and this process becomes the one outside.
"""

from __future__ import annotations

import contextlib
import json
import marshal
import os
import sys
import time

from oomd.commands.scout import become_image, become_outside
from oomd.config.compiled import modules_of, to_plain
from oomd.kernel.cgroup_namespace import namespace_root
from oomd.kernel.features import rss_slack_bytes
from oomd.model.ruleset import OFF
from oomd.model.steps import RestartStep
from oomd.model.values import dataclass
from oomd.outside.spawn import Outside, arguments_of, make_link, spawn_outside

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from oomd.commands.scout import Scout
    from oomd.model.config import Config


@dataclass(frozen=True, slots=True)
class Trace:
    """The trace of SIGKILLs that ``reap: {every_exit: …}`` asks for; descriptors are -1 where there is none."""

    pipe_fd: int = -1
    instances_fd: int = -1
    """Inherited by the outside process, which removes the instance when the killer has ended, however it ended; and
    kept by the killer for the next outside process, should that one die.
    """
    name: str = ""
    lost: str = ""
    """Why there is none although it was asked for."""


LINK_TOKEN = "@LINK@"  # noqa: S105 - stands for a descriptor's number


def become_killer(
    config: Config,
    *,
    config_path: str | None,
    overrides: dict[str, str],
    quiet: bool = False,
    record: str = "",
    keep_fds: tuple[int, ...] = (),
    scout: Scout | None = None,
    managed_fd: int = -1,
    metrics_fds: Sequence[int] = (),
    runtime_dir: str = "",
    **options: object,
) -> None:
    """Replace this process by the killer, or the scout by the outside process; does not return. ``runtime_dir``: where
    the control socket and what is owed to others lie; empty for neither. ``keep_fds``: what the killer holds.

    The killer gets plain values over a memfd: it never parses YAML, and none of our libraries stays in its memory.
    """
    killer_pid = os.getpid() if scout is None else scout.killer_pid
    trace, ledger_fd = trace_exits(config, killer_pid, scout), _ledger(scout)
    token = f"{killer_pid}-{time.monotonic_ns()}"
    directory = _absolute(runtime_dir)
    outside = {
        **_outside_options(config, managed_fd, metrics_fds, trace, ledger_fd),
        "control": directory if config.control.enabled else "",
        "config_path": None if config_path is None else os.path.abspath(config_path),
        "overrides": overrides,
        "quiet": quiet,
        "record": _absolute(record),
        "runtime_dir": directory,
        "debts_token": token,
    }
    argv = _outside_argv(outside)
    started, other_fd = (spawn_outside(argv, LINK_TOKEN), -1) if scout is None else _linked(scout)
    everything = {**_killer_options(config, directory, token), **_companion_options(argv, started, trace)}
    everything |= {"record": bool(record), **options}
    options_fd, fds = _in_memory(everything), (started.link_fd, trace.pipe_fd, *keep_fds)
    if scout is None:
        _keep_open(fds)
        become_image(options_fd)
    scout.report(options_fd, (*fds, ledger_fd, trace.instances_fd))
    become_outside(arguments_of(argv, LINK_TOKEN, other_fd))


def _keep_open(fds: Iterable[int]) -> None:
    for fd in fds:
        if fd >= 0:
            os.set_inheritable(fd, True)


def _linked(scout: Scout) -> tuple[Outside, int]:
    """Ourselves as the outside process, with our end of its link."""
    link_fd, other_fd = make_link()
    return Outside(os.getpid(), scout.lift(link_fd)), other_fd


def _ledger(scout: Scout | None) -> int:
    """The memfd of oomd.outside.ledger, which every outside process inherits."""
    fd = os.memfd_create("oomd-ledger", 0)
    return fd if scout is None else scout.lift(fd)


def _killer_options(config: Config, directory: str, token: str) -> dict[str, object]:
    """What the killer is told of the configuration, of this machine, and of where what it owes is written down."""
    return {
        "runtime_dir": directory,
        "debts_token": token,
        "config": to_plain(config),
        "modules": modules_of(config),
        "cgroup_namespace": namespace_root(),
        "rss_slack_bytes": rss_slack_bytes(),
        "locale": os.environ.get("LC_ALL"),
    }


def _companion_options(argv: list[str], started: Outside, trace: Trace) -> dict[str, object]:
    """What the killer knows of the outside process and of the trace that the two share."""
    return {
        "outside_argv": argv,
        "link_token": LINK_TOKEN,
        "outside_pid": started.pid,
        "link_fd": started.link_fd,
        "trace_fd": trace.pipe_fd,
        "trace_lost": trace.lost,
    }


def _outside_options(
    config: Config, managed_fd: int, metrics_fds: Sequence[int], trace: Trace, ledger_fd: int
) -> dict[str, object]:
    """What the outside process is told of the configuration, and the descriptors that every one of them inherits; the
    killer, which starts the next, keeps them and never looks into them.
    """
    _keep_open((managed_fd, *metrics_fds))
    return {
        "link_fd": LINK_TOKEN,
        "ledger_fd": ledger_fd,
        "control_group": config.control.group,
        "managed": config.managed.systemd,
        "managed_fd": managed_fd,
        "instances_fd": trace.instances_fd,
        "trace_instance": trace.name,
        "restarts": any(isinstance(step, RestartStep) for rules in config.rules.rulesets for step in rules.steps),
        "format": config.log.format,
        "tell": _channels(config),
        "metrics": {
            "listen": config.metrics.listen,
            "textfile": config.metrics.textfile,
            "fds": list(metrics_fds),
        },
        "lmkd_log": "" if config.lmkd is None else _absolute(config.lmkd.log),
        "lmkd_properties": "" if config.lmkd is None else _absolute(config.lmkd.properties),
    }


def _channels(config: Config) -> list[str]:
    """Who is told besides the log. Programs are asked to trim for the machine's sake only, and never in a dry run."""
    names = [name for name in ("kmsg", "wall", "desktop") if getattr(config.tell, name)]
    speaks = config.tell.low_memory_monitor is not None and config.budget_bytes is None and not config.dry_run
    return [*names, *(["low_memory_monitor"] if speaks else [])]


def _absolute(path: str) -> str:
    """Where it is, whatever becomes our folder; empty for none."""
    return path and os.path.abspath(path)


def trace_exits(config: Config, killer_pid: int, scout: Scout | None = None) -> Trace:
    """Set the trace up, where it is asked for: here and not in the killer, which never gets the rights that this takes.
    What an oomd left that could not clean up (killed together with its outside process) is removed first.
    """
    if config.reap.every_exit == OFF or config.dry_run:
        return Trace()
    from oomd.kernel.tracefs import TracingMissing, make_instance, remove_stale

    try:
        made = make_instance(killer_pid)
    except TracingMissing as error:
        return Trace(lost=str(error))
    remove_stale(made.instances_fd)
    os.set_inheritable(made.instances_fd, True)
    if scout is not None:
        return Trace(scout.lift(made.pipe_fd), scout.lift(made.instances_fd), made.name)
    return Trace(made.pipe_fd, made.instances_fd, made.name)


def _in_memory(everything: dict[str, object]) -> int:
    """A descriptor to read this from."""
    with contextlib.suppress(AttributeError):  # None where they were closed when we were started
        sys.stdout.flush()
        sys.stderr.flush()
    memfd = os.memfd_create("oomd-options", 0)
    os.write(memfd, marshal.dumps(everything))
    os.lseek(memfd, 0, os.SEEK_SET)
    return memfd


def _outside_argv(outside: dict[str, object]) -> list[str]:
    argument = json.dumps(outside).replace(f'"{LINK_TOKEN}"', LINK_TOKEN)
    # -P and not -m: a folder that we are started in must not lend us its modules.
    package = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    code = f"import sys; sys.path.append({package!r}); from oomd.outside.main import main; main()"
    return [sys.executable, "-P", "-c", code, argument]

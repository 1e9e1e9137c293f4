"""Stage one of ``run`` and ``exec``: start the outside process, then become the killer."""

from __future__ import annotations

import contextlib
import json
import marshal
import os
import resource
import sys
import time

from oomd.config.compiled import modules_of, to_plain
from oomd.kernel.cgroup_namespace import namespace_root
from oomd.kernel.features import rss_slack_bytes
from oomd.model.ruleset import OFF
from oomd.model.steps import RestartStep
from oomd.model.values import dataclass
from oomd.outside.spawn import Outside, spawn_outside

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

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


MOST_DESCRIPTORS = 65_536
"""More than anything of ours ever needs."""
LINK_TOKEN = "@LINK@"  # noqa: S105 - stands for a descriptor's number


def become_killer(
    config: Config,
    *,
    config_path: str | None,
    overrides: dict[str, str],
    quiet: bool = False,
    record: str = "",
    keep_fds: tuple[int, ...] = (),
    managed_fd: int = -1,
    metrics_fds: Sequence[int] = (),
    runtime_dir: str = "",
    **options: object,
) -> None:
    """Replace this process by the killer; does not return. ``runtime_dir``: where the control socket and what is owed
    to others lie; empty for neither.

    The killer gets plain values over a memfd: it never parses YAML, and none of our libraries stays in its memory.
    """
    trace = trace_exits(config)
    token = f"{os.getpid()}-{time.monotonic_ns()}"
    directory = runtime_dir and os.path.abspath(runtime_dir)
    outside = {
        **_outside_options(config, managed_fd, metrics_fds, trace),
        "control": directory if config.control.enabled else "",
        "config_path": None if config_path is None else os.path.abspath(config_path),
        "overrides": overrides,
        "quiet": quiet,
        "record": record and os.path.abspath(record),
        "runtime_dir": directory,
        "debts_token": token,
    }
    argv = _outside_argv(outside)
    started = spawn_outside(argv, LINK_TOKEN)
    everything = {
        "config": to_plain(config),
        "modules": modules_of(config),
        **_companion_options(argv, started, trace),
        "record": bool(record),
        "runtime_dir": directory,
        "debts_token": token,
        "cgroup_namespace": namespace_root(),
        **options,
    }
    _replace_image(everything, (started.link_fd, trace.pipe_fd, *keep_fds))


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


def _outside_options(config: Config, managed_fd: int, metrics_fds: Sequence[int], trace: Trace) -> dict[str, object]:
    """What the outside process is told of the configuration, and the descriptors that every one of them inherits; the
    killer, which starts the next, keeps them and never looks into them.
    """
    for fd in (managed_fd, *metrics_fds):
        if fd >= 0:
            os.set_inheritable(fd, True)
    return {
        "link_fd": LINK_TOKEN,
        "ledger_fd": os.memfd_create("oomd-ledger", 0),
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


def _replace_image(everything: dict[str, object], fds: tuple[int, ...]) -> None:
    """Become the killer, with these descriptors (-1 for none)."""
    everything |= {"rss_slack_bytes": rss_slack_bytes(), "locale": os.environ.get("LC_ALL")}
    memfd = _in_memory(marshal.dumps(everything))
    for fd in (memfd, *fds):
        if fd >= 0:
            os.set_inheritable(fd, True)
    with contextlib.suppress(AttributeError):  # None where they were closed when we were started
        sys.stdout.flush()
        sys.stderr.flush()
    image = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "killer.py")
    raise_descriptor_limit()
    # It speaks to nobody in a language: without a locale's tables, which would be mapped and locked.
    locale = {**os.environ, "LC_ALL": "C"}
    os.execve(sys.executable, [sys.executable, "-I", "-S", "-X", "utf8=1", image, str(memfd)], locale)


def raise_descriptor_limit() -> None:
    """As many descriptors as may be had: kept leaders and the victims of one kill need some hundreds each, and a kill
    that finds none left is a kill without a reap.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST_DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, MOST_DESCRIPTORS)
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def trace_exits(config: Config) -> Trace:
    """Set the trace up, where it is asked for: here and not in the killer, which never gets the rights that this takes.
    What an oomd left that could not clean up (killed together with its outside process) is removed first.
    """
    if config.reap.every_exit == OFF or config.dry_run:
        return Trace()
    from oomd.kernel.tracefs import TracingMissing, make_instance, remove_stale

    try:
        made = make_instance(os.getpid())
    except TracingMissing as error:
        return Trace(lost=str(error))
    remove_stale(made.instances_fd)
    os.set_inheritable(made.instances_fd, True)
    return Trace(made.pipe_fd, made.instances_fd, made.name)


def _in_memory(data: bytes) -> int:
    """A descriptor to read this from."""
    memfd = os.memfd_create("oomd-options", 0)
    os.write(memfd, data)
    os.lseek(memfd, 0, os.SEEK_SET)
    return memfd


def _outside_argv(outside: dict[str, object]) -> list[str]:
    argument = json.dumps(outside).replace(f'"{LINK_TOKEN}"', LINK_TOKEN)
    # -P and not -m: a folder that we are started in must not lend us its modules.
    package = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    code = f"import sys; sys.path.append({package!r}); from oomd.outside.main import main; main()"
    return [sys.executable, "-P", "-c", code, argument]

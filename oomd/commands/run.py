"""``oomd run``: protect the machine, or what a scope holds of it."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os

from oomd.commands.launch import become_killer
from oomd.commands.options import (
    add_config_options,
    add_tree_options,
    complain,
    load_or_complain,
    missing_cgroup,
    missing_tree,
    overrides_of,
)
from oomd.commands.passed import METRICS, metrics_fds, passed_fds
from oomd.kernel.cgroup import CGROUP_ROOT
from oomd.kernel.features import probe_features
from oomd.kernel.scope import ScopeGuard
from oomd.model.managed import AUTO, SOURCES, TAKEOVER
from oomd.model.scope import CGROUP, ScopeError
from oomd.monitor.selfcheck import narrowed_by_environment

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

    from oomd.commands.scout import Scout
    from oomd.model.config import Config


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the command."""
    parser = subparsers.add_parser("run", help="protect the machine", description=__doc__)
    add_config_options(parser)
    add_tree_options(parser)
    parser.add_argument("--dry-run", action="store_true", help="decide and report, but never signal anybody")
    parser.add_argument("--runtime-dir", metavar="DIR", help="where lock and control socket live; one per directory")
    parser.add_argument("--log-format", choices=("text", "json", "journal"), help="how to report (default: text)")
    parser.add_argument(
        "--managed", choices=SOURCES, help="honour units' own settings (ManagedOOMSwap= and its kin), heard from where"
    )
    parser.add_argument(
        "--metrics-listen", metavar="ADDRESS", help="serve figures for Prometheus there, as 127.0.0.1:9779"
    )
    parser.add_argument("--metrics-textfile", metavar="FILE", help="write them to this file (….prom) for node_exporter")
    parser.add_argument("--record", metavar="FILE", help="at every action write what was seen there, for replay")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Become the daemon. Returns only when something is wrong."""
    scout: Scout | None = getattr(arguments, "scout", None)
    pid = os.getpid() if scout is None else scout.killer_pid
    config = load_or_complain(arguments.config, overrides_of(arguments))
    if config is None:
        _pay_debts(arguments.runtime_dir or default_runtime_dir())
        return 2
    mistake = _mistake(arguments, config)
    if mistake:
        return complain(mistake)
    runtime_dir = os.path.abspath(config.runtime_dir or default_runtime_dir())
    lock_fd = _lock(runtime_dir, pid)
    if isinstance(lock_fd, str):
        return complain(lock_fd)
    paid = [] if config.dry_run else _put_back(runtime_dir)
    properties, mistake = _properties(config)
    if mistake:
        return complain(mistake)
    listening = _listen(config, pid)
    if isinstance(listening, str):
        return complain(listening)
    lmkd_fd, lmkd_path = listening
    if scout is not None:
        lock_fd, lmkd_fd = scout.lift(lock_fd), scout.lift(lmkd_fd) if lmkd_path else lmkd_fd
    become_killer(
        config,
        scout=scout,
        managed_fd=_managed_fd(config, pid),
        metrics_fds=metrics_fds(pid),
        config_path=arguments.config,
        overrides=overrides_of(arguments),
        record=arguments.record or "",
        keep_fds=(lock_fd, lmkd_fd),
        lock_fd=lock_fd,
        runtime_dir=runtime_dir,
        paid=paid,
        lmkd_fd=lmkd_fd,
        lmkd_path=lmkd_path,
        lmkd_properties=properties,
        proc_dir=arguments.proc or "/proc",
        cgroup_root=arguments.cgroup or CGROUP_ROOT,
        usage_cgroup=_usage_cgroup(config),
    )
    return 1


def default_runtime_dir() -> str:
    """/run/oomd for root; else below XDG_RUNTIME_DIR, or a directory of our own in /tmp."""
    if os.geteuid() == 0:
        return "/run/oomd"
    base = os.environ.get("XDG_RUNTIME_DIR")
    return f"{base}/oomd" if base else f"/tmp/oomd-{os.geteuid()}"  # noqa: S108 - checked to be ours before use


def _mistake(arguments: argparse.Namespace, config: Config) -> str:
    if (arguments.proc or arguments.cgroup) and not config.dry_run:
        return "--proc and --cgroup need --dry-run: a kill is decided only by this machine's own /proc"
    if missing_tree(arguments):
        return missing_tree(arguments)
    if not probe_features().pidfd_open and not config.dry_run:
        return "this kernel has no pidfd_open: oomd needs Linux 5.3"
    mistake = _unwritable(arguments.record) if arguments.record is not None else ""
    if mistake:
        return f"--record {arguments.record}: {mistake}"
    log = "" if config.lmkd is None else config.lmkd.log
    mistake = _not_appendable(log) if log else ""
    if mistake:
        return f"lmkd's log {log}: {mistake}"
    try:
        scope = narrowed_by_environment(config.scope)
        proc_fd = os.open(arguments.proc or "/proc", os.O_RDONLY | os.O_DIRECTORY)
        try:
            ScopeGuard(scope, proc_fd)
        finally:
            os.close(proc_fd)
    except ScopeError as error:
        return str(error)
    except OSError as error:
        return f"--proc {arguments.proc}: {error.strerror}"
    missing = missing_cgroup(scope) if not arguments.cgroup else ""
    return f"cgroup:{missing}: there is no such cgroup" if missing else ""


def _unwritable(path: str) -> str:
    """Why a recording cannot be put there; empty when it can, as far as that can be told without writing."""
    folder = os.path.dirname(os.path.abspath(path))
    if not path or (os.path.exists(path) and not os.path.isfile(path)):
        return "is not the name of a file"
    if not _may_be_replaced(path):
        return "is a file already, and no recording of oomd"
    if not os.path.isdir(folder):
        return f"there is no folder {folder}"
    return "" if os.access(folder, os.W_OK) else f"the folder {folder} cannot be written to"


def _not_appendable(path: str) -> str:
    """Why lines cannot be put there; empty when they can."""
    folder = os.path.dirname(os.path.abspath(path))
    if os.path.isdir(path):
        return "is a folder"
    if not os.path.isdir(folder):
        return f"there is no folder {folder}"
    return "" if os.access(path if os.path.exists(path) else folder, os.W_OK) else "cannot be written to"


def _may_be_replaced(path: str) -> bool:
    """Whether nothing would be lost but a recording."""
    try:
        from oomd.outside.recording import KEY as RECORDING

        with open(path, "rb") as file:
            begin = f'{{"{RECORDING}":'.encode()
            return file.read(len(begin)) in (begin, b"")
    except OSError:
        return not os.path.exists(path)


def _listen(config: Config, pid: int) -> tuple[int, str] | str:
    """lmkd's control socket and where it was made, or what is wrong; -1 where nobody asked for it."""
    if config.lmkd is None:
        return -1, ""
    from oomd.lmkd.listening import ListenError, inherited_listener, open_listener

    try:
        inherited = inherited_listener(dict(os.environ), pid)
        if inherited is not None:
            return inherited, ""
        return open_listener(config.lmkd.socket), os.path.abspath(config.lmkd.socket)
    except ListenError as error:
        return str(error)


def _properties(config: Config) -> tuple[str, str]:
    """The text of lmkd's file of properties, and what is wrong when it has gone since the loader looked at it."""
    if config.lmkd is None or not config.lmkd.properties:
        return "", ""
    from oomd.config.lmkd_properties import PropertiesError, read_properties

    try:
        return read_properties(config.lmkd.properties), ""
    except PropertiesError as error:
        return "", str(error)


def _managed_fd(config: Config, pid: int) -> int:
    """The socket for users' managers that systemd-oomd.socket passed, or -1; sd_listen_fds(3)."""
    if config.managed.systemd not in (AUTO, TAKEOVER):
        return -1
    import socket

    for number, name in passed_fds(pid).items():
        if name == METRICS:
            continue
        with contextlib.suppress(OSError), socket.socket(fileno=os.dup(number)) as copy:
            if copy.getsockopt(socket.SOL_SOCKET, socket.SO_TYPE) == socket.SOCK_STREAM:
                return number
    return -1


def _usage_cgroup(config: Config) -> str:
    """The cgroup whose memory a budget is compared with; a tree's or a user's processes are summed instead."""
    paths = [part.path for part in config.scope.parts if part.kind == CGROUP]
    return paths[0] if paths and config.budget_bytes is not None else ""


def _lock(directory: str, pid: int) -> int | str:
    """The descriptor that holds the lock, or what is wrong."""
    try:
        os.makedirs(directory, mode=0o755, exist_ok=True)
        if os.stat(directory).st_uid not in (os.geteuid(), 0):
            return f"--runtime-dir {directory}: belongs to somebody else"
        fd = os.open(f"{directory}/lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.ftruncate(fd, 0)
        os.pwrite(fd, f"{pid}\n".encode(), 0)
    except OSError as error:
        if error.errno == errno.EWOULDBLOCK:
            return f"another oomd (pid {_holder(directory)}) runs with the runtime directory {directory}"
        return f"--runtime-dir {directory}: {error.strerror}"
    return fd


def _pay_debts(directory: str) -> None:
    """What an oomd that was killed left changed is put back even where nobody can be started now."""
    lock_fd = _lock(directory, os.getpid())
    if isinstance(lock_fd, int):
        for text in _put_back(directory):
            complain(text)
        os.close(lock_fd)


def _put_back(directory: str) -> list[str]:
    """What was put back, in words; mostly nobody owes anything."""
    if not os.path.lexists(f"{directory}/debts"):
        return []
    from oomd.debts import put_all_back

    return put_all_back(directory)


def _holder(directory: str) -> str:
    with open(f"{directory}/lock", encoding="ascii", errors="replace") as file:
        return file.read().strip() or "unknown"

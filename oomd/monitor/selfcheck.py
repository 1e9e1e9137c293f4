"""What this machine lets us do, and what is lost by what is missing: the report at the start."""

from __future__ import annotations

import os

from oomd.kernel.cgroup_namespace import is_beyond
from oomd.kernel.features import Features, probe_features, read_capabilities
from oomd.kernel.process import parse_cgroup_v2, parse_stat, read_pid_file
from oomd.kernel.sched import LOOP_PRIORITY, be_realtime
from oomd.kernel.swaps import parse_swaps
from oomd.kernel.syscalls import MCL_CURRENT, MCL_FUTURE, MCL_ONFAULT, mlockall
from oomd.model.scope import Scope, ScopeError, parse_scope
from oomd.model.values import dataclass

TYPE_CHECKING = False
if TYPE_CHECKING:
    from oomd.model.report import Plain
    from oomd.monitor.rows import Row

OTHER_KILLERS = frozenset(
    (
        "earlyoom",
        "nohang",
        "nohang-desktop",
        "systemd-oomd",
        "oomd",
        "oomd_bin",
        "lmkd",
        "bustd",
        "low-memory-moni",
        "thrash-protect",
    )
)
"""Names (15 bytes) of daemons that kill or freeze for memory too; two of them may each kill for the same shortage."""


@dataclass(frozen=True, slots=True)
class Shield:
    """How the killer protects itself."""

    locked: bool
    """Its memory cannot be paged out."""
    spared: bool
    """The kernel's own OOM killer never takes it (oom_score_adj -1000)."""
    realtime: bool
    """It runs before everything of normal priority."""


def raise_shield(capabilities: frozenset[str]) -> Shield:
    """Do what is permitted; each step that is not is told, none is fatal."""
    return Shield(locked=_lock(capabilities), spared=_spare(), realtime=be_realtime(LOOP_PRIORITY))


def _lock(capabilities: frozenset[str]) -> bool:
    # Without CAP_IPC_LOCK, MCL_FUTURE would make later mappings fail once RLIMIT_MEMLOCK (often 8 MiB) is reached.
    if "CAP_IPC_LOCK" not in capabilities:
        return False
    try:
        mlockall(MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT)
    except OSError:
        return False
    return True


def _spare() -> bool:
    fd = os.open("/proc/self/oom_score_adj", os.O_RDWR | os.O_CLOEXEC)
    try:
        if int(os.read(fd, 16)) == -1000:
            return True
        os.pwrite(fd, b"-1000", 0)  # os.write tells EACCES; a buffered file would hide it until it is closed
    except OSError:
        return False
    finally:
        os.close(fd)
    return True


def own_and_ancestors(proc_fd: int) -> frozenset[int]:
    """Our pid and those of everything that started us, from procfs."""
    pids = set()
    pid = os.getpid()
    while pid > 0 and pid not in pids:
        pids.add(pid)
        data = read_pid_file(proc_fd, pid, "stat", denied=b"")
        pid = parse_stat(data).ppid if data else 0
    return frozenset(pids)


def narrowed_by_environment(scope: Scope) -> Scope:
    """The scope within OOMD_SCOPE, which every test, demo and build of ours sets. Raises ScopeError naming the
    variable.
    """
    text = os.environ.get("OOMD_SCOPE", "")
    if not text:
        return scope
    try:
        return scope.narrowed(parse_scope(text))
    except ScopeError as error:
        raise ScopeError(f"OOMD_SCOPE: {error}") from error


def own_capabilities(proc_fd: int) -> frozenset[str]:
    """Our effective capabilities."""
    return read_capabilities(read_pid_file(proc_fd, os.getpid(), "status") or b"\nCapEff:\t0\n")


def other_killers(rows: dict[int, Row], own_pids: frozenset[int]) -> list[str]:
    """Other daemons that kill for memory and run now."""
    return sorted({row.comm for row in rows.values() if row.comm in OTHER_KILLERS and row.pid not in own_pids})


def start_report(proc_dir: str, shield: Shield, capabilities: frozenset[str], others: list[str], backend: str) -> Plain:
    """What is there, what is missing, and what that costs."""
    features = probe_features(proc_dir)
    try:
        with open(f"{proc_dir}/swaps", "rb") as file:
            swaps = parse_swaps(file.read())
    except OSError:
        swaps = ()
    return {
        "kernel": os.uname().release,
        "calls": {
            "pidfd_send_signal": features.pidfd_send_signal,
            "process_mrelease": features.process_mrelease,
        },
        "psi": features.psi,
        "capabilities": sorted(capabilities),
        "swap": [{"name": device.name, "kind": device.kind, "size_bytes": device.size_bytes} for device in swaps],
        "cgroup": cgroup_version(),
        "locked": shield.locked,
        "shielded": shield.spared,
        "realtime": shield.realtime,
        "reaper": backend,
        "other_killers": others,
        "lost": _losses(features, shield, capabilities, others, _cgroup_of_init(proc_dir)),
    }


def cgroup_version() -> str:
    """``v2``, ``hybrid`` (v1 controllers beside a v2 mount), ``v1`` or ``none``, from /proc/self/mounts."""
    with open("/proc/self/mounts", "rb") as file:
        kinds = {line.split(b" ")[2] for line in file if line.count(b" ") >= 2}
    if b"cgroup2" in kinds:
        return "hybrid" if b"cgroup" in kinds else "v2"
    return "v1" if b"cgroup" in kinds else "none"


def _cgroup_of_init(proc_dir: str) -> str:
    """Which is what everybody's is called like; empty where it cannot be told."""
    try:
        with open(f"{proc_dir}/1/cgroup", "rb") as file:
            return parse_cgroup_v2(file.read()) or ""
    except OSError:
        return ""


def _losses(
    features: Features, shield: Shield, capabilities: frozenset[str], others: list[str], cgroup_of_init: str
) -> list[str]:
    checks = (
        (
            features.process_mrelease,
            "no process_mrelease (Linux 5.15): a starved victim gives its memory back late",
        ),
        (features.psi, "no memory pressure (PSI): only the level of memory is watched, by polling"),
        (
            not features.psi or "CAP_SYS_RESOURCE" in capabilities,
            "no CAP_SYS_RESOURCE: pressure wakes us only at multiples of 2 s",
        ),
        ("CAP_KILL" in capabilities, "no CAP_KILL: only processes of our own user can be killed"),
        (features.smaps_rollup, "no smaps_rollup: memory shared by fork counts as each process's own"),
        (shield.locked, "memory is not locked (CAP_IPC_LOCK): the killer itself may be paged out"),
        (shield.spared, "oom_score_adj is not -1000 (CAP_SYS_RESOURCE): the kernel may kill the killer"),
        (shield.realtime, "no real-time priority (CAP_SYS_NICE): decisions are late when CPUs are busy"),
        ("CAP_SYS_PTRACE" in capabilities, "no CAP_SYS_PTRACE: of other users' processes only the size is known"),
        (
            not is_beyond(cgroup_of_init),
            "in a cgroup namespace without the machine's own /sys/fs/cgroup: units, containers and pods have no names",
        ),
        (not others, f"another killer is active ({', '.join(others)}): both may kill for one shortage"),
    )
    return [text for there, text in checks if not there]

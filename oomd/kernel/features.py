"""What this kernel and this process can do: probed, never guessed from version numbers.

The probes use descriptor -1, so that no process can be hit; the order of the kernel's checks makes the
answer telling.
"""

from __future__ import annotations

import errno
import os

from oomd.kernel.files import PAGE_BYTES, KernelFile, KernelFormatError, find_number
from oomd.kernel.process import parse_statm
from oomd.kernel.syscalls import pidfd_send_signal, process_mrelease
from oomd.model.values import dataclass

_CAPABILITIES = (
    *(
        "CAP_CHOWN",
        "CAP_DAC_OVERRIDE",
        "CAP_DAC_READ_SEARCH",
        "CAP_FOWNER",
        "CAP_FSETID",
        "CAP_KILL",
        "CAP_SETGID",
    ),
    *("CAP_SETUID", "CAP_SETPCAP", "CAP_LINUX_IMMUTABLE", "CAP_NET_BIND_SERVICE", "CAP_NET_BROADCAST"),
    *("CAP_NET_ADMIN", "CAP_NET_RAW", "CAP_IPC_LOCK", "CAP_IPC_OWNER", "CAP_SYS_MODULE", "CAP_SYS_RAWIO"),
    *("CAP_SYS_CHROOT", "CAP_SYS_PTRACE", "CAP_SYS_PACCT", "CAP_SYS_ADMIN", "CAP_SYS_BOOT", "CAP_SYS_NICE"),
    *("CAP_SYS_RESOURCE", "CAP_SYS_TIME", "CAP_SYS_TTY_CONFIG", "CAP_MKNOD", "CAP_LEASE", "CAP_AUDIT_WRITE"),
    *(
        "CAP_AUDIT_CONTROL",
        "CAP_SETFCAP",
        "CAP_MAC_OVERRIDE",
        "CAP_MAC_ADMIN",
        "CAP_SYSLOG",
        "CAP_WAKE_ALARM",
    ),
    *("CAP_BLOCK_SUSPEND", "CAP_AUDIT_READ", "CAP_PERFMON", "CAP_BPF", "CAP_CHECKPOINT_RESTORE"),
)
"""In the order of their bits; include/uapi/linux/capability.h."""


@dataclass(frozen=True, slots=True)
class Features:
    """What is there."""

    pidfd_open: bool
    """5.3."""
    pidfd_send_signal: bool
    """5.1."""
    process_mrelease: bool
    """5.15."""
    mrelease_kill: bool
    """process_mrelease knows flag 1, with which it sends SIGKILL itself (proposed in 2026, in no release
    known so far).
    """
    psi: bool
    """/proc/pressure/memory can be read: built in, and not off."""
    psi_trigger: bool
    """It can be opened for writing."""
    smaps_rollup: bool
    """4.14."""


def probe_features(proc: str = "/proc") -> Features:
    """Asks the kernel. A seccomp filter that forbids a call (mostly EPERM or ENOSYS) counts as absence.
    Never raises OSError.
    """
    return Features(
        pidfd_open=_can_open_pidfd(),
        pidfd_send_signal=_probe_send_signal() == errno.EBADF,
        process_mrelease=_probe_mrelease(0) == errno.EBADF,
        mrelease_kill=_probe_mrelease(1) == errno.EBADF,
        psi=_can_read(f"{proc}/pressure/memory"),
        psi_trigger=_can_read(f"{proc}/pressure/memory", os.O_RDWR | os.O_NONBLOCK),
        smaps_rollup=_can_read(f"{proc}/self/smaps_rollup"),
    )


def _probe_send_signal() -> int:
    try:
        pidfd_send_signal(-1, 0)
    except OSError as error:
        return error.errno or 0
    return 0


def _probe_mrelease(flags: int) -> int:
    try:
        process_mrelease(-1, flags)
    except OSError as error:
        return error.errno or 0
    return 0


def _can_open_pidfd() -> bool:
    try:
        os.close(os.pidfd_open(os.getpid()))
    except (OSError, AttributeError):  # AttributeError: a Python built with headers older than 5.3
        return False
    return True


def _can_read(path: str, flags: int = os.O_RDONLY) -> bool:
    # PSI that is switched off may still have its file; only the read tells (EOPNOTSUPP).
    try:
        fd = os.open(path, flags | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return bool(os.read(fd, 16))
    except OSError:
        return False
    finally:
        os.close(fd)


def read_capabilities(status: bytes) -> frozenset[str]:
    """Names (``CAP_KILL`` …) of the effective capabilities in the text of /proc/PID/status; capabilities(7).
    Raises KernelFormatError.
    """
    mask = find_number(status, b"\nCapEff:", "/proc/PID/status", base=16)
    return frozenset(name for bit, name in enumerate(_CAPABILITIES) if mask >> bit & 1)


MOST_SLACK_BYTES = 1 << 20
_TRIES = 4


def rss_slack_bytes() -> int:
    """By how much two readings of a process's size may differ without growth.

    Since 6.2 the kernel counts resident pages per CPU and, until 6.16, showed only what had been folded into one sum:
    each CPU may hold back a batch. Probed: a page that is touched shows at once, or it does not. Elsewhere what is
    left is that the counters of one process are read one after the other.
    """
    if _shows_every_page():
        return MOST_SLACK_BYTES
    cpus = os.cpu_count() or 1
    return max(MOST_SLACK_BYTES, 2 * cpus * max(32, 2 * cpus) * PAGE_BYTES)


def _shows_every_page() -> bool:
    import mmap  # asked before the killer's image, which has no use for it

    try:
        with KernelFile("/proc/self/statm") as file, mmap.mmap(-1, 8 * _TRIES * PAGE_BYTES, mmap.MAP_PRIVATE) as block:
            for number in range(1, _TRIES + 1):
                before = parse_statm(file.read())
                block[8 * number * PAGE_BYTES - 1] = 1
                after = parse_statm(file.read())
                if after[0] - after[1] <= before[0] - before[1]:
                    return False
    except (OSError, KernelFormatError):
        return False
    return True

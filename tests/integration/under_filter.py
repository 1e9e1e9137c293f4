"""``python under_filter.py CALL,… CAPABILITY,… PROGRAM…``: become the program, with these system calls (any other kills
it) and, as root, these capabilities only. What systemd makes of SystemCallFilter= and CapabilityBoundingSet=.
"""

from __future__ import annotations

import ctypes
import os
import sys

SCMP_ACT_KILL_PROCESS = 0x80000000
SCMP_ACT_ALLOW = 0x7FFF0000
PR_CAPBSET_DROP = 24
CAPABILITIES = {"CAP_KILL": 5, "CAP_IPC_LOCK": 14, "CAP_SYS_PTRACE": 19, "CAP_SYS_NICE": 23, "CAP_SYS_RESOURCE": 24}
LAST_CAPABILITY = 63


def keep_capabilities(names: list[str]) -> None:
    """Drop all others from the bounding set; what the kernel does not know cannot be dropped."""
    libc = ctypes.CDLL(None)
    kept = {CAPABILITIES[name] for name in names}
    for number in range(LAST_CAPABILITY + 1):
        if number not in kept:
            libc.prctl(PR_CAPBSET_DROP, number, 0, 0, 0)


def allow_calls(names: list[str]) -> None:
    """Load the filter, by libseccomp as systemd does; names that this architecture does not have are left out."""
    seccomp = ctypes.CDLL("libseccomp.so.2")
    seccomp.seccomp_init.restype = ctypes.c_void_p
    seccomp.seccomp_init.argtypes = (ctypes.c_uint32,)
    seccomp.seccomp_rule_add.argtypes = (ctypes.c_void_p, ctypes.c_uint32, ctypes.c_int, ctypes.c_uint)
    seccomp.seccomp_load.argtypes = (ctypes.c_void_p,)
    context = seccomp.seccomp_init(SCMP_ACT_KILL_PROCESS)
    for name in names:
        number = seccomp.seccomp_syscall_resolve_name(name.encode())
        if number >= 0 and seccomp.seccomp_rule_add(context, SCMP_ACT_ALLOW, number, 0) != 0:
            sys.exit(f"libseccomp does not take {name}")
    if seccomp.seccomp_load(context) != 0:
        sys.exit("the kernel does not take the filter")


def main() -> None:
    """Lose the rights, then become the program."""
    calls, capabilities, *program = sys.argv[1:]
    if os.geteuid() == 0:
        keep_capabilities(capabilities.split(",") if capabilities else [])
    allow_calls(calls.split(","))
    os.execv(program[0], program)


if __name__ == "__main__":
    main()

"""``python forbid.py CALL ERRNO PROGRAM…``: become the program, in which this system call fails with that errno, as on
a kernel that does not have it.
"""

from __future__ import annotations

import ctypes
import errno
import os
import sys

SCMP_ACT_ALLOW = 0x7FFF0000
SCMP_ACT_ERRNO = 0x00050000


def main() -> None:
    """Load the filter by libseccomp, then become the program."""
    call, name, *program = sys.argv[1:]
    seccomp = ctypes.CDLL("libseccomp.so.2")
    seccomp.seccomp_init.restype = ctypes.c_void_p
    seccomp.seccomp_init.argtypes = (ctypes.c_uint32,)
    seccomp.seccomp_rule_add.argtypes = (ctypes.c_void_p, ctypes.c_uint32, ctypes.c_int, ctypes.c_uint)
    seccomp.seccomp_load.argtypes = (ctypes.c_void_p,)
    context = seccomp.seccomp_init(SCMP_ACT_ALLOW)
    number = seccomp.seccomp_syscall_resolve_name(call.encode())
    if number < 0:
        # Older than the call: its number is the same on nearly every machine (include/uapi/asm-generic/unistd.h).
        number = {"process_mrelease": 448}[call]
    action = SCMP_ACT_ERRNO | getattr(errno, name)
    if seccomp.seccomp_rule_add(context, action, number, 0) != 0 or seccomp.seccomp_load(context) != 0:
        sys.exit(f"the kernel does not take a filter for {call}")
    os.execv(program[0], program)


if __name__ == "__main__":
    main()

"""The numbers of system calls that libc has no function for, on each machine."""

from __future__ import annotations

_MIPS_BASE = {"o32": 4000, "n64": 5000, "n32": 6000}


def number_of(generic: int, machine: str, pointer_bytes: int, multiarch: str = "") -> int:
    """The number of a system call newer than 5.1 (``generic``, include/uapi/asm-generic/unistd.h) for a
    process of this machine.

    ``machine`` is uname's, ``multiarch`` the interpreter's triplet, which tells the ABIs of 32-bit processes
    on 64-bit kernels apart.
    """
    if machine == "alpha":
        return generic + 110
    if machine.startswith("mips"):
        narrow = "n32" if multiarch.endswith("abin32") else "o32"
        return generic + _MIPS_BASE["n64" if pointer_bytes == 8 else narrow]
    if machine == "x86_64" and multiarch.endswith("x32"):
        return generic | 0x40000000
    return generic


_IOPRIO_SET = {
    "x86_64": 251, "i386": 289, "i486": 289, "i586": 289, "i686": 289, "s390x": 282, "s390": 282, "ppc64le": 273,
    "ppc64": 273, "ppc": 273, "alpha": 442, "armv7l": 314, "armv6l": 314, "armv5tel": 314, "sparc64": 196,
}  # fmt: skip
"""Older than the common numbers: each table of its own, arch/*/kernel/syscalls/syscall.tbl."""
_IOPRIO_SET_GENERIC = 30
"""aarch64, riscv, loongarch; include/uapi/asm-generic/unistd.h."""
_MIPS_IOPRIO_SET = {"o32": 4314, "n64": 5273, "n32": 6277}

KCMP = {
    "x86_64": 312, "i386": 349, "i486": 349, "i586": 349, "i686": 349, "s390x": 343, "s390": 343, "ppc64le": 354,
    "ppc64": 354, "ppc": 354, "armv7l": 378, "armv6l": 378, "aarch64": 272, "riscv64": 272, "loongarch64": 272,
}  # fmt: skip

SETRESUID = {
    "x86_64": 117, "i386": 208, "i486": 208, "i586": 208, "i686": 208, "s390x": 208, "s390": 208, "ppc64le": 164,
    "ppc64": 164, "ppc": 164, "armv7l": 208, "armv6l": 208, "aarch64": 147, "riscv64": 147, "loongarch64": 147,
}  # fmt: skip
"""With user numbers of 32 bits."""


def ioprio_number(machine: str, pointer_bytes: int, multiarch: str = "") -> int:
    """The number of ioprio_set(2), which is older than the numbers that all machines share."""
    if machine.startswith("mips"):
        narrow = "n32" if multiarch.endswith("abin32") else "o32"
        return _MIPS_IOPRIO_SET["n64" if pointer_bytes == 8 else narrow]
    if machine == "x86_64" and pointer_bytes == 4:
        return 251 | 0x40000000 if multiarch.endswith("x32") else _IOPRIO_SET["i386"]
    return _IOPRIO_SET.get(machine, _IOPRIO_SET_GENERIC)

"""Numbers of system calls on machines that are not this one."""

from __future__ import annotations

import pytest

from oomd.kernel.numbers import number_of


@pytest.mark.parametrize(
    ("machine", "pointer_bytes", "multiarch", "number"),
    [
        ("x86_64", 8, "x86_64-linux-gnu", 448),
        ("x86_64", 4, "i386-linux-gnu", 448),
        ("x86_64", 4, "x86_64-linux-gnux32", 448 | 0x40000000),
        ("i686", 4, "i386-linux-gnu", 448),
        ("aarch64", 8, "aarch64-linux-gnu", 448),
        ("armv7l", 4, "arm-linux-gnueabihf", 448),
        ("riscv64", 8, "riscv64-linux-gnu", 448),
        ("ppc64le", 8, "powerpc64le-linux-gnu", 448),
        ("s390x", 8, "s390x-linux-gnu", 448),
        ("loongarch64", 8, "loongarch64-linux-gnu", 448),
        ("alpha", 8, "alpha-linux-gnu", 558),
        ("mips", 4, "mips-linux-gnu", 4448),
        ("mips64", 4, "mipsel-linux-gnu", 4448),
        ("mips64", 4, "mips64el-linux-gnuabin32", 6448),
        ("mips64", 8, "mips64el-linux-gnuabi64", 5448),
    ],
)
def test_numbers(machine: str, pointer_bytes: int, multiarch: str, number: int) -> None:
    """Every ABI gets the number of its own table."""
    assert number_of(448, machine, pointer_bytes, multiarch) == number

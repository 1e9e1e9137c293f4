"""Which ranges of a memory map can be swapped out: a written map, arbitrary bytes, and a real process."""

from __future__ import annotations

import mmap
import os
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from oomd.kernel.maps import cut, parse_anonymous

MAPS = b"""555555554000-555555556000 r--p 00000000 08:01 123 /usr/bin/cat
55555555a000-55555555b000 rw-p 00005000 08:01 123 /usr/bin/cat
55555555b000-55555557c000 rw-p 00000000 00:00 0                          [heap]
7ffff0000000-7ffff8000000 rw-p 00000000 00:00 0
7ffff8000000-7ffff9000000 rw-s 00000000 00:01 77 /dev/zero (deleted)
7ffff9000000-7ffff9800000 ---p 00000000 00:00 0
7ffffffde000-7ffffffff000 rw-p 00000000 00:00 0                          [stack]
7ffff7fc3000-7ffff7fc5000 rw-p 00000000 00:00 0                          [vvar]
ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0                  [vsyscall]
nonsense
zzz-yyy rw-p 00000000 00:00 0
"""
PAGE = 4096


def test_private_memory_without_a_file() -> None:
    """Heap, stacks and what was mapped, largest first; no file, nothing shared, nothing of the kernel's own."""
    assert parse_anonymous(MAPS) == [
        (0x7FFFF0000000, 0x8000000),
        (0x55555555B000, 0x21000),
        (0x7FFFFFFDE000, 0x21000),
    ]


@given(data=st.binary(max_size=300))
def test_arbitrary_bytes(data: bytes) -> None:
    """Never an error, never an empty range."""
    assert all(length > 0 for _, length in parse_anonymous(data))


def test_own_map() -> None:
    """A mapping of ours is among them."""
    with mmap.mmap(-1, 64 << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as block:
        block[0] = 1
        found = parse_anonymous(Path(f"/proc/{os.getpid()}/maps").read_bytes())
    assert any(length >= 64 << 20 for _, length in found)


@given(
    lengths=st.lists(st.integers(1, 50), max_size=10),
    most=st.integers(1, 20),
)
def test_pieces(lengths: list[int], most: int) -> None:
    """Together they are all of it, in its order; none is larger than asked for, and all but the last are full."""
    ranges = [(1000 * number * PAGE, length * PAGE) for number, length in enumerate(lengths)]
    pieces = cut(ranges, most * PAGE)
    pages = [address + at for piece in pieces for address, length in piece for at in range(0, length, PAGE)]
    assert pages == [address + at for address, length in ranges for at in range(0, length, PAGE)]
    sizes = [sum(length for _, length in piece) for piece in pieces]
    assert all(size == most * PAGE for size in sizes[:-1])
    assert all(0 < size <= most * PAGE for size in sizes)

"""/proc/PID/maps: what can be swapped out, and shared memory without a name."""

from __future__ import annotations

import mmap
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oomd.kernel.maps import MOST_BYTES, cut, parse_anonymous, parse_code, parse_unnamed_shmem, read_maps
from tests.kernel.arbitrary import captured, mangled

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
MIB = 1 << 20
INTERNAL, SHM = b"00:01", b"00:1b"


def test_private_memory_without_a_file() -> None:
    """Heap, stacks and what was mapped, largest first; no file, nothing shared, nothing of the kernel's own."""
    assert parse_anonymous(MAPS) == [
        (0x7FFFF0000000, 0x8000000),
        (0x55555555B000, 0x21000),
        (0x7FFFFFFDE000, 0x21000),
    ]


@given(data=st.binary(max_size=300))
def test_arbitrary_bytes_have_no_empty_range(data: bytes) -> None:
    """Never an error, never an empty range."""
    assert all(length > 0 for _, length in parse_anonymous(data))


def test_where_code_lies() -> None:
    """Of the library that is meant, whatever its folder and version; neither its data nor another's code."""
    text = b"""7f00-7f40 r--p 00000000 fe:00 9 /usr/lib/libm.so.6
7f40-7fa0 r-xp 00000040 fe:00 9 /usr/lib/libm.so.6
7fa0-7fb0 rw-p 000000a0 fe:00 9 /usr/lib/libm.so.6
8000-8010 r-xp 00000000 fe:00 8 /libm.so/libc.so.6
9000-9010 r-xp 00000000 00:00 0
a000-a010 r-xp 00000000 fe:00 7 /a b/libm.so.7 (deleted)
"""
    assert parse_code(text, b"libm.so") == [(0x7F40, 0x7FA0), (0xA000, 0xA010)]
    assert parse_code(Path("/proc/self/maps").read_bytes(), b"libc.so")


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


def test_captured_maps() -> None:
    """memfd (mapped three times, as ZGC does, and counted once), anonymous, and a POSIX object whose name is gone; not
    one that has its name yet, not what shmget(2) made, no file.
    """
    assert parse_unnamed_shmem(captured("maps")) == {
        (SHM, b"3"): 8 * MIB,
        (INTERNAL, b"5308"): 32 * MIB,
        (INTERNAL, b"5307"): 64 * MIB,
    }


def test_parts_of_one_object() -> None:
    """Mapped piece by piece: from the first to the last."""
    lines = (
        b"10000-20000 rw-s 00000000 00:01 7                          /memfd:x\n"
        b"90000-a0000 r--s 00030000 00:01 7                          /memfd:x\n"
    )
    assert parse_unnamed_shmem(lines) == {(INTERNAL, b"7"): 0x40000}


@given(st.binary(max_size=400) | mangled("maps"))
def test_arbitrary_bytes(data: bytes) -> None:
    """Whatever the file holds, there is an answer, and no size in it is below zero."""
    assert all(size >= 0 for size in parse_unnamed_shmem(data).values())


def test_own_mappings() -> None:
    """The real file of this process; of one that is not there an error."""
    fd = os.memfd_create("oomd-test")
    os.ftruncate(fd, 3 * MIB)
    proc_fd = os.open("/proc", os.O_RDONLY | os.O_DIRECTORY)
    with mmap.mmap(fd, 3 * MIB):
        found = parse_unnamed_shmem(read_maps(proc_fd, os.getpid()))
        assert {inode: size for (_, inode), size in found.items()}[str(os.fstat(fd).st_ino).encode()] == 3 * MIB
    with pytest.raises(OSError, match="No such file"):
        read_maps(proc_fd, 2**22 + 1)
    os.close(proc_fd)
    os.close(fd)


def test_endless_maps(tmp_path: Path) -> None:
    """Of a process with mappings without end only the first are looked at."""
    (tmp_path / "7").mkdir()
    (tmp_path / "7" / "maps").write_bytes(b"x" * (3 * MOST_BYTES))
    fd = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    assert MOST_BYTES <= len(read_maps(fd, 7)) < 2 * MOST_BYTES
    os.close(fd)

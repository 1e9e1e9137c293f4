"""/proc/PID/maps: shared memory without a name."""

from __future__ import annotations

import mmap
import os
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oomd.kernel.maps import MOST_BYTES, parse_unnamed_shmem, read_maps
from tests.kernel.arbitrary import captured, mangled

if TYPE_CHECKING:
    from pathlib import Path

MIB = 1 << 20
INTERNAL, SHM = b"00:01", b"00:1b"


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

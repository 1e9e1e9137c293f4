"""The files of one cgroup: their parsers."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oomd.kernel import cgroup_files
from oomd.kernel.files import KernelFormatError
from oomd.model.snapshot import DeviceIo

if TYPE_CHECKING:
    from pathlib import Path

PARSERS = (
    cgroup_files.parse_memory_stat,
    cgroup_files.parse_populated,
    cgroup_files.parse_dying_descendants,
    cgroup_files.parse_io_stat,
    cgroup_files.parse_pids,
    lambda data: cgroup_files.parse_amount(data, "memory.max"),
    lambda data: cgroup_files.parse_protection(data, "memory.low"),
)


def test_memory_stat_by_whole_keys() -> None:
    """A key is found only as a whole word at the beginning of its line, and what the kernel lacks is left out."""
    data = b"anon 10\nfile 20\ninactive_anon 7\npgscan 5\npgscan_kswapd 3\nworkingset_refault_file 2\n"
    assert cgroup_files.parse_memory_stat(data) == {
        "anon_bytes": 10,
        "file_bytes": 20,
        "inactive_anon_bytes": 7,
        "pgscan": 5,
        "refault_file": 2,
    }


def test_limits_and_protections() -> None:
    """``max`` is no limit, and a protection without end."""
    assert cgroup_files.parse_amount(b"max\n", "memory.max") is None
    assert cgroup_files.parse_amount(b"4096\n", "memory.max") == 4096
    assert cgroup_files.parse_protection(b"max\n", "memory.min") == cgroup_files.NO_LIMIT
    assert cgroup_files.parse_protection(b"0\n", "memory.min") == 0


def test_io_stat_of_several_devices() -> None:
    """Six counters for each device; other words and bare devices are passed over."""
    data = b"8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=5 dios=6 cost.usage=9\n253:0\n8:16 rbytes=7\n"
    assert cgroup_files.parse_io_stat(data) == (DeviceIo("8:0", 1, 2, 3, 4, 5, 6), DeviceIo("8:16", 7))


def test_events_stat_and_procs() -> None:
    """populated, dying descendants, and pids without those of other namespaces."""
    assert cgroup_files.parse_populated(b"populated 1\nfrozen 0\n")
    assert not cgroup_files.parse_populated(b"populated 0\n")
    assert cgroup_files.parse_dying_descendants(b"nr_descendants 3\nnr_dying_descendants 30\n") == 30
    assert cgroup_files.parse_pids(b"12\n0\n7\n") == (12, 7)
    with pytest.raises(KernelFormatError, match=r"cgroup\.events: populated"):
        cgroup_files.parse_populated(b"frozen 0\n")


@given(st.binary(max_size=300), st.sampled_from(PARSERS))
def test_arbitrary_bytes_give_a_value_or_a_format_error(data: bytes, parse: object) -> None:
    """No file, however broken, raises anything else."""
    assert callable(parse)
    with contextlib.suppress(KernelFormatError):
        parse(data)


def test_marks_are_read_where_the_file_system_has_them(tmp_path: Path) -> None:
    """The known marks with their text; other attributes are none of our business."""
    for name, value in (("user.oomd_avoid", b"1"), ("user.other", b"x")):
        try:
            os.setxattr(tmp_path, name, value)
        except OSError:
            assert cgroup_files.read_marks(os.open(tmp_path, os.O_RDONLY)) == ()
            return
    fd = os.open(tmp_path, os.O_RDONLY)
    assert cgroup_files.read_marks(fd) == (("user.oomd_avoid", "1"),)
    os.close(fd)

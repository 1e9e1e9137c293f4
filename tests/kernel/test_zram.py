"""mm_stat of zram devices."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oomd.kernel.files import KernelFormatError
from oomd.kernel.zram import open_devices, parse_mm_stat
from oomd.model.snapshot import Zram

if TYPE_CHECKING:
    from pathlib import Path


def test_columns() -> None:
    """Sizes in bytes, pages turned into bytes; before 4.17 there is no column of huge pages."""
    line = b"  1000000   300000   400000        0   500000       10        3        7        2\n"
    assert parse_mm_stat(line, 4096) == Zram(1000000, 300000, 400000, 40960, 28672)
    assert parse_mm_stat(b"1 2 3 4 5 6 7\n", 4096).huge_bytes == 0
    with pytest.raises(KernelFormatError, match="mm_stat"):
        parse_mm_stat(b"1 2 3\n", 4096)


@given(st.binary(max_size=100))
def test_arbitrary_bytes(data: bytes) -> None:
    """A value or a format error, nothing else."""
    with contextlib.suppress(KernelFormatError):
        assert parse_mm_stat(data, 4096).original_bytes >= 0


def test_devices_are_found_and_kept_open(tmp_path: Path) -> None:
    """Every zram device and no other; none where there is no sysfs."""
    assert open_devices(str(tmp_path)) == []
    for name in ("zram0", "zram1", "sda"):
        (tmp_path / "block" / name).mkdir(parents=True)
        (tmp_path / "block" / name / "mm_stat").write_text("1 2 3 4 5 6 7 8\n")
    (tmp_path / "block" / "zram2").mkdir()
    files = open_devices(str(tmp_path))
    assert [file.path.split("/")[-2] for file in files] == ["zram0", "zram1"]
    for file in files:
        file.close()

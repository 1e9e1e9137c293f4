"""parse_swaps."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from oomd.kernel.files import KernelFormatError
from oomd.kernel.swaps import SwapDevice, parse_swaps
from tests.kernel.arbitrary import captured, mangled, survives

HEADING = b"Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n"


def test_no_swap() -> None:
    """Only the heading means no swap; so does an empty file."""
    assert parse_swaps(captured("swaps_none")) == ()
    assert parse_swaps(b"") == ()


def test_areas() -> None:
    """Areas keep the kernel's order, sizes are bytes, escaped spaces are spaces, and the kind tells
    compressed memory apart.
    """
    data = HEADING + (
        b"/dev/zram0                              partition\t4194300\t\t1024\t\t100\n"
        b"/swap\\040file\\040(deleted)                file\t\t8388604\t\t0\t\t-2\n"
        b"/dev/nvme0n1p3                          partition\t16777212\t0\t\t-3\n"
    )
    zram, file, disk = parse_swaps(data)
    assert zram == SwapDevice("/dev/zram0", "partition", 4194300 * 1024, 1024 * 1024, 100)
    assert (file.name, file.used_bytes, file.priority) == ("/swap file (deleted)", 0, -2)
    assert [zram.kind, file.kind, disk.kind] == ["zram", "file", "disk"]


@given(st.binary(min_size=1, max_size=20).map(lambda name: name.replace(b"\0", b"0")))
def test_hostile_names(name: bytes) -> None:
    """A file may be called anything: spaces, newlines, bytes that are no text."""
    escaped = b"".join(b"\\%03o" % byte if byte in b" \t\n\\" else bytes((byte,)) for byte in b"/" + name)
    # mangle_path in the kernel escapes these four only; other white space of split() must not part the name
    # either.
    areas = parse_swaps(HEADING + escaped + b" file\t\t100\t\t50\t\t-2\n")
    assert [(area.size_bytes, area.used_bytes) for area in areas] == [(102400, 51200)]
    assert areas[0].name == (b"/" + name).decode("utf-8", "backslashreplace")


@pytest.mark.parametrize("line", [b"/dev/sda1 partition 1 2\n", b"/dev/sda1 partition x 0 1\n", b"a b 1 2 x\n"])
def test_malformed_line(line: bytes) -> None:
    """A line without its five columns or with a column that is no number is an error."""
    with pytest.raises(KernelFormatError, match="/proc/swaps"):
        parse_swaps(HEADING + line)


def test_this_machine() -> None:
    """The areas of the real file add up to what psutil says."""
    areas = parse_swaps(Path("/proc/swaps").read_bytes())
    assert sum(area.size_bytes for area in areas) == psutil.swap_memory().total


@given(mangled("swaps_none"))
def test_arbitrary_bytes(data: bytes) -> None:
    """F19: anything gives a value or KernelFormatError."""
    assert survives(parse_swaps, data)
    assert survives(parse_swaps, HEADING + data)

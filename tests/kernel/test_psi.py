"""Pressure: parsers and the trigger."""

from __future__ import annotations

import errno
import os
import select
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oomd.kernel.features import probe_features
from oomd.kernel.files import KernelFormatError
from oomd.kernel.psi import MEMORY_PRESSURE, PressureLine, open_trigger, parse_pressure, parse_totals
from tests.descriptors import open_descriptors, opened_since
from tests.kernel.arbitrary import captured, mangled, survives

STALLED = (
    b"some avg10=12.34 avg60=5.00 avg300=0.07 total=4212345678\n"
    b"full avg10=100.00 avg60=4.50 avg300=0.00 total=3000000001\n"
)


def test_totals() -> None:
    """Both totals are the kernel's microseconds."""
    assert parse_totals(STALLED) == (4212345678, 3000000001)
    assert parse_totals(captured("pressure")) == (0, 0)


def test_totals_without_full() -> None:
    """A file without the full line (as for the CPU on older kernels) has no full stall."""
    assert parse_totals(STALLED.partition(b"\n")[0] + b"\n") == (4212345678, 0)


@given(st.integers(0, 1 << 63), st.integers(0, 1 << 63))
def test_totals_of_any_size(some_us: int, full_us: int) -> None:
    """Stall of any length is read exactly."""
    average = b"avg10=0.00 avg60=0.00 avg300=0.00"
    data = b"some %b total=%d\nfull %b total=%d\n" % (average, some_us, average, full_us)
    assert parse_totals(data) == (some_us, full_us)
    pressure = parse_pressure(data)
    assert pressure.full is not None
    assert (pressure.some.total_us, pressure.full.total_us) == (some_us, full_us)


def test_averages_are_fractions() -> None:
    """Averages are fractions of 1, not per cent."""
    pressure = parse_pressure(STALLED)
    assert pressure.some == PressureLine(avg10=0.1234, avg60=0.05, avg300=0.0007, total_us=4212345678)
    assert pressure.full == PressureLine(avg10=1.0, avg60=0.045, avg300=0.0, total_us=3000000001)
    assert parse_pressure(STALLED.partition(b"\n")[0]).full is None


@pytest.mark.parametrize("data", [b"", b"full avg10=0.00 avg60=0.00 avg300=0.00 total=0\n", b"some nothing\n"])
def test_no_some_line(data: bytes) -> None:
    """F19: without a some line there is no value."""
    for parse in (parse_totals, parse_pressure):
        with pytest.raises(KernelFormatError, match="some"):
            parse(data)


def test_this_machine() -> None:
    """Both readings of the real file agree, and stall never shrinks."""
    if not probe_features().psi:
        assert not Path(MEMORY_PRESSURE).exists() or not os.access(MEMORY_PRESSURE, os.R_OK)
        return
    first = parse_totals(Path(MEMORY_PRESSURE).read_bytes())
    pressure = parse_pressure(Path(MEMORY_PRESSURE).read_bytes())
    assert pressure.full is not None
    assert first[0] <= pressure.some.total_us
    assert first[1] <= pressure.full.total_us <= pressure.some.total_us


def test_trigger() -> None:
    """A trigger with a window that needs no privilege opens, is not inherited, does not block, and is no
    error to poll.
    """
    if not probe_features().psi_trigger:
        with pytest.raises(OSError, match=r"\[Errno"):
            open_trigger(MEMORY_PRESSURE, "some", 150_000, 2_000_000)
        return
    fd = open_trigger(MEMORY_PRESSURE, "some", 150_000, 2_000_000)
    try:
        assert not os.get_inheritable(fd)
        assert not os.get_blocking(fd)
        poll = select.poll()
        poll.register(fd, select.POLLPRI)
        assert not any(event & select.POLLERR for _, event in poll.poll(0))
    finally:
        os.close(fd)


def test_refused_trigger_leaves_no_descriptor() -> None:
    """F19: a threshold longer than its window is refused with the kernel's error, and the file is closed
    again.
    """
    before = open_descriptors()
    with pytest.raises(OSError, match=r"\[Errno") as caught:
        open_trigger(MEMORY_PRESSURE, "some", 3_000_000, 2_000_000)
    assert caught.value.errno in (errno.EINVAL, errno.ENOENT, errno.EOPNOTSUPP, errno.EACCES, errno.EROFS)
    assert opened_since(before) == []


def test_trigger_where_psi_is_off(tmp_path: Path) -> None:
    """A kernel without PSI has no such file: FileNotFoundError."""
    with pytest.raises(FileNotFoundError):
        open_trigger(str(tmp_path / "memory"), "full", 150_000, 2_000_000)


def test_what_is_written_to_the_kernel(tmp_path: Path) -> None:
    """The kernel gets kind, threshold and window in microseconds, with a NUL at the end."""
    path = tmp_path / "memory"
    path.write_bytes(b"")
    os.close(open_trigger(str(path), "full", 150_000, 2_000_000))
    assert path.read_bytes() == b"full 150000 2000000\0"


@given(mangled("pressure"))
def test_arbitrary_bytes(data: bytes) -> None:
    """F19: anything gives a value or KernelFormatError."""
    assert survives(parse_totals, data)
    assert survives(parse_pressure, data)

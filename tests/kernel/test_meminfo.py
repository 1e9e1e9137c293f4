"""parse_meminfo."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest
from hypothesis import given

from oomd.kernel.meminfo import KernelFormatError, parse_available, parse_meminfo, parse_swap_free
from tests.kernel.arbitrary import captured, mangled, survives

KIB = 1024


def test_captured_file() -> None:
    """Every field has the value of its line, in bytes."""
    lines = {line.split(b":")[0]: int(line.split()[1]) for line in captured("meminfo").splitlines()}
    meminfo = parse_meminfo(captured("meminfo"))
    assert meminfo.mem_total_bytes == lines[b"MemTotal"] * KIB
    assert meminfo.mem_free_bytes == lines[b"MemFree"] * KIB
    assert meminfo.mem_available_bytes == lines[b"MemAvailable"] * KIB
    assert meminfo.active_file_bytes == lines[b"Active(file)"] * KIB
    assert meminfo.inactive_file_bytes == lines[b"Inactive(file)"] * KIB
    assert meminfo.swap_total_bytes == lines[b"SwapTotal"] * KIB
    assert meminfo.swap_free_bytes == lines[b"SwapFree"] * KIB
    assert meminfo.anon_pages_bytes == lines[b"AnonPages"] * KIB
    assert meminfo.shmem_bytes == lines[b"Shmem"] * KIB
    assert meminfo.slab_unreclaimable_bytes == lines[b"SUnreclaim"] * KIB
    assert meminfo.commit_limit_bytes == lines[b"CommitLimit"] * KIB
    assert meminfo.committed_as_bytes == lines[b"Committed_AS"] * KIB


def test_single_fields() -> None:
    """Read alone they are what they are among all others; MemAvailable there must be."""
    data = captured("meminfo")
    meminfo = parse_meminfo(data)
    assert (parse_available(data), parse_swap_free(data)) == (meminfo.mem_available_bytes, meminfo.swap_free_bytes)
    assert parse_swap_free(b"MemTotal: 10 kB\n") == 0
    with pytest.raises(KernelFormatError, match="/proc/meminfo: MemAvailable "):
        parse_available(b"MemTotal: 10 kB\nMemFree: 4 kB\n")


def test_this_machine() -> None:
    """The real file gives what psutil makes of it."""
    meminfo = parse_meminfo(Path("/proc/meminfo").read_bytes())
    assert meminfo.mem_total_bytes == psutil.virtual_memory().total
    assert meminfo.swap_total_bytes == psutil.swap_memory().total
    assert 0 < meminfo.mem_available_bytes <= meminfo.mem_total_bytes


@pytest.mark.parametrize("field", ["MemTotal", "MemFree", "MemAvailable"])
def test_needed_field_is_missing(field: str) -> None:
    """F19: without what decides there is no value, and the error names the file and the field."""
    data = b"".join(line for line in captured("meminfo").splitlines(True) if not line.startswith(field.encode()))
    with pytest.raises(KernelFormatError, match=f"/proc/meminfo: {field} "):
        parse_meminfo(data)


def test_swap_without_its_free_part() -> None:
    """Where there is swap, a file that does not tell how much of it is free is refused: it would read as full."""
    needed = b"MemTotal: 10 kB\nMemFree: 4 kB\nMemAvailable: 6 kB\n"
    assert parse_meminfo(needed + b"SwapTotal: 0 kB\n").swap_free_bytes == 0
    with pytest.raises(KernelFormatError, match="/proc/meminfo: SwapFree "):
        parse_meminfo(needed + b"SwapTotal: 8 kB\n")


def test_optional_fields_are_missing() -> None:
    """F19: what other kernels lack is 0; a short file of a container's own (lxcfs) is read."""
    meminfo = parse_meminfo(b"MemTotal: 10 kB\nMemFree: 4 kB\nMemAvailable: 6 kB\n")
    assert (meminfo.mem_total_bytes, meminfo.mem_free_bytes, meminfo.mem_available_bytes) == (10240, 4096, 6144)
    assert (meminfo.swap_total_bytes, meminfo.anon_pages_bytes, meminfo.shmem_bytes) == (0, 0, 0)


def test_lines_in_any_order() -> None:
    """Which line stands where depends on the kernel."""
    lines = captured("meminfo").splitlines(True)
    for turned in (lines[::-1], lines[20:] + lines[:20]):
        assert parse_meminfo(b"".join(turned)) == parse_meminfo(captured("meminfo"))


@pytest.mark.parametrize("text", [b"x kB", b"-5 kB", b"5", b"", b"5 MB"])
def test_a_field_that_is_no_number(text: bytes) -> None:
    """F19: it is named, be it an optional one."""
    needed = b"MemTotal: 10 kB\nMemFree: 4 kB\nMemAvailable: 6 kB\n"
    with pytest.raises(KernelFormatError, match="/proc/meminfo: Shmem "):
        parse_meminfo(needed + b"Shmem: " + text + b"\n")


@given(mangled("meminfo"))
def test_arbitrary_bytes(data: bytes) -> None:
    """F19: anything gives a value or KernelFormatError."""
    assert survives(parse_meminfo, data)

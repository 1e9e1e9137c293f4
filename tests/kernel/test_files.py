"""KernelFile and what the parsers share."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oomd.kernel.files import (
    MARGIN_BYTES,
    PAGE_BYTES,
    KernelFile,
    KernelFormatError,
    find_kib,
    find_number,
    parse_number,
    unescape_octal,
)
from tests.kernel.children import HOLD_32_MIB, child, said


def test_reads_again_what_the_file_says_now(tmp_path: Path) -> None:
    """The file stays open and each read begins at its start, be it longer or shorter than before."""
    path = tmp_path / "file"
    path.write_bytes(b"first")
    with KernelFile(str(path)) as file:
        assert file.read() == b"first"
        path.write_bytes(b"second and longer")
        assert file.read() == b"second and longer"
        path.write_bytes(b"3")
        assert file.read() == b"3"


@pytest.mark.parametrize("single_record", [False, True])
@given(data=st.binary(max_size=200), size=st.integers(1, 64))
def test_the_buffer_grows_with_the_file(
    tmp_path_factory: pytest.TempPathFactory, single_record: bool, data: bytes, size: int
) -> None:
    """Whatever the size made ready, the whole file is read."""
    path = tmp_path_factory.mktemp("grow") / "file"
    path.write_bytes(data)
    with KernelFile(str(path), size=size, single_record=single_record) as file:
        assert file.read() == data
        assert file.read() == data


@pytest.mark.parametrize("name", ["vmstat", "zoneinfo", "swaps", "meminfo", "self/status", "self/mountinfo"])
@pytest.mark.parametrize("size", [64, 16384])
def test_real_files_are_read_to_their_end(name: str, size: int) -> None:
    """Files of many records, which come a page at a time, have the same lines as when the standard library
    reads them.
    """
    with KernelFile(f"/proc/{name}", size=size) as file:
        data = file.read()
    whole = Path(f"/proc/{name}").read_bytes()
    assert [line.split()[:1] for line in data.splitlines()] == [line.split()[:1] for line in whole.splitlines()]
    assert data.endswith(b"\n")


def test_a_first_read_that_holds_what_is_wanted_is_enough(tmp_path: Path) -> None:
    """All of the line; else the file is read to its end, and what is not there is not waited for."""
    path = tmp_path / "file"
    text = b"".join(b"name_%d %d\n" % (number, number) for number in range(40))
    path.write_bytes(text)
    wanted = b"\nname_5 "
    end = text.index(b"\n", text.index(wanted) + 1) + 1
    for size in range(8, len(text) + 8):
        with KernelFile(str(path), size=size, enough=wanted) as file:
            read = file.read()
            assert read == (text[:size] if size >= end else text)
            again = file.read()
            assert read.startswith(again)
            assert len(again) >= end if size >= end else again == text
    with KernelFile(str(path), size=64, enough=b"\nnothing ") as file:
        assert file.read() == text


def test_no_more_is_asked_for_than_is_wanted(tmp_path: Path) -> None:
    """Once it is known where that lies; when it has moved too far for that, it is found again."""
    path = tmp_path / "file"
    before, wanted, after = b"first 1\n", b"wanted 2\n", b"other 3\n" * 200
    path.write_bytes(before + wanted + after)
    with KernelFile(str(path), enough=b"\nwanted ") as file:
        assert file.read() == before + wanted + after
        assert file.read() == (before + wanted + after)[: len(before + wanted) - 1 + MARGIN_BYTES]
        before *= 100
        path.write_bytes(before + wanted + after)
        assert file.read().startswith(before + wanted)
        assert len(file.read()) == len(before + wanted) - 1 + MARGIN_BYTES


def test_path_relative_to_a_directory() -> None:
    """A path may be relative to a descriptor of /proc."""
    proc = os.open("/proc", os.O_RDONLY | os.O_DIRECTORY)
    try:
        with KernelFile(f"{os.getpid()}/stat", dir_fd=proc) as file:
            assert file.read().startswith(b"%d (" % os.getpid())
    finally:
        os.close(proc)


def test_descriptor_is_not_inherited() -> None:
    """No child gets the descriptor, and fileno tells it."""
    with KernelFile("/proc/meminfo") as file:
        assert not os.get_inheritable(file.fileno())


def test_closed_file() -> None:
    """Closing twice is harmless, and a closed file says EBADF instead of reading somebody else's descriptor."""
    file = KernelFile("/proc/meminfo")
    file.close()
    file.close()
    assert file.fileno() == -1
    with pytest.raises(OSError, match="descriptor") as caught:
        file.read()
    assert caught.value.errno == errno.EBADF


def test_absent_file() -> None:
    """A file that is not there is FileNotFoundError, as the kernel gives it."""
    with pytest.raises(FileNotFoundError):
        KernelFile("/proc/no-such-file")


def test_kept_statm_never_shows_another_process() -> None:
    """F11: a kept statm reads as zeros for a zombie and ESRCH once it was reaped, never as whoever has the
    pid later.
    """
    with child(HOLD_32_MIB) as process:
        said(process)
        with KernelFile(f"/proc/{process.pid}/statm", size=128, single_record=True) as file:
            assert int(file.read().split()[1]) * PAGE_BYTES > 32 << 20
            process.kill()
            os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
            assert set(file.read().split()) == {b"0"}
            process.wait()
            with pytest.raises(ProcessLookupError):
                file.read()


@given(value=st.integers(0, 1 << 64))
def test_numbers_are_read(value: int) -> None:
    """What the kernel prints as a number is that number, with and without a unit."""
    data = b"\nA:\t %d\nB: %d kB\n" % (value, value)
    assert parse_number(b" %d " % value, "file", "field") == value
    assert find_number(data, b"\nA:", "file") == value
    assert find_kib(data, b"\nB:", "file") == value * 1024


@pytest.mark.parametrize("line", [b"A: -1\n", b"A: x\n", b"A:\n", b"A: 1", b"A: 1 2\n"])
def test_malformed_number(line: bytes) -> None:
    """A line that holds no number, is negative or was cut off is an error that names the file and the field."""
    with pytest.raises(KernelFormatError) as caught:
        find_number(b"\n" + line, b"\nA:", "/proc/file")
    assert (caught.value.file, caught.value.field) == ("/proc/file", "A")
    with pytest.raises(KernelFormatError):
        find_kib(b"\n" + line.replace(b"\n", b" kB\n"), b"\nA:", "/proc/file")


def test_absent_line() -> None:
    """An absent line is its default, or an error where there is none; only whole lines count."""
    assert find_number(b"\nBA: 1\n", b"\nA:", "file", default=7) == 7
    assert find_kib(b"\nBA: 1 kB\n", b"\nA:", "file", default=7) == 7
    for find in (find_number, find_kib):
        with pytest.raises(KernelFormatError, match="/proc/file: A"):
            find(b"\n", b"\nA:", "/proc/file")


@given(st.binary())
def test_octal_escapes(name: bytes) -> None:
    """Every name comes back from the form in which mountinfo and swaps give it."""
    escaped = b"".join(b"\\%03o" % byte if byte in b" \t\n\\" else bytes((byte,)) for byte in name)
    assert unescape_octal(escaped) == name


@given(st.binary())
def test_octal_escapes_of_anything(name: bytes) -> None:
    """Bytes that are no escape at all are left alone."""
    assert len(unescape_octal(name)) <= len(name)

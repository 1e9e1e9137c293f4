"""What is kept for the next outside process, in real memory files."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as some

from oomd.outside.ledger import PLACE_BYTES, Ledger

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def memory_file() -> Iterator[int]:
    """As the killer makes it."""
    fd = os.memfd_create("ledger")
    try:
        yield fd
    finally:
        os.close(fd)


def test_the_last_that_was_kept_is_found_by_the_next() -> None:
    """Whatever the parity of the writes; one page never costs another."""
    with memory_file() as fd:
        assert Ledger(fd).page("kills") == {}
        assert Ledger(fd).keep("names", {"a": [1, "b", None]})
        for number in range(1, 6):
            assert Ledger(fd).keep("kills", {"number": number})
            assert Ledger(fd).page("kills") == {"number": number}
        assert Ledger(fd).page("names") == {"a": [1, "b", None]}


def test_a_write_that_was_cut_short_leaves_the_one_before() -> None:
    """The writer was killed in the middle: at every length of what got there."""
    with memory_file() as fd:
        ledger = Ledger(fd)
        ledger.keep("kills", {"number": 1})
        ledger.keep("kills", {"number": 2})
        place = 0 if os.pread(fd, 8, 0) > os.pread(fd, 8, PLACE_BYTES) else PLACE_BYTES
        whole = os.pread(fd, 64, place)
        for length in range(15, 30):
            os.pwrite(fd, b"\xff" * 64, place)
            os.pwrite(fd, whole[:length], place)
            assert Ledger(fd).page("kills") == {"number": 1}
        os.pwrite(fd, whole, place)
        assert Ledger(fd).page("kills") == {"number": 2}


def test_what_is_too_large_is_not_kept() -> None:
    """And harms nothing that was."""
    with memory_file() as fd:
        ledger = Ledger(fd)
        assert ledger.keep("kills", {"number": 1})
        assert not ledger.keep("names", {"a": "x" * PLACE_BYTES})
        assert ledger.keep("others", {})
        assert (Ledger(fd).page("kills"), Ledger(fd).page("names")) == ({"number": 1}, {})


def test_without_a_file_nothing_is_kept_and_nothing_fails() -> None:
    """``python -m oomd.outside.main`` by hand has none."""
    assert not Ledger(-1).keep("kills", {"number": 1})
    assert Ledger(-1).page("kills") == {}


@given(some.binary(max_size=200), some.binary(max_size=200))
def test_arbitrary_bytes_are_no_ledger(first: bytes, second: bytes) -> None:
    """Never an exception, and never anything that nobody kept."""
    with memory_file() as fd:
        os.pwrite(fd, first, 0)
        os.pwrite(fd, second, PLACE_BYTES)
        assert Ledger(fd).page("kills") == {}

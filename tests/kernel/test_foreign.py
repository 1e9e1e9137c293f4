"""What stands in for ctypes is as ctypes is."""

from __future__ import annotations

import ctypes
import errno
import os

import pytest

from oomd.kernel import foreign

TYPES = ("c_char", "c_char_p", "c_int", "c_long", "c_size_t", "c_uint", "c_ulong", "c_void_p")


@pytest.mark.parametrize("name", TYPES)
def test_types_are_as_wide_as_the_real_ones(name: str) -> None:
    """Here; that size_t is as wide as long is so on every Linux."""
    assert foreign.sizeof(getattr(foreign, name)) == ctypes.sizeof(getattr(ctypes, name))


@pytest.mark.parametrize("library", [foreign.CDLL, foreign.PyDLL])
def test_calls(library: type[foreign.CDLL]) -> None:
    """Each function has a signature of its own; what it leaves in errno is told; what is not there is told."""
    libc = library(None, use_errno=True)
    one, other = libc["dup"], libc["dup"]
    one.argtypes, one.restype = (foreign.c_int,), foreign.c_long
    assert one(-1) == -1
    assert foreign.get_errno() == errno.EBADF
    assert one is not other
    assert other.argtypes != one.argtypes
    copy = one(0)
    os.close(copy)
    with pytest.raises(AttributeError):
        libc["no_such_function"]


def test_a_buffer_ends_with_a_zero() -> None:
    """As C wants it."""
    buffer = foreign.create_string_buffer(b"oomd")
    assert bytes(buffer) == b"oomd\0" == bytes(ctypes.create_string_buffer(b"oomd"))
    assert foreign.addressof(buffer) == ctypes.addressof(buffer)

"""The part of ``ctypes`` that system calls need, under its names, on the C module beneath it: the package around that
brings ``struct``, structures of either byte order and loaders, which would be a fiftieth of the killer's memory.

Only oomd/kernel/syscalls.py knows of this; a type checker sees the real one there.
"""

from __future__ import annotations

import _ctypes
from _ctypes import FUNCFLAG_CDECL, FUNCFLAG_PYTHONAPI, FUNCFLAG_USE_ERRNO, _SimpleCData, addressof, get_errno, sizeof

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["CDLL", "PyDLL", "addressof", "create_string_buffer", "get_errno", "sizeof"]

_c: Any = _ctypes
_data: Any = _SimpleCData
"""Types are made by calling the metaclass, which no stub knows."""


def _simple(letter: str) -> Any:  # noqa: ANN401 - the class that ctypes has
    """A type of C by its letter in ``struct``."""
    return type(_data)(f"c_{letter}", (_data,), {"_type_": letter})


c_char = _simple("c")
c_char_p = _simple("z")
c_int = _simple("i")
c_long = _simple("l")
c_uint = _simple("I")
c_ulong = c_size_t = _simple("L")
"""As wide as each other wherever Linux runs."""
c_void_p = _simple("P")


def create_string_buffer(text: bytes) -> Any:  # noqa: ANN401 - an array
    """These bytes, and a zero after them."""
    buffer = (c_char * (len(text) + 1))()
    buffer.value = text
    return buffer


class CDLL:
    """A library, opened. Each subscription makes a function with a signature of its own, which returns an int; a call
    lets other threads run.
    """

    flags = FUNCFLAG_CDECL

    def __init__(self, name: str | None, *, use_errno: bool) -> None:
        self._handle = _c.dlopen(name, 0)
        flags = self.flags | (FUNCFLAG_USE_ERRNO if use_errno else 0)
        self._function = type(_c.CFuncPtr)("Function", (_c.CFuncPtr,), {"_flags_": flags, "_restype_": c_int})

    def __getitem__(self, name: str) -> Any:  # noqa: ANN401 - a function of C
        """Raises AttributeError where it has none of this name."""
        return self._function((name, self))


class PyDLL(CDLL):
    """Where a call keeps the GIL."""

    flags = FUNCFLAG_CDECL | FUNCFLAG_PYTHONAPI

"""Bytes that no kernel would write, and the one thing that parsers may say about them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from hypothesis import strategies as st

from oomd.kernel.files import KernelFormatError

if TYPE_CHECKING:
    from collections.abc import Callable

FIXTURES = Path(__file__).parent.parent / "fixtures" / "kernel"


def captured(name: str) -> bytes:
    """A file that a 6.18 kernel wrote."""
    return (FIXTURES / name).read_bytes()


@st.composite
def mangled(draw: st.DrawFn, *names: str) -> bytes:
    """Any bytes, or a captured file of which pieces were cut out and replaced by anything."""
    if draw(st.booleans()):
        return draw(st.binary(max_size=200))
    data = captured(draw(st.sampled_from(names)))
    for _ in range(draw(st.integers(1, 3))):
        start = draw(st.integers(0, len(data)))
        length = draw(st.integers(0, 40))
        filler = st.one_of(st.binary(max_size=8), st.sampled_from([b"-1", b"\n", b" kB", b"9" * 5000, b"_", b")"]))
        data = data[:start] + draw(filler) + data[start + length :]
    return data


def survives(parse: Callable[[bytes], object], data: bytes) -> bool:
    """Whether ``parse`` gave a value or said that the format is not the kernel's. Any other exception comes
    through.
    """
    try:
        parse(data)
    except KernelFormatError as error:
        return bool(error.file and error.field and error.file in str(error))
    return True

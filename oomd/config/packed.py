"""Plain values squeezed into bytes: what a recording tells of a crowd fits into a datagram so."""

from __future__ import annotations

import marshal
import zlib

TYPE_CHECKING = False
if TYPE_CHECKING:
    from oomd.model.report import Plain

MOST_BYTES = 16 << 20
"""Whoever unpacks takes no more than this."""
_FAST = 1


def pack(plain: list[Plain]) -> bytes:
    """marshal's bytes, compressed: of hundreds of like values a tenth is left."""
    return zlib.compress(marshal.dumps(plain), _FAST)


def inflate(data: bytes) -> bytes:
    """marshal's bytes again. Raises ValueError for what is not packed, was cut, or is larger than it may be."""
    inflater = zlib.decompressobj()
    try:
        plain = inflater.decompress(data, MOST_BYTES)
    except zlib.error as error:
        raise ValueError(str(error)) from None
    if not inflater.eof:
        raise ValueError("it was cut, or is too large")
    return plain

"""Plain values as datagrams of the link: marshal's bytes, looked through before they are read.

marshal.loads believes what it reads: five bytes can ask it for a tuple of two thousand million places, which it fills,
others for an object that holds itself. The killer has locked its memory, and must survive an outside process that has
gone mad; so what a datagram says it holds is first compared with what it can hold.
"""

from __future__ import annotations

import marshal

MOST_VALUES = 400_000
"""What is met again counts again: so much is what a reader may have to walk through."""
MOST_DEPTH = 100

_FLAG = 0x80
"""FLAG_REF: the object may be met again by its number."""
_NOTHING, _TEXT_1, _TEXT_4, _REF, _INT, _FLOAT, _BIG, _FEW, _MANY, _DICT, _END = range(1, 12)
_KINDS = bytearray(256)
for _signs, _kind in (
    (b"NTF", _NOTHING),
    (b"zZ", _TEXT_1),
    (b"sutaA", _TEXT_4),
    (b"r", _REF),
    (b"i", _INT),
    (b"g", _FLOAT),
    (b"l", _BIG),
    (b")", _FEW),
    (b"([<>", _MANY),
    (b"{", _DICT),
    (b"0", _END),
):
    for _sign in _signs:
        _KINDS[_sign] = _KINDS[_sign | _FLAG] = _kind


def loads(data: bytes) -> object:
    """The value that :func:`marshal.dumps` was given. Raises ValueError for anything that is not such bytes, is larger
    than it looks, or holds itself.
    """
    _look_through(data)
    try:
        return marshal.loads(data)  # noqa: S302 - from a process of our own, and looked through
    except (EOFError, TypeError) as error:
        raise ValueError(str(error)) from None


def _look_through(data: bytes) -> None:  # noqa: C901, PLR0912 - one loop over every byte, as short as it can be
    at, end, left, weight, number = 0, len(data), 1, 1, -1
    above: list[tuple[int, int, int]] = []  # of the containers around: values still to come (-1: any), weight, number
    weights: list[int] = []  # of what may be met again; 0 while it is not closed
    while left or above:
        if not left:
            if number >= 0:
                weights[number] = weight
            inner, (left, weight, number) = weight, above.pop()
            weight += inner
        elif at >= end or weight > MOST_VALUES:
            raise ValueError("it holds too much, or ends in the middle")
        else:
            code, place = data[at], -1
            kind = _KINDS[code]
            if code & _FLAG:
                place = len(weights)
                weights.append(1)
            at += 1
            left -= left > 0
            if kind == _REF:
                met = int.from_bytes(data[at : at + 4], "little")
                if met >= len(weights) or not weights[met]:
                    raise ValueError("it holds itself")
                at, weight = at + 4, weight + weights[met]
            elif kind >= _FEW:
                if kind == _END:
                    left = _ended(left)
                    continue
                above.append((left, weight, number))
                left, at = _opened(data, at, kind, len(above))
                weight, number = 1, place
                if place >= 0:
                    weights[place] = 0
            else:
                at, weight = _behind(data, at, kind), weight + 1
    if at != end:
        raise ValueError("it says that it is longer or shorter than it is")


def _behind(data: bytes, at: int, kind: int) -> int:
    """Behind a value that holds no others."""
    if kind == _TEXT_1:
        return at + 1 + data[at] if at < len(data) else at + 1
    if kind == _NOTHING:
        return at
    if kind == _INT:
        return at + 4
    if kind == _TEXT_4:
        return at + 4 + int.from_bytes(data[at : at + 4], "little")
    if kind == _FLOAT:
        return at + 8
    if kind == _BIG:
        return at + 4 + 2 * abs(int.from_bytes(data[at : at + 4], "little", signed=True))
    raise ValueError("it holds a value that is not plain")


def _opened(data: bytes, at: int, kind: int, depth: int) -> tuple[int, int]:
    """How many values a container says it has (-1: until its end), and where they begin."""
    if depth > MOST_DEPTH:
        raise ValueError("it is nested too deeply")
    if kind == _DICT:
        return -1, at
    width = 1 if kind == _FEW else 4
    count = int.from_bytes(data[at : at + width], "little")
    if count > len(data) - at:
        raise ValueError("it says that it holds more than its own bytes")
    return count, at + width


def _ended(left: int) -> int:
    if left >= 0:
        raise ValueError("an end of nothing")
    return 0

"""Datagrams of the link: what marshal writes is read back, everything else is refused before it costs anything."""

from __future__ import annotations

import marshal
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oomd.config.compiled import to_plain
from oomd.config.loader import load_config
from oomd.outside.plain import MOST_DEPTH, loads
from tests.outside.events import DECISION, OUTCOME

RULES = str(Path(__file__).parents[2] / "configs" / "rules.yaml")
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(1 << 80), 1 << 80),
    st.floats(allow_nan=False),
    st.text(max_size=300),
    st.binary(max_size=300),
)
KEYS = st.one_of(st.text(max_size=5), st.integers(0, 5))
PLAIN: Any = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=6),
        st.lists(inner, max_size=6).map(tuple),
        st.dictionaries(KEYS, inner, max_size=6),
        st.frozensets(KEYS, max_size=6),
        inner.map(lambda each: [each, each, (each, each)]),
    ),
    max_leaves=30,
)


@given(PLAIN)
def test_whatever_is_plain_comes_back(value: Any) -> None:
    """Also what is in it twice, which is written once."""
    assert loads(marshal.dumps(value)) == value


@pytest.mark.parametrize("value", [DECISION, OUTCOME, to_plain(load_config(RULES)), ["x"] * 300, ()])
def test_what_is_really_sent(value: Any) -> None:
    """Reports and configurations."""
    assert loads(marshal.dumps(value)) == value


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"N" * 2,
        b"(\xff\xff\xff\x7f",
        b"[\xff\xff\xff\x7f" + b"N" * 100,
        b">\xff\xff\xff\x7f",
        b")\xff",
        b"s\xff\xff\xff\xff",
        b"l\xff\xff\xff\x7f",
        b"z",
        b"i\0",
        b"{N",
        b"0",
        b"c" + bytes(40),
        b"e",
        b"\xdb\1\0\0\0r\0\0\0\0",  # a list that holds itself
        b"\xa8\2\0\0\0\xa8\1\0\0\0Nr\0\0\0\0",
        b"r\0\0\0\0",
        b"[\1\0\0\0" * (MOST_DEPTH + 10) + b"N",
    ],
)
def test_what_is_not(data: bytes) -> None:
    """Refused, and next to nothing was allocated for it."""
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=r"it |end"):
            loads(data)
        assert tracemalloc.get_traced_memory()[1] < 100_000
    finally:
        tracemalloc.stop()


def test_what_is_small_and_would_take_for_ever() -> None:
    """Lists of lists of the same lists: a kilobyte that nobody can walk through."""
    value: Any = [1] * 10
    for _ in range(20):
        value = [value] * 10
    with pytest.raises(ValueError, match="holds too much"):
        loads(marshal.dumps(value))


@given(PLAIN, st.data())
def test_whatever_is_changed_in_it(value: Any, data: st.DataObject) -> None:
    """A value or a refusal, nothing else."""
    broken = bytearray(marshal.dumps(value))
    for _ in range(data.draw(st.integers(1, 3))):
        broken[data.draw(st.integers(0, len(broken) - 1))] = data.draw(st.integers(0, 255))
    try:
        loads(bytes(broken))
    except ValueError:
        return

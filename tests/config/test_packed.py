"""Plain values squeezed into bytes."""

from __future__ import annotations

import marshal
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oomd.config import packed
from oomd.config.packed import inflate, pack


@given(st.lists(st.dictionaries(st.text(max_size=5), st.integers() | st.text(max_size=20) | st.none(), max_size=5)))
def test_it_comes_back(plain: list[dict[str, object]]) -> None:
    """Whatever is plain; hundreds of like values become much shorter."""
    assert marshal.loads(inflate(pack(plain))) == plain
    many = [{"path": f"/system.slice/{number}.service", "bytes": number} for number in range(500)]
    assert len(pack(many)) * 4 < len(marshal.dumps(many))


@given(st.binary(max_size=100))
def test_any_bytes(data: bytes) -> None:
    """Bytes, or a ValueError."""
    try:
        assert isinstance(inflate(data), bytes)
    except ValueError as error:
        said = str(error)
        assert said


def test_cut_or_endless(monkeypatch: pytest.MonkeyPatch) -> None:
    """What ends in the middle, and what would become larger than anybody wants."""
    whole = pack([{"a": 1}])
    with pytest.raises(ValueError, match="cut"):
        inflate(whole[:-3])
    monkeypatch.setattr(packed, "MOST_BYTES", 1000)
    with pytest.raises(ValueError, match="too large"):
        inflate(zlib.compress(bytes(100_000)))

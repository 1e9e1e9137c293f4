"""Sizes, shares, durations and limits as text."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oomd.model.threshold import Threshold
from oomd.model.units import (
    GIB,
    KIB,
    MIB,
    UnitError,
    format_duration,
    format_exact_duration,
    format_exact_size,
    format_share,
    format_size,
    format_span,
    format_threshold,
    parse_duration,
    parse_share,
    parse_size,
    parse_threshold,
)

SIZES = st.integers(0, 1 << 59)
SHARES = st.integers(0, 10_000_000).map(lambda parts: parse_share(f"{parts // 100_000}.{parts % 100_000:05}%"))


@pytest.mark.parametrize(
    ("text", "size"),
    [("0B", 0), ("512B", 512), ("010B", 10), ("64MiB", 64 * MIB), (" 1.5 GiB ", 3 * GIB // 2), ("2T", 2048 * GIB),
     ("9007199254740993B", 9007199254740993), ("0.1KiB", 102), ("0000000000000000000000001K", KIB)],
)  # fmt: skip
def test_sizes(text: str, size: int) -> None:
    """Binary units, plain bytes, decimals; nothing is rounded by a float on the way."""
    assert parse_size(text) == size


@pytest.mark.parametrize(
    ("text", "duration_us"),
    [("1.5s", 1_500_000), ("200ms", 200_000), ("7us", 7), ("2m", 120_000_000), ("2min", 120_000_000),
     ("1h", 3600 * 10**6)],
)  # fmt: skip
def test_durations(text: str, duration_us: int) -> None:
    """Every unit in microseconds."""
    assert parse_duration(text) == duration_us


@pytest.mark.parametrize("parse", [parse_size, parse_share, parse_duration, parse_threshold])
@pytest.mark.parametrize(
    "text",
    ["", ".", "-1s", "1..5%", "1e3", "x", "1:30", "٣%", "5 parsecs", "9" * 19 + "B", "9" * 5000 + "%", "NaN", "inf"],
)
def test_what_is_no_value(parse: Callable[[str], object], text: str) -> None:
    """F13: what is not understood is refused, whatever its length, and never guessed at."""
    with pytest.raises(UnitError):
        parse(text)


def test_shares_end_at_all() -> None:
    """100 % is the most there is."""
    assert parse_share("100%") == 1
    with pytest.raises(UnitError, match="above 100%"):
        parse_share("100.0001%")


@pytest.mark.parametrize("text", ["min(5%)", "min(5%, 6%)", "min(1GiB, 2GiB)", "max(5%, 1GiB", "min(5%, 1GiB, 2GiB)"])
def test_limits_need_one_share_and_one_size(text: str) -> None:
    """``min`` and ``max`` compare a share with a size."""
    with pytest.raises(UnitError):
        parse_threshold(text)


@given(SIZES)
def test_exact_sizes_come_back(size_bytes: int) -> None:
    """The exact text of a size is read as that size."""
    assert parse_size(format_exact_size(size_bytes)) == size_bytes


@given(st.integers(0, 10**15))
def test_exact_durations_come_back(duration_us: int) -> None:
    """The exact text of a duration is read as that duration."""
    assert parse_duration(format_exact_duration(duration_us)) == duration_us


@given(SHARES)
def test_shares_come_back(share: float) -> None:
    """The text of a share with five decimals is read as that share, the very same float."""
    assert parse_share(format_share(share)) == share


@given(SHARES | st.none(), SIZES | st.none(), st.sampled_from(["min", "max"]))
def test_limits_come_back(share: float | None, size_bytes: int | None, combine: str) -> None:
    """The text of a limit is read as that limit."""
    if share is None and size_bytes is None:
        return
    limit = Threshold(share, size_bytes, combine if share is not None and size_bytes is not None else "min")
    assert parse_threshold(format_threshold(limit)) == limit


@given(SHARES, SIZES, SIZES, SIZES)
def test_limits_grow_with_their_base(share: float, size_bytes: int, base: int, more: int) -> None:
    """A larger machine never has a smaller limit, and the half of a limit is never above it."""
    for combine in ("min", "max"):
        limit = Threshold(share, size_bytes, combine)
        assert limit.resolve_bytes(base) <= limit.resolve_bytes(base + more)
        assert limit.halved().resolve_bytes(base) <= limit.resolve_bytes(base)


def test_limits_of_one_part() -> None:
    """A share alone follows its base, a size alone does not; both can be halved."""
    assert Threshold(share=0.05).resolve_bytes(100) == 5
    assert Threshold(size_bytes=7).resolve_bytes(100) == 7
    assert Threshold(share=0.05).halved() == Threshold(share=0.025)
    assert Threshold(size_bytes=7).halved() == Threshold(size_bytes=3)


@pytest.mark.parametrize(
    ("size_bytes", "text"),
    [(0, "0 B"), (-5, "-5 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (340 * MIB, "340 MiB"), (-GIB, "-1.0 GiB"),
     (3 << 40, "3.0 TiB")],
)  # fmt: skip
def test_sizes_for_people(size_bytes: int, text: str) -> None:
    """Three figures."""
    assert format_size(size_bytes) == text


@pytest.mark.parametrize(
    ("duration_us", "text"),
    [(0, "0us"), (350, "350us"), (1_234, "1.23ms"), (12_000, "12ms"), (999_999, "1000ms"), (1_500_000, "1.5s"),
     (10_000_000_000, "10000s")],
)  # fmt: skip
def test_durations_for_people(duration_us: int, text: str) -> None:
    """Never an exponent."""
    assert format_duration(duration_us) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (59.9, "59s"),
        (60, "1min"),
        (598, "9min 58s"),
        (3605, "1h"),
        (7500, "2h 5min"),
        (86400, "1d"),
        (273600, "3d 4h"),
        (-5, "0s"),
    ],
)
def test_long_spans(seconds: float, text: str) -> None:
    """Two units that stand beside each other."""
    assert format_span(int(seconds * 1_000_000)) == text

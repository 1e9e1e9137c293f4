"""parse_arcstats."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oomd.kernel.arc import parse_arcstats

ARCSTATS = (
    b"13 1 0x01 147 39984 4105212154 1893456789012\n"
    b"name                            type data\n"
    b"hits                            4    1234567\n"
    b"c                               4    8263499776\n"
    b"c_min                           4    516468736\n"
    b"c_max                           4    8263499776\n"
    b"size                            4    6516468736\n"
    b"compressed_size                 4    5000000000\n"
    b"arc_meta_used                   4    300000000\n"
)
"""The format of module/zfs/arc.c."""


def test_reclaimable() -> None:
    """What lies above the minimum could be had back."""
    assert parse_arcstats(ARCSTATS) == 6_000_000_000


@pytest.mark.parametrize("field", [b"\nsize ", b"\nc_min "])
def test_a_field_is_gone(field: bytes) -> None:
    """F19: a release of ZFS that drops a field means that nothing is counted on, not an error."""
    assert parse_arcstats(ARCSTATS.replace(field, b"\nother ")) == 0


def test_below_the_minimum() -> None:
    """A cache below its minimum gives nothing back."""
    assert parse_arcstats(ARCSTATS.replace(b"6516468736", b"1000")) == 0


@given(st.one_of(st.binary(), st.binary().map(lambda junk: b"\nsize " + junk + b"\nc_min 4 0\n")))
def test_arbitrary_bytes(data: bytes) -> None:
    """F19: anything gives an amount, never an error."""
    assert parse_arcstats(data) >= 0

"""What the killer accepts as units' settings."""

from __future__ import annotations

import marshal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oomd.model.managed import MOST_UNITS, ManagedUnit, is_unit_path, read_units

GOOD = ["/work.slice", True, False, 0.2, 2_000_000]


def test_read() -> None:
    """Path, swap, pressure, limit and duration; sorted by path; nothing and zero are the defaults."""
    assert read_units([GOOD, ["/a.slice", 0, 1, None, 0]]) == (
        ManagedUnit("/a.slice", pressure=True),
        ManagedUnit("/work.slice", swap=True, limit=0.2, duration_us=2_000_000),
    )


@pytest.mark.parametrize(
    "item",
    [
        None,
        "x",
        [],
        GOOD[:4],
        ["work.slice", *GOOD[1:]],
        ["/a/../b", *GOOD[1:]],
        ["/a*", *GOOD[1:]],
        ["/a,b", *GOOD[1:]],
        ["/a[b]", *GOOD[1:]],
        ["/a\nb", *GOOD[1:]],
        ["/" + "a" * 5000, *GOOD[1:]],
        ["/a", True, True, 1.5, None],
        ["/a", True, True, -0.1, None],
        ["/a", True, True, "20%", None],
        ["/a", True, True, None, -1],
        ["/a", True, True, None, 1.5],
    ],
)
def test_what_is_no_setting_is_left_out(item: Any) -> None:
    """One that cannot be costs none of the others."""
    assert [unit.path for unit in read_units([item, GOOD])] == ["/work.slice"]


def test_so_many_and_no_more() -> None:
    """A message never makes more rules than there is room for."""
    many = [[f"/{number:04}.slice", True, True, None, None] for number in range(MOST_UNITS + 10)]
    assert len(read_units(many)) == MOST_UNITS


def test_escaped_names_are_units() -> None:
    """systemd's own escapes are paths like any other."""
    assert is_unit_path("/system.slice/system-getty.slice/getty@tty1.service")
    assert is_unit_path("/user.slice/app-gnome\\x2dterminal.scope")
    assert is_unit_path("/")


@given(st.recursive(st.none() | st.booleans() | st.floats() | st.integers() | st.text(), st.lists))
def test_anything(plain: Any) -> None:
    """Whatever the other end says, what comes of it are units within their bounds."""
    for unit in read_units(plain):
        assert is_unit_path(unit.path)
        assert unit.limit is None or 0 < unit.limit <= 1
    marshal.dumps([unit.path for unit in read_units(plain)])

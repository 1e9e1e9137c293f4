"""Shell-style patterns: what fnmatch says, without ever taking long."""

from __future__ import annotations

import re
from fnmatch import fnmatchcase

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oomd.model.globs import matches as path_matches
from oomd.model.wildcards import matches, pieces_of

SIGNS = "ab*?[]!^-"


@given(st.text(SIGNS, max_size=10), st.text("ab[]!^-", max_size=6))
def test_like_fnmatch(pattern: str, text: str) -> None:
    """Whatever stands where; but that fnmatch takes ``^`` at the beginning of a set for itself."""
    if "[^" not in pattern:
        assert matches(pattern, text) is fnmatchcase(text, pattern)


@given(st.text(max_size=20), st.text(max_size=20))
def test_any_text_is_a_pattern(pattern: str, text: str) -> None:
    """Nothing that anybody writes raises; and every text fits itself, with its signs put into sets."""
    assert matches(pattern, text) in (True, False)
    assert matches("".join(f"[{sign}]" if sign in "*?[" else sign for sign in text), text)


@pytest.mark.parametrize(
    ("pattern", "pieces"),
    [
        ("a*?b", ["a", "*", "?", "b"]),
        ("[]a][!]][!]", ["[]a]", "[!]]", "[", "!", "]"]),
        ("\\xff\\xfg\\", ["\\xff", "\\", "x", "f", "g", "\\"]),
    ],
)
def test_pieces(pattern: str, pieces: list[str]) -> None:
    """A set without an end is none; a byte that is no UTF-8 is one piece."""
    assert pieces_of(pattern) == pieces


PARTS = st.lists(st.sampled_from(["a", "b", "*", "a*", "?", "**"]), max_size=6)
NAMES = st.lists(st.sampled_from(["a", "b", "ab"]), max_size=7)


@given(PARTS, NAMES)
def test_levels_of_a_path(parts: list[str], names: list[str]) -> None:
    """``**`` stands for any number of levels, as a regular expression would find them by trying all."""
    one = {"*": "[^/]*", "a*": "a[^/]*", "?": "[^/]"}
    text = "".join("(?:/[^/]+)*" if part == "**" else "/(?=[^/])" + one.get(part, part) for part in parts)
    expected = re.fullmatch(text, "".join(f"/{name}" for name in names)) is not None
    assert path_matches("/" + "/".join(parts), "/" + "/".join(names)) is expected

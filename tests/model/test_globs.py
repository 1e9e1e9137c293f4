"""Patterns of cgroups."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oomd.model.globs import lies_in_any, matches, matches_any, split_patterns


@pytest.mark.parametrize(
    ("pattern", "path", "fits"),
    [
        ("/a", "/a", True),
        ("/a", "/a/b", False),
        ("/a/", "/a", True),
        ("/*", "/a", True),
        ("/*", "/a/b", False),
        ("/*", "/", False),
        ("/", "/", True),
        ("/**", "/", True),
        ("/**", "/a/b/c", True),
        ("/a/**", "/a", True),
        ("/a/**", "/ab", False),
        ("/**/*.service", "/system.slice/x.service", True),
        ("/user-[0-9]*.slice", "/user-1000.slice", True),
        ("/user-[!0-9]*.slice", "/user-1000.slice", False),
        ("/a?c", "/abc", True),
        ("/a?c", "/a/c", False),
        ("/dev\\x2dsda.swap", "/dev\\x2dsda.swap", True),
        ("/[z-a]", "/b", False),
        ("/a.b", "/axb", False),
    ],
)
def test_matches(pattern: str, path: str, fits: bool) -> None:
    """Within a name, across levels, and nothing else."""
    assert matches(pattern, path) is fits


def test_lists() -> None:
    """Several patterns, and what lies below them."""
    assert split_patterns("/a,/b/*") == ("/a", "/b/*")
    assert split_patterns("machine") == split_patterns("") == ()
    assert matches_any(("/a", "/b/*"), "/b/c")
    assert not matches_any(("/a", "/b/*"), "/b/c/d")
    assert lies_in_any(("/a", "/b/*"), "/b/c/d")
    assert lies_in_any(("/",), "/a/b")
    assert not lies_in_any(("/a",), "/")
    assert not lies_in_any(("/a",), "")


@given(st.text(max_size=20), st.text(max_size=20))
def test_any_text_is_a_pattern(pattern: str, path: str) -> None:
    """Nothing that anybody writes raises."""
    assert matches("/" + pattern, "/" + path) in (True, False)

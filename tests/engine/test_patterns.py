"""Globs and regular expressions on long texts: right, and never slow."""

from __future__ import annotations

import time
from fnmatch import fnmatchcase

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oomd.config.regexes import why_not_safe
from oomd.engine.patterns import MOST_REGEX_TEXT, MOST_TEXT, glob_matches, regex_found


@pytest.mark.parametrize(
    ("pattern", "text", "fits"),
    [
        ("*postgres*", "/usr/lib/postgresql/15/bin/postgres -D /x", True),
        ("/usr/bin/*", "/usr/bin/python3", True),
        ("/usr/bin/*", "/opt/usr/bin/x", False),
        ("java*-jar *.jar", "java -Xmx1g -jar a b.jar", True),
        ("java*-jar *.jar", "java -Xmx1g -jar a b.jar serve", False),
        ("a*a", "a", False),
        ("a*a", "aa", True),
        ("*ab*b", "ab", False),
        ("", "", True),
        ("*", "", True),
        ("?", "", False),
        ("[a-c]x", "bx", True),
        ("[!a-c]x", "bx", False),
        ("[]]", "]", True),
        ("a\nb", "a\nb", True),
        ("[z-a]*", "z", False),
    ],
)
def test_globs(pattern: str, text: str, fits: bool) -> None:
    """As a whole, with what a star stands for found leftmost."""
    assert glob_matches(pattern, text) is fits


@given(st.text("ab*?[]!-", max_size=8), st.text("ab-]!", max_size=8))
def test_globs_are_those_of_the_shell(pattern: str, text: str) -> None:
    """Where fnmatch knows the same language (a set is closed and has no backward range) both say the same."""
    if "[" not in pattern:
        assert glob_matches(pattern, text) == fnmatchcase(text, pattern)


@pytest.mark.parametrize("pattern", ["*a" * 20 + "b", "?*" * 30 + "b", "*" * 200 + "b"])
def test_no_glob_takes_long(pattern: str) -> None:
    """What makes others try for ever is answered at once; a text longer than is looked at does not matter."""
    begin = time.thread_time()  # whoever else runs here takes none of it
    assert not glob_matches(pattern, "a" * 100_000)
    assert time.thread_time() - begin < 1
    assert glob_matches("x*", "x" * 2 * MOST_TEXT)


@pytest.mark.parametrize("pattern", [r"a*a*b", r"a.*a.*b", r"\w*\d+x", "a{1,99}a{1,99}b"])
def test_no_regex_takes_long(pattern: str) -> None:
    """The worst that is taken, on the worst text, is answered in a fraction of a second."""
    assert why_not_safe(pattern) == ""
    begin = time.thread_time()  # whoever else runs here takes none of it
    assert not regex_found(pattern, "a" * 100_000)
    assert time.thread_time() - begin < 2


def test_regexes_see_the_beginning() -> None:
    """Found anywhere in the part that is looked at, not behind it."""
    assert regex_found("b", "a" * (MOST_REGEX_TEXT - 1) + "b")
    assert not regex_found("b", "a" * MOST_REGEX_TEXT + "b")

"""Which regular expressions are taken."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oomd.config.regexes import why_not_safe
from oomd.engine.patterns import regex_found


@pytest.mark.parametrize(
    ("pattern", "why"),
    [
        (r"^/opt/app/\w+ serve", ""),
        (r"a{2,10}b", ""),
        (r"(foo|bar)?x", ""),
        (r"[(*+]\*\+", ""),
        ("[[a]", "may not be what it looks like: Possible nested set at position 1"),
        ("(", "is no regular expression: missing ), unterminated subpattern at character 1"),
        ("[z-a]", "is no regular expression: bad character range z-a at character 2"),
        ("(a+)+$", "a repeated group, (…)+, is not taken: it could take for ever"),
        ("(a|a)*$", "a repeated group, (…)*, is not taken: it could take for ever"),
        ("(ab){3}", "a repeated group, (…){, is not taken: it could take for ever"),
        (r"(a)\1", r"\1 (a group again) is not taken: it could take for ever"),
        ("(?=a)", "(?…) is not taken: no look-around, no flags, no names; a plain group is (…)"),
        ("a*b+c*", "has 3 unbounded repetitions; more than 2 could take for ever"),
        ("a{1,99}b{2,}c{17}", "has 3 unbounded repetitions; more than 2 could take for ever"),
    ],
)
def test_what_is_taken(pattern: str, why: str) -> None:
    """Regular expressions whose time is bounded; each other with its reason."""
    assert why_not_safe(pattern) == why


@given(st.text("ab(|)*+?{}[]\\^$.12,", max_size=12))
def test_any_pattern(pattern: str) -> None:
    """Whatever is taken compiles; whatever does not compile is told."""
    if not why_not_safe(pattern):
        re.compile(pattern)
        regex_found(pattern, "aab12")

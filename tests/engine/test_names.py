"""Names against patterns."""

from __future__ import annotations

import fnmatch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oomd.engine.names import matches, matches_pattern
from oomd.model.ruleset import Names


@pytest.mark.parametrize(
    ("pattern", "comm", "hit"),
    [
        ("sshd", "sshd", True),
        ("sshd", "sshd2", False),
        ("sshd*", "sshd-session", True),
        ("p?stgres", "postgres", True),
        ("[pq]x", "qx", True),
        ("[!pq]x", "qx", False),
        ("[", "[", True),
        ("a.c", "abc", False),
        ("a\\b", "a\\b", True),
        ("containerd-shim-runc-v2", "containerd-shim", True),  # the kernel keeps 15 bytes
        ("containerd-shim-runc*", "containerd-shim", True),  # whatever follows them
        ("systemd-journald*", "systemd-journal", True),
        ("containerd-shim-[rx]", "containerd-shim", True),
        ("containerd-shi", "containerd-shim", False),
        ("*-shim-runc", "containerd-shim", False),  # a star leaves open where the 15 bytes end
        ("aaaaaaaaaaaaaaé", "aaaaaaaaaaaaaa\\xc3", True),  # cut in the middle of a character
        ("\\xff" * 16, "\\xff" * 15, True),  # bytes that are no UTF-8 count once each
        ("\ud800", "x", False),
        ("[z-a]x", "x", False),  # a backward range is empty
        ("[!z-a]x", "ax", True),
        ("[a-c]x", "bx", True),
        ("?ontainerd-shim-runc", "containerd-shim", True),
        ("x?*", "xyz", True),
        ("[[a]", "[", True),
        ("[]a]", "]", True),
        ("[!]a]", "x", True),
        ("[a&&b]", "&", True),
        ("[\\d]", "5", False),
        ("[a-", "[a-", True),
        ("x*", "x\ny", True),
        ("*", "", True),
    ],
)
def test_patterns(pattern: str, comm: str, hit: bool) -> None:
    """Shell-style patterns on the whole name; a plain one is cut as the kernel cuts names."""
    assert matches_pattern(pattern, comm) is hit


def test_lists() -> None:
    """One of the patterns suffices; an empty list hits nobody."""
    assert matches(Names(("a", "b*")), "bcd")
    assert not matches(Names(("a", "b*")), "c")
    assert not matches(Names(), "c")


@given(st.text("ab*?.^$|()", min_size=1, max_size=8), st.text("ab.^$|()", max_size=8))
def test_like_fnmatch_without_brackets(pattern: str, comm: str) -> None:
    """Where there are no brackets it agrees with the standard library."""
    assert matches_pattern(pattern, comm) is fnmatch.fnmatchcase(comm, pattern)


@given(st.text("ab[]!-*?\\c&~|", min_size=1, max_size=8), st.text("ab[]!-\\c&", max_size=4))
def test_like_fnmatch_with_brackets(pattern: str, comm: str) -> None:
    """F13: sets mean what they mean to a shell, and a set that is no regular expression never stops the killer."""
    assert matches_pattern(pattern, comm) is fnmatch.fnmatchcase(comm, pattern)


@given(st.text(min_size=1, max_size=30), st.text(max_size=15))
def test_no_pattern_is_ever_an_error(pattern: str, comm: str) -> None:
    """Any text is a pattern."""
    assert matches_pattern(pattern, comm) in (True, False)

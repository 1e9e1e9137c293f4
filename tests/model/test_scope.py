"""Whom oomd may touch, as text and as a value."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oomd.model.scope import Scope, ScopeError, ScopePart, parse_scope

FOLDERS = st.text("abz.-_@ é", min_size=1, max_size=6).map(str.strip).filter(lambda name: name not in {"", ".", ".."})
PARTS = (
    st.builds(ScopePart, st.just("tree"), number=st.integers(1, 1 << 22))
    | st.builds(ScopePart, st.just("uid"), number=st.integers(0, (1 << 32) - 1))
    | st.builds(
        ScopePart, st.just("cgroup"), path=st.lists(FOLDERS, max_size=3).map(lambda names: "/" + "/".join(names))
    )
    | st.just(ScopePart("machine"))
)
SCOPES = st.lists(PARTS, min_size=1, max_size=4).map(lambda parts: Scope(tuple(parts)).narrowed(Scope()))


@given(SCOPES)
def test_text_comes_back(scope: Scope) -> None:
    """The parts of a scope, written with commas, are read as that scope."""
    assert parse_scope(",".join(str(part) for part in scope.parts)) == scope


@given(SCOPES, SCOPES)
def test_narrowing_never_widens(one: Scope, other: Scope) -> None:
    """Each condition of both holds afterwards; narrowing again changes nothing, and the machine leaves all as it is."""
    both = one.narrowed(other)
    wanted = {part for part in one.parts + other.parts if part.kind != "machine"}
    assert {part for part in both.parts if part.kind != "machine"} == wanted
    assert both.narrowed(other) == both
    assert one.narrowed(parse_scope("machine")) == one
    assert both.is_machine == (one.is_machine and other.is_machine)


def test_paths_are_made_plain() -> None:
    """A cgroup is named as the kernel names it, however many slashes were written."""
    assert parse_scope("cgroup://a//b/") == parse_scope("cgroup:/a/b")
    assert str(parse_scope("cgroup:/")) == "cgroup:/"


def test_words_and_roots() -> None:
    """A scope in words, and the roots of its trees."""
    scope = parse_scope("tree:5, uid:0")
    assert str(scope) == "tree:5 and uid:0"
    assert scope.tree_roots == (5,)
    assert str(Scope()) == "machine"


@pytest.mark.parametrize(
    "text",
    ["", "tree:", "tree:0", "tree:-1", "tree:²", "tree:" + "9" * 5000, "uid:root", "cgroup:a", "cgroup:/a/../b",
     "cgroup:/./a", "machine:1", "machine,", "pod:x"],
)  # fmt: skip
def test_what_is_no_scope(text: str) -> None:
    """What is not understood is refused: a scope that means more than was meant would let innocents die."""
    with pytest.raises(ScopeError, match="is no scope"):
        parse_scope(text)

"""Whether a cgroup is there."""

from __future__ import annotations

import pytest

from oomd.detectors.exists import Exists
from oomd.model.snapshot import Cgroup
from tests.fakes.builders import moment


@pytest.mark.parametrize(
    ("pattern", "found"), [("/a/b", True), ("/a/*", True), ("/a/x", False), ("/x,/a", True), ("/*", True)]
)
def test_both_polarities(pattern: str, found: bool) -> None:
    """D8: a path, a wildcard, one of several; and the opposite."""
    view = moment(0, cgroups=(Cgroup("/a"), Cgroup("/a/b"), Cgroup("/a/c")))
    assert Exists(pattern).detect(view, firing=False).holds is found
    assert Exists(pattern, absent=True).detect(view, firing=False).holds is not found


def test_text_and_words() -> None:
    """What was found, and the rule as a sentence."""
    view = moment(0, cgroups=(Cgroup("/a/b"), Cgroup("/a/c")))
    assert Exists("/a/*").detect(view, firing=False).text == "/a/b exists (and 1 more)"
    assert Exists("/z").detect(view, firing=False).text == "there is no /z"
    assert (Exists("/z").words(), Exists("/z", absent=True).words()) == ("there is /z", "there is no /z")
    assert Exists("/a,/b").wants.cgroups == ("/a", "/b")

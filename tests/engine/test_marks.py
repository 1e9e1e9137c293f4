"""Marks of cgroups and whose word counts."""

from __future__ import annotations

import pytest

from oomd.engine.marks import mark_of
from oomd.model.snapshot import Cgroup


@pytest.mark.parametrize(
    ("xattrs", "owner", "ancestor", "mark"),
    [
        ({}, 0, 0, "normal"),
        ({"user.oomd_avoid": "1"}, 0, 1000, "avoid"),
        ({"user.oomd_omit": "yes"}, 0, 0, "omit"),
        ({"user.oomd_omit": "0"}, 0, 0, "normal"),
        ({"user.oomd_avoid": "1", "user.oomd_omit": "1"}, 0, 0, "omit"),
        ({"user.oomd_omit": "1"}, 1000, 1000, "omit"),  # among his own an owner may say
        ({"user.oomd_omit": "1"}, 1000, 0, "normal"),  # nobody exempts himself at the cost of others
        ({"user.oomd_avoid": "1"}, 1000, 1001, "normal"),
        ({"user.oomd_prefer": "1"}, 1000, 0, "prefer"),  # to offer oneself is free
        ({"trusted.oomd_avoid": ""}, 1000, 0, "avoid"),
        ({"trusted.oomd_prefer": "", "trusted.oomd_avoid": ""}, 0, 0, "prefer"),
    ],
)
def test_ownership_and_order(xattrs: dict[str, str], owner: int, ancestor: int, mark: str) -> None:
    """systemd-oomd's cases of ownership, and which mark beats which."""
    cgroup = Cgroup("/a", owner_uid=owner, xattrs=tuple(xattrs.items()))
    assert mark_of(cgroup, ancestor) == mark

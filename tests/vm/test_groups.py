"""Rules over real control groups, under a real systemd."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.vm import groups
from tests.vm.runs import check_groups

if TYPE_CHECKING:
    from tests.vm.groups import Case
    from tests.vm.image import Image

pytestmark = [pytest.mark.vm, pytest.mark.timeout(600)]
SURVIVORS = {
    # bloat dies, chill lives
    "chill": ["chill"],
    # who is avoided comes last, though it is the largest
    "avoid": ["bloat", "chill"],
    # memory.oom.group=1: nobody goes down into it, and all of it goes
    "oomgroup": ["chill"],
    # the choice is made among a user's own groups: his mark counts
    "user": ["bloat", "chill"],
    # nobody else is left, and all the same: never
    "omit": ["bloat"],
    # the alarm must hold for an hour
    "hour": ["bloat", "chill"],
    # the worst group below, and nobody beside it
    "recursive": ["bag", "chill", "inner-chill"],
    "session": ["bag", "chill", "inner-chill"],
    # one process of it: its own child lives on
    "within": ["bag", "chill", "inner-bloat-0", "inner-chill"],
    # the choice is made among everybody's groups: a user's mark on his own exempts him not
    "exempt": ["chill", "munch"],
}
KINDS = {"session": "session", "within": None}
"""What is taken as one, where it is not a control group."""


def _facts(image: Image, cases: tuple[Case, ...]) -> dict[str, Any]:
    run = check_groups(image, cases)
    assert "failure" not in run.out, run.out["failure"].decode()
    assert run.ended == "poweroff", (run.ended, run.console)
    return dict(json.loads(run.out["groups.json"]))


@pytest.fixture(scope="module")
def quick(image: Image) -> dict[str, Any]:
    """One boot with the quick cases."""
    return _facts(image, groups.QUICK)


@pytest.fixture(scope="module")
def long(image: Image) -> dict[str, Any]:
    """One boot with the others."""
    return _facts(image, groups.LONG)


def _judge(facts: dict[str, Any], case: Case) -> None:
    shown = facts["cases"][case.name]
    assert "failure" not in shown, shown
    assert shown["alive"] == SURVIVORS[case.name], (shown, facts["unit_journal"])
    # Whatever was started meanwhile: a login brings units that want systemd-oomd.
    assert (shown["oomd"], shown["systemd-oomd"]) == ("active", "inactive"), shown
    decisions = [each for each in facts["decision"] if each.get("OOMD_RULESET") == case.name]
    kills = [each for each in decisions if each["OOMD_ACTION"] == "kill"]
    assert len(kills) == (1 if case.dies else 0), decisions
    if case.dies and KINDS.get(case.name, "cgroup") == "cgroup":
        assert kills[0]["OOMD_VICTIM_CGROUP"] in set(shown["groups"].values()), kills
    assert "Killed process" not in facts["kernel"], facts["kernel"][-2000:]


@pytest.mark.parametrize("case", groups.QUICK, ids=lambda case: case.name)
def test_quick(quick: dict[str, Any], case: Case) -> None:
    """Who stalls a slice dies, and who does not lives, as marks, owners and memory.oom.group say."""
    _judge(quick, case)


@pytest.mark.vm_long
@pytest.mark.parametrize("case", groups.LONG, ids=lambda case: case.name)
def test_long(long: dict[str, Any], case: Case) -> None:
    """The same at the other levels, and who is never taken."""
    _judge(long, case)

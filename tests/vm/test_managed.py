"""Units' own settings are honoured by oomd in the place of systemd-oomd, which is removed."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.vm import managed
from tests.vm.runs import check_managed

if TYPE_CHECKING:
    from tests.vm.image import Image

pytestmark = [pytest.mark.vm, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def facts(image: Image) -> dict[str, Any]:
    """One boot with all cases."""
    run = check_managed(image)
    assert "failure" not in run.out, run.out["failure"].decode()
    assert run.ended == "poweroff", (run.ended, run.console)
    return dict(json.loads(run.out["managed.json"]))


def test_told_by_pid_1(facts: dict[str, Any]) -> None:
    """PID 1 takes this service for the one that it tells; no unit waits for another in a circle."""
    told = [each["MESSAGE"] for each in facts["note"]]
    assert any("told by PID 1" in each for each in told), facts["unit_journal"]
    assert facts["active"] == "active"
    assert "ordering cycle" not in facts["cycles"]


@pytest.mark.parametrize("case", managed.CASES, ids=lambda case: case.name)
def test_cases(facts: dict[str, Any], case: managed.Case) -> None:
    """Who stalls a slice that watches its pressure dies, but for preferences; systemd says why; the sleeper lives."""
    shown = facts["cases"][case.name]
    assert "failure" not in shown, shown
    assert shown["alive"] == sorted(set(case.units) - {case.dies}), (shown, facts["unit_journal"])
    results = {name: each["Result"] for name, each in shown["shown"].items()}
    assert results == {name: "oom-kill" if name == case.dies else "success" for name in case.units}, shown
    if case.told:
        assert any(case.told in each["MESSAGE"] for each in facts["note"]), facts["unit_journal"]
    if case.dies:
        unit = f"{case.name}-{case.dies}.service"
        assert any(each.get("UNIT") == unit for each in facts["told_by_manager"]), facts["told_by_manager"]


def test_users_manager(facts: dict[str, Any]) -> None:
    """The user's own slice watches its own pressure: its hog dies, and the user's manager says why."""
    shown = facts["user"]
    assert "failure" not in shown, shown
    assert shown["alive"] == ["chill"], (shown, facts["unit_journal"])
    assert shown["shown"]["bloat"]["Result"] == "oom-kill", shown

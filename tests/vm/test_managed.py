"""Units' own settings are honoured by oomd in the place of systemd-oomd, which is removed."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest

from tests.vm import managed
from tests.vm.runs import check_managed

if TYPE_CHECKING:
    from tests.vm.image import Image

pytestmark = [pytest.mark.vm, pytest.mark.timeout(900)]


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
    path = f"\tPath: /work.slice/{case.slice}\n"
    assert (path in shown["oomctl"]) == bool(case.listed), shown["oomctl"]
    assert f"{path}\t\t{case.listed}" in shown["oomctl"] or not case.listed, shown["oomctl"]
    if case.dies:
        unit = f"{case.name}-{case.dies}.service"
        told = [each["MESSAGE"] for each in facts["told_by_manager"] if each.get("UNIT") == unit]
        assert [re.findall(r"killed (\d+) process", each) for each in told] == [["1"]], facts["told_by_manager"]
        assert shown["shown"][case.dies].get("ManagedOOMKills", "1") == "1"  # systemd 259 and later
        assert [f"/work.slice/{case.slice}/{unit}", "memory-pressure"] in killed(facts)


def killed(facts: dict[str, Any]) -> list[list[str]]:
    """The signals that were heard on the bus: cgroup and reason."""
    return [each["payload"]["data"] for each in facts["bus"] if each.get("member") == "Killed"]


def test_oomctl_shows_our_state(facts: dict[str, Any]) -> None:
    """For everybody; a reload takes other defaults and gives them back, and too short a duration is refused."""
    assert facts["answers_s"] >= 0
    defaults = {
        "before": ("90.00%", "60.00%", "2s"), "other": ("80.00%", "55.00%", "5s"), "back": ("90.00%", "60.00%", "2s")
    }  # fmt: skip
    for name, (swap, pressure, duration) in defaults.items():
        begin = (
            f"Dry Run: no\nSwap Used Limit: {swap}\nDefault Memory Pressure Limit: {pressure}\n"
            f"Default Memory Pressure Duration: {duration}\nSystem Context:\n\tMemory: Used: "
        )
        assert facts["reload"][name].startswith(begin), facts["reload"]
    assert facts["short"]["systemd"] != 0
    assert "999ms" in facts["short"]["reload"][0]["MESSAGE"] or "between" in facts["short"]["reload"][0]["MESSAGE"]
    assert "Default Memory Pressure Duration: 2s\n" in facts["short"]["oomctl"]


def test_kernels_own_kills_are_left_to_systemd(facts: dict[str, Any]) -> None:
    """A unit at its own limit ends as its OOMPolicy= says; we neither kill nor count there."""
    assert "failure" not in facts["kernel"], facts["kernel"]
    shown = facts["kernel"]["shown"]
    assert (shown["continue"]["ActiveState"], shown["continue"]["Result"]) == ("active", "success"), shown
    for policy in ("stop", "kill"):
        assert (shown[policy]["ActiveState"], shown[policy]["Result"]) == ("failed", "oom-kill"), shown
    assert not any("kernel-" in cgroup for cgroup, _ in killed(facts))
    assert not any(str(each.get("UNIT", "")).startswith("kernel-") for each in facts["told_by_manager"])


def test_users_manager(facts: dict[str, Any]) -> None:
    """The user's own slice watches its own pressure: its hog dies, and the user's manager says why."""
    shown = facts["user"]
    assert "failure" not in shown, shown
    assert shown["alive"] == ["chill"], (shown, facts["unit_journal"])
    assert shown["shown"]["bloat"]["Result"] == "oom-kill", shown
    app = "/user.slice/user-1000.slice/user@1000.service/app.slice"
    assert f"\tPath: {app}\n\t\tMemory Pressure Limit: 20.00%\n" in shown["oomctl"], shown["oomctl"]
    assert [f"{app}/bloat.service", "memory-pressure"] in killed(facts)

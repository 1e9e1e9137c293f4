"""Gentle steps on real control groups, under a real systemd."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.vm import ladders
from tests.vm.runs import check_ladders

if TYPE_CHECKING:
    from tests.vm.image import Image
    from tests.vm.ladders import Case

pytestmark = [pytest.mark.vm, pytest.mark.timeout(600)]
MIB = 1 << 20
GROWTH_MIB = 80
"""Of a grower in the time that it is held."""


class Facts:
    """What one boot showed."""

    def __init__(self, image: Image, cases: tuple[Case, ...]) -> None:
        run = check_ladders(image, cases)
        assert "failure" not in run.out, run.out["failure"].decode()
        assert run.ended == "poweroff", (run.ended, run.console)
        self.all: dict[str, Any] = json.loads(run.out["ladders.json"])

    def of(self, name: str) -> dict[str, Any]:
        """One case."""
        shown: dict[str, Any] = self.all["cases"][name]
        assert "failure" not in shown, (shown, self.all["unit_journal"])
        return shown

    def steps(self, name: str) -> list[tuple[str, str]]:
        """What came of its steps, in order."""
        entries = [each for each in self.all["step"] if each.get("OOMD_RULESET") == name]
        return [(each["OOMD_ACTION"], each["OOMD_STATUS"]) for each in entries]

    def step(self, name: str, status: str) -> dict[str, Any]:
        """The first of its steps that came to this."""
        entries = [each for each in self.all["step"] if each.get("OOMD_RULESET") == name]
        found = [each for each in entries if each["OOMD_STATUS"] == status]
        assert found, (entries, self.all["unit_journal"])
        return dict(found[0])

    def signals(self, name: str) -> list[str]:
        """Who was signalled by its ruleset."""
        entries = [each for each in self.all["decision"] if each.get("OOMD_RULESET") == name]
        return [each["OOMD_ACTION"] for each in entries if each["OOMD_ACTION"] in ("term", "kill")]


@pytest.fixture(scope="module")
def quick(image: Image) -> Facts:
    """One boot with the quick cases."""
    return Facts(image, ladders.QUICK)


@pytest.fixture(scope="module")
def long(image: Image) -> Facts:
    """One boot with the others."""
    return Facts(image, ladders.LONG)


def test_reclaim(quick: Facts) -> None:
    """Cold memory goes to swap; that is enough, and it is told how much it was. Nobody is killed."""
    shown, step = quick.of("reclaim"), quick.step("reclaim", "enough")
    assert int(step["OOMD_TAKEN_BYTES"]) >= 40 * MIB, step
    assert "OOMD_GAINED_BYTES" in step, step  # how much is not said: the actor still grows while that begins
    last = shown["samples"][-1]
    assert last[1] < 80 * MIB, shown
    assert last[2] > 40 * MIB, shown
    assert shown["alive"] == ["cold"], shown
    assert quick.signals("reclaim") == []


def test_throttle(quick: Facts) -> None:
    """While it holds the group hardly grows; then its former limit stands again, and it grows on."""
    shown = quick.of("throttle")
    held = [sample for sample in shown["samples"] if sample[3] != "max"]
    assert held[-1][0] - held[0][0] > 2.5, (shown, quick.all["unit_journal"])
    assert held[-1][1] - held[0][1] < GROWTH_MIB * MIB // 2, held
    after = [sample for sample in shown["samples"] if sample[0] > held[-1][0]]
    assert {sample[3] for sample in after} == {"max"}
    assert after[-1][1] > held[-1][1] + 20 * MIB, after
    assert quick.step("throttle", "put_back")["OOMD_REASON"] == "its time is over"
    assert shown["alive"] == ["grower"]


def test_freeze(quick: Facts) -> None:
    """While it holds the group does not grow at all; then it goes on."""
    shown = quick.of("freeze")
    held = [sample for sample in shown["samples"] if sample[4] == 1]
    assert held[-1][0] - held[0][0] > 2.5, (shown, quick.all["unit_journal"])
    assert held[-1][1] - held[1][1] < 2 * MIB, held
    after = [sample for sample in shown["samples"] if sample[0] > held[-1][0]]
    assert {sample[4] for sample in after} == {0}
    assert after[-1][1] > held[-1][1] + 20 * MIB, after
    assert quick.step("freeze", "put_back")["OOMD_REASON"] == "its time is over"
    assert shown["alive"] == ["grower"]


def _judge_crash(facts: Facts, name: str) -> None:
    shown = facts.of(name)
    assert shown["held_s"] >= 0, (shown, facts.all["unit_journal"])
    assert "cgroup.freeze" in shown["debts"], shown
    assert "memory.high" in shown["debts"], shown
    assert shown["back_s"] >= 0, (shown, facts.all["unit_journal"])
    assert shown["again_s"] >= 0, (shown, facts.all["unit_journal"])


def test_killed_killer_leaves_nothing(quick: Facts) -> None:
    """SIGKILL for the killer between a lever and its undoing: thawed, unthrottled, and oomd runs again."""
    _judge_crash(quick, "crash")


def test_nothing_is_left_at_the_end(quick: Facts) -> None:
    """The runtime directory goes with the service, and systemd-oomd could start again; the kernel had nothing to do."""
    assert quick.all["left"] == {"run": False}
    assert "Killed process" not in quick.all["kernel"]
    assert "SIGSYS" not in quick.all["unit_journal"]


@pytest.mark.vm_long
def test_process_is_swapped_out(long: Facts) -> None:
    """By process_madvise, from a process that was chosen."""
    shown, step = long.of("pageout"), long.step("pageout", "enough")
    assert int(step["OOMD_TAKEN_BYTES"]) >= 8 * MIB, step  # until the alarm is over, in pieces of 16 MiB
    assert shown["samples"][-1][2] > int(step["OOMD_TAKEN_BYTES"]) - 4 * MIB, shown
    assert shown["alive"] == ["cold"]
    assert long.signals("pageout") == []


@pytest.mark.vm_long
def test_whole_cgroup_is_killed(long: Facts) -> None:
    """All of it, with every group below."""
    assert long.of("whole")["alive"] == [], long.all["unit_journal"]
    assert long.signals("whole") == ["kill"]


@pytest.mark.vm_long
def test_unit_is_restarted(long: Facts) -> None:
    """By the system's manager, which was asked over D-Bus: another process, small again; the alarm is over."""
    shown = long.of("restart")
    assert shown["main_before"] != shown["main_after"] != "0", (shown, long.all["unit_journal"])
    step = long.step("restart", "enough")
    assert "restart-svc.service is active" in step.get("OOMD_REASON", ""), (step, long.all["unit_journal"])
    assert long.signals("restart") == []


@pytest.mark.vm_long
def test_frozen_unit_is_thawed_to_be_restarted(long: Facts) -> None:
    """Frozen it could not stop: the manager would wait in vain."""
    shown = long.of("thawed")
    assert 1 in {sample[4] for sample in shown["samples"]}, shown
    assert shown["main_before"] != shown["main_after"] != "0", (shown, long.all["unit_journal"])
    assert ("freeze", "not_enough") in long.steps("thawed")
    assert "thawed-svc.service is active" in long.step("thawed", "enough")["OOMD_REASON"]
    assert long.signals("thawed") == []


@pytest.mark.vm_long
def test_cold_memory_is_taken_before_anybody_is_short_of_it(long: Facts) -> None:
    """By the kernel, from a group whose process touched its memory once; no limit stays behind, nobody is killed."""
    shown = long.of("cold")
    first, last = shown["samples"][0], shown["samples"][-1]
    assert last[2] > first[2] + 20 * MIB, shown
    assert last[1] < first[1] - 20 * MIB, shown
    assert {sample[3] for sample in shown["samples"]} == {"max"}
    assert shown["alive"] == ["cold"]
    assert long.signals("cold") == []


@pytest.mark.vm_long
def test_what_is_looked_at_is_not_frozen(long: Facts) -> None:
    """The user's session is active on a seat."""
    shown = long.of("looked")
    assert {sample[4] for sample in shown["samples"]} == {0}, shown
    assert "sits in front of the machine" in long.step("looked", "impossible")["OOMD_REASON"]


@pytest.mark.vm_long
def test_killed_with_its_outside_leaves_nothing(long: Facts) -> None:
    """Everybody of the service at once: the service manager, or the next start, puts it back."""
    _judge_crash(long, "both")

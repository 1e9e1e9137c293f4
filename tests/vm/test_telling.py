"""Who is told of a kill, and what is run for it, with the real unit, its drop-ins and a user who is logged in."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest

from tests.vm import killers
from tests.vm.runs import check_telling

if TYPE_CHECKING:
    from tests.vm.image import Image

pytestmark = [pytest.mark.vm, pytest.mark.timeout(600)]
CGROUP = "/user.slice/user-1000.slice/session-leaker.scope"


@pytest.fixture(scope="module")
def facts(image: Image) -> dict[str, Any]:
    """One boot, one kill."""
    run = check_telling(image)
    assert "failure" not in run.out, run.out["failure"].decode()
    assert run.ended == "poweroff", (run.ended, run.console)
    return dict(json.loads(run.out["telling.json"]))


def test_nothing_is_missing(facts: dict[str, Any]) -> None:
    """The drop-ins give what the channels need, and no capability but one. (The first start, before the message bus has
    read its new policy, may have been refused the name there.)
    """
    last = facts["start"][-1]["_SYSTEMD_INVOCATION_ID"]
    assert [each["MESSAGE"] for each in facts["degraded"] if each["_SYSTEMD_INVOCATION_ID"] == last] == []
    assert facts["status"] == -15, facts["journal"]
    assert "cap_setuid" in facts["rights"]
    assert "cap_syslog" not in facts["rights"]


def test_journal_has_a_field_for_every_fact(facts: dict[str, Any]) -> None:
    """As programs ask for them."""
    decision, outcome = facts["decision"][0], facts["outcome"][0]
    assert decision["MESSAGE_ID"] == "2f0d6c0e5d9b4f5f8b1d6c4b6a0b1e02"
    wanted = {
        "OOMD_ACTION": "term",
        "OOMD_RULESET": "level",
        "OOMD_VICTIM_COMM": "leaker",
        "OOMD_VICTIM_UID": "1000",
        "OOMD_VICTIM_CGROUP": CGROUP,
        "OOMD_CRITICAL": "0",
        "OOMD_DRY_RUN": "0",
        "OBJECT_SYSTEMD_UNIT": "session-leaker.scope",
    }
    assert {name: decision.get(name) for name in wanted} == wanted
    assert int(decision["OOMD_AVAILABLE_BYTES"]) > 0
    assert int(decision["OOMD_HOOKS_US"]) > 0
    assert "memory_available" in decision["OOMD_DETECTORS"]
    assert (outcome["OOMD_STATUS"], outcome["OOMD_DECISION_ID"]) == ("exited", decision["OOMD_DECISION_ID"])


def test_journal_explains(facts: dict[str, Any]) -> None:
    """journalctl -x; and the victim's own unit shows what happened to it."""
    assert "Subject: Memory is short: term, by ruleset level" in facts["explained"]
    assert "SIGTERM to leaker" in facts["of_the_unit"]


def test_kernel_log(facts: dict[str, Any]) -> None:
    """The line that node-problem-detector's rule finds."""
    rules = json.loads((killers.TREE / "configs/node-problem-detector/oomd.json").read_text())["rules"]
    found = [rule["reason"] for rule in rules for line in facts["kmsg"] if re.search(rule["pattern"], line)]
    assert found == ["OomdKilling"], facts["kmsg"]
    assert any("sending SIGTERM to process" in line for line in facts["kmsg"])


def test_owner_is_told(facts: dict[str, Any]) -> None:
    """On the terminal, and on the desktop of whoever alone may enter it."""
    assert re.search(r"leaker \(\d+\) was asked to quit; it gives back \d+ MiB", facts["terminal"]), facts["terminal"]
    (notice,) = facts["desktop"]
    assert notice[0] == "oomd"
    assert notice[4].startswith("leaker (")


def test_programs_were_asked_to_trim_before(facts: dict[str, Any]) -> None:
    """Each level on the system's bus, before anybody had to go."""
    assert facts["owned_s"] >= 0
    assert facts["levels"][:3] == [50, 100, 255], facts["levels"]
    first = int(facts["shortage"][0]["__MONOTONIC_TIMESTAMP"])
    assert first < int(facts["decision"][0]["__MONOTONIC_TIMESTAMP"])


def test_hooks_in_the_units_sandbox(facts: dict[str, Any]) -> None:
    """Programs before and after, with their facts, and systemd's socket; what they return is told."""
    stages = {(each["OOMD_STAGE"], each["OOMD_HOOK"].rpartition("/")[2]): each for each in facts["hook"]}
    assert {key: each["OOMD_STATUS"] for key, each in stages.items()} == {
        ("before", "before-a-kill"): "done",
        ("before", "test"): "done",
        ("after", "after-a-kill"): "done",
    }
    assert "about to term leaker" in stages["before", "before-a-kill"]["MESSAGE"]
    assert stages["after", "after-a-kill"]["MESSAGE"].splitlines()[1:] == ["         0", "         0"]
    (call,) = map(json.loads, facts["calls"])
    assert call == {"method": "io.systemd.oom.Prekill.Notify", "parameters": {"cgroup": CGROUP}}
    before, after = (json.loads(facts["facts"][name]) for name in ("before", "after"))
    assert before["decision"]["target"]["comm"] == after["comm"] == "leaker"
    assert before["id"] == after["id"] == facts["decision"][0]["OOMD_DECISION_ID"]

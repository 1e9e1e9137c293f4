"""The short selection of the VM lab; the whole matrix is ``python -m tests.vm scoreboard``."""

from __future__ import annotations

import json
import os
import re
from typing import TYPE_CHECKING, Any

import pytest

from tests.vm import killers, scenarios
from tests.vm.runs import check_unit, run_scenario, run_suite

if TYPE_CHECKING:
    from tests.vm.image import Image

pytestmark = [pytest.mark.vm, pytest.mark.timeout(600)]
SCHED_FIFO = 1
CAPABILITIES = {"DAC_READ_SEARCH": 2, "KILL": 5, "IPC_LOCK": 14, "SYS_PTRACE": 19, "SYS_NICE": 23, "SYS_RESOURCE": 24}
"""Bit numbers (linux/capability.h)."""


@pytest.fixture(scope="module")
def facts(image: Image) -> dict[str, Any]:
    """What one boot with the real unit showed."""
    run = check_unit(image)
    assert "failure" not in run.out, run.out["failure"].decode()
    assert run.ended == "poweroff", (run.ended, run.console, run.out.get("checks.json"))
    return dict(json.loads(run.out["checks.json"]))


NOBODY_DIES = ("innocent", "memcg", "tmpfs")
SHORT = [("leak", "none"), ("leak", "zram"), ("innocent", "zram"), ("starved", "none"), ("tmpfs", "none")]
LONG = [(scenario.name, scenario.swap) for scenario in scenarios.ALL if (scenario.name, scenario.swap) not in SHORT]


@pytest.mark.parametrize(("name", "swap"), [*SHORT, *(pytest.param(*each, marks=pytest.mark.vm_long) for each in LONG)])
def test_scenario(image: Image, name: str, swap: str) -> None:
    """A machine out of memory: the right one dies by oomd's hand, the kernel has nothing to do, the database lives."""
    figures = run_scenario(image, name, "oomd", swap=swap)
    assert figures.verdict == "ok", figures
    if name not in ("memcg", "burst"):  # there the kernel kills, inside the limit or because it is quicker
        assert figures.killed_by == ("-" if name in NOBODY_DIES else "oomd"), figures
    # Where nobody dies the machine thrashes on for a minute; a page of ours that was never touched may be read then.
    assert figures.major_faults is not None
    assert figures.major_faults <= (8 if name in NOBODY_DIES else 0), figures


@pytest.mark.parametrize("name", ["starved", "frozen", "throttled", "service", "forkbomb-mem"])
@pytest.mark.parametrize("reap", killers.REAPS[:3])
@pytest.mark.vm_long
def test_scenario_with_each_backend(image: Image, name: str, reap: str) -> None:
    """Every backend gets the memory back in time, expedite also on a kernel that answers ENOSYS to process_mrelease."""
    figures = run_scenario(image, name, "oomd", reap=reap)
    assert figures.verdict == "ok", figures


@pytest.mark.vm_long
def test_reaping_spares_the_neighbour(image: Image) -> None:
    """With reaping only the leaker dies; with reaping off its memory comes too late, and somebody else dies too."""
    assert run_scenario(image, "neighbour", "oomd", reap="mrelease").verdict == "ok"
    without = run_scenario(image, "neighbour", "oomd", reap="none")
    assert "wrong kills" in without.verdict, without


@pytest.mark.vm_long
def test_suite_inside_the_guest(image: Image) -> None:
    """What the host's control groups cannot show: version 2 with its memory controller, real swap, real cpu.max."""
    run = run_suite(image, [])
    assert run.ended == "poweroff", run.console[-2000:]
    assert run.out.get("exit", b"1").strip() == b"0", run.out.get("pytest", b"").decode()[-4000:]


def test_levers_inside_the_guest(image: Image) -> None:
    """Reaping, lifting and their control groups of version 2, by the tests of that package."""
    run = run_suite(image, ["tests/reap"], memory_mib=1024)
    assert run.ended == "poweroff", run.console[-2000:]
    assert run.out.get("exit", b"1").strip() == b"0", run.out.get("pytest", b"").decode()[-4000:]


@pytest.mark.vm_long
@pytest.mark.timeout(1500)
def test_bench_inside_the_guest(image: Image) -> None:
    """Victims frozen and throttled by version 2, half in swap, starved and many of them: staged, killed and measured,
    none of them skipped.
    """
    chosen = " or ".join(("frozen", "throttled", "swapped", "starved", "many", "backend"))
    run = run_suite(image, ["tests/bench/test_bench.py", "-k", chosen], memory_mib=1024)
    told = run.out.get("pytest", b"").decode()
    assert run.ended == "poweroff", run.console[-2000:]
    assert run.out.get("exit", b"1").strip() == b"0", told[-4000:]
    assert "skipped" not in told, told[-2000:]


def test_service_is_ready(facts: dict[str, Any]) -> None:
    """systemd heard READY and shows a status."""
    service = facts["look_at_service"]
    assert (service["ActiveState"], service["SubState"], service["Type"]) == ("active", "running", "notify")
    assert service["NRestarts"] == "0"
    assert service["StatusText"]


def test_rights_and_protection(facts: dict[str, Any]) -> None:
    """The killer has the declared capabilities and no other, locked memory, a real-time class, oom_score_adj -1000."""
    process = facts["look_at_process"]
    unit = (killers.TREE / "systemd/oomd.service").read_text()
    (declared,) = re.findall(r"^CapabilityBoundingSet=(.+)$", unit, re.MULTILINE)
    mask = sum(1 << CAPABILITIES[name.removeprefix("CAP_")] for name in declared.split())
    assert [int(process[name], 16) for name in ("CapEff", "CapPrm", "CapBnd")] == [mask] * 3
    assert process["NoNewPrivs"] == "1"
    assert process["Seccomp"] == "2"
    assert int(process["VmLck"].split()[0]) >= 8 * 1024
    assert process["VmSwap"].split()[0] == "0"
    assert process["policy"] & ~os.SCHED_RESET_ON_FORK == SCHED_FIFO
    assert process["oom_score_adj"] == "-1000"


def test_kill_and_its_journal_fields(facts: dict[str, Any]) -> None:
    """A kill is two journal entries with one id, and every field is where the documentation says."""
    kill = facts["kill_somebody"]
    assert kill["status"] in (-15, -9), kill
    assert kill["kernel_kills"] == 0
    decision, outcome = kill["decision"][0], kill["outcome"][0]
    assert decision["OOMD_DECISION_ID"] == outcome["OOMD_DECISION_ID"]
    assert decision["OOMD_VICTIM_PID"] == str(kill["pid"])
    assert decision["OOMD_VICTIM_COMM"] == outcome["OOMD_VICTIM_COMM"] == "leaker1"
    assert decision["OOMD_REASON"]
    assert decision["SYSLOG_IDENTIFIER"] == "oomd"
    assert int(outcome["OOMD_RETURNED_BYTES"]) > 64 << 20


def test_metrics_over_a_socket_of_systemds(facts: dict[str, Any]) -> None:
    """Served by a service without a network, with Debian's prometheus-client; not once it is stopped, and a scrape does
    not start it.
    """
    scrape = facts["scrape"]
    assert "\noomd_killer_up 1.0\n" in scrape["text"], scrape
    assert '\noomd_shield{kind="memory_locked"} 1.0\n' in scrape["text"]
    assert scrape["other_network"]
    assert "refused" in scrape["stopped"]
    assert scrape["state"] == "inactive"
    assert "\noomd_killer_up 1.0\n" in scrape["again"], scrape


def test_hung_journal_costs_nothing(facts: dict[str, Any]) -> None:
    """With journald stopped the leaker dies all the same; the report comes once it runs again (F10)."""
    kill = facts["kill_beside_hung_journal"]
    assert kill["status"] in (-15, -9), kill
    assert "killed_by_test" not in kill, kill  # journald went on after its end
    assert kill["restarts"] == "0"
    assert kill["reported_s"] >= 0
    assert kill["outcome"][0]["OOMD_VICTIM_COMM"] == "leaker2"


def test_reload(facts: dict[str, Any]) -> None:
    """A good file is taken, a bad one refused and told; the process stays."""
    told = facts["reload"]
    assert told["good_s"] >= 0, told
    assert told["bad_s"] >= 0, told
    assert told["same_pid"]
    assert told["state"] == "active"


def test_watchdog(facts: dict[str, Any]) -> None:
    """A quiet killer keeps its watchdog; one that hangs is replaced."""
    assert facts["hold_watchdog"]["same_pid"], facts["hold_watchdog"]
    assert facts["hold_watchdog"]["restarts"] == "0"
    assert facts["hang"]["back_s"] >= 0, facts["hang"]


def test_killed_killer_comes_back(facts: dict[str, Any]) -> None:
    """After SIGKILL the unit is active again with one killer and one outside process."""
    assert facts["die"]["back_s"] >= 0, facts["die"]
    assert len(facts["die"]["processes"]) == 2, facts["die"]


def test_every_exit_needs_the_drop_in(facts: dict[str, Any]) -> None:
    """The unit alone says why SIGKILLs cannot be traced; with the drop-in, and no capability more, they are, and a stop
    leaves no instance.
    """
    traced = facts["trace_exits"]
    plain, dropped_in = traced["plain"], traced["dropped_in"]
    assert plain["started_s"] >= 0, traced
    assert any("every_exit: always has no effect" in text and "EROFS" in text for text in plain["degraded"]), traced
    assert plain["instances"] == []
    assert [text for text in dropped_in["degraded"] if "every_exit" in text] == []
    assert [name.rsplit("-", 1)[0] for name in dropped_in["instances"]] == [f"oomd-{dropped_in['pid']}"], traced
    assert dropped_in["rights"] == plain["rights"]
    assert traced["left"] == []


def test_control_socket_under_the_unit(facts: dict[str, Any]) -> None:
    """Without CAP_CHOWN its group may connect, by an access list; a member reads, a stranger is not let in, root pauses
    and the service manager shows it; a reload that fails tells its exit status.
    """
    told = facts["ask_by_socket"]
    assert told["started_s"] >= 0, told
    assert told["socket_s"] >= 0, told
    assert told["degraded"] == []
    assert told["socket"][1:] == [0, 0], told["socket"]
    paused, (status, said, _), member, stranger = told["paused"]
    assert (paused[0], paused[1].startswith("paused until ")) == (0, True), paused
    assert told["paused_text"].startswith("PAUSED for 5min by uid 0 (root): x")
    assert (status, json.loads(said)["outside"]["readers"]) == (0, "root and members of the group adm")
    assert (member[0], "may not pause; root may" in member[2]) == (4, True), member
    assert (stranger[0], "is for root and members of the group adm" in stranger[2]) == (4, True), stranger
    resumed, killed, reload = told["resumed"]
    assert resumed[0] == 0, resumed
    assert "PAUSED" not in told["resumed_text"]
    assert killed[1].startswith(("nobody: level: ", "would send SIGTERM to ")), killed
    assert (reload[0], "oomd.yaml:1:15: level.term:" in reload[2]) == (1, True), reload


def test_no_call_was_refused(facts: dict[str, Any]) -> None:
    """The seccomp filter killed nobody, and the service ended well."""
    assert "SIGSYS" not in facts["unit_journal"]
    assert "status=31" not in facts["unit_journal"]
    assert facts["after_stop"]["ActiveState"] == "inactive", facts["after_stop"]
    assert facts["after_stop"]["Result"] == "success"


def test_exposure_is_recorded(facts: dict[str, Any], record_property: Any) -> None:
    """``systemd-analyze security`` has a figure, and it is not worse than medium."""
    figure = facts["rate"]["figure"]
    record_property("systemd-analyze security", figure)
    words = figure.replace(":", " ").split()
    assert min(float(word) for word in words if word.replace(".", "").isdigit()) < 5.0, figure

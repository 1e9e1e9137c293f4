"""What is counted from reports, made by the killer's own functions."""

from __future__ import annotations

import errno
import marshal

import pytest

from oomd.outside.metrics.counts import MOST_CONTAINERS, MOST_PENDING, UNITS, Counts
from tests.outside.metrics.reports import DECISION, OUTCOME, outcome, start

POD = "/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod{0}.slice/cri-containerd-{1:064x}.scope"
TIMES = DECISION["times"]


def counted(*events: dict[str, object]) -> Counts:
    """After these reports."""
    counts = Counts()
    for event in events:
        assert counts.note(event)
    return counts


def test_a_kill_with_all_its_figures() -> None:
    """Decision and outcome of one kill: by ruleset, outcome and signal; bytes, times, candidates."""
    counts = counted(DECISION, outcome(signal_to_death_us=40_000, signal_to_memory_us=30_000))
    numbers, buckets = counts.samples.numbers, counts.samples.buckets
    assert numbers["oomd_decisions_total"] == {("level", "kill"): 1}
    assert numbers["oomd_candidates_total"] == {("ranked",): 2, ("rejected",): 1}
    assert numbers["oomd_kills_total"] == {("level", "killed", "SIGKILL"): 1}
    assert numbers["oomd_kill_expected_bytes_total"] == {("level",): 100}
    assert numbers["oomd_kill_returned_bytes_total"] == {("level",): 90}
    assert numbers["oomd_kill_last_timestamp_seconds"] == {(): 7.0}
    assert buckets["oomd_detection_to_signal_seconds"][()][-1] == pytest.approx(400e-6)
    assert buckets["oomd_signal_to_death_seconds"]["SIGKILL",][-1] == pytest.approx(0.04)
    assert buckets["oomd_signal_to_memory_seconds"]["SIGKILL",][-1] == pytest.approx(0.03)
    assert buckets["oomd_reap_duration_seconds"]["mrelease", "reaped"][-1] == pytest.approx(0.002)


def test_signal_that_was_told_late() -> None:
    """Where the decision did not know yet when its signal was sent, the outcome does; not after an escalation, whose
    signal is another one.
    """
    late = {**DECISION, "times": {**TIMES, "signalled_us": None}}
    seen = counted(late, outcome(signalled_us=TIMES["wake_us"] + 700)).samples.buckets
    assert seen["oomd_detection_to_signal_seconds"][()][-1] == pytest.approx(700e-6)
    escalation = {"event": "escalation", "id": "3", "pid": 7, "why": "its grace is over"}
    escalated = counted(late, escalation, outcome(signalled_us=TIMES["wake_us"] + 5_000_000))
    assert "oomd_detection_to_signal_seconds" not in escalated.samples.buckets
    assert escalated.samples.numbers["oomd_escalations_total"] == {(): 1}
    many = counted(*({**late, "id": str(number)} for number in range(3 * MOST_PENDING)))
    assert len(many._woke) == MOST_PENDING


def test_who_was_killed_by_others_is_no_kill_of_ours() -> None:
    """Its end was waited for: nobody was signalled, nothing is told of rulesets."""
    numbers = counted(outcome(ruleset="", signal="")).samples.numbers
    assert numbers == {"oomd_kills_by_others_total": {(): 1}}


def test_dry_run_kills_nobody() -> None:
    """It counts as what it is, and gives back nothing."""
    numbers = counted(outcome(status="dry_run", signal="")).samples.numbers
    assert numbers == {"oomd_kills_total": {("level", "dry_run", "none"): 1}}


@pytest.mark.parametrize(
    ("backend", "number", "result"),
    [
        ("mrelease", 0, "reaped"),
        ("expedite", errno.ESRCH, "quicker"),
        ("mrelease", errno.EINVAL, "shared"),
        ("expedite", errno.ENOSYS, "unsupported"),
        ("mrelease", errno.EPERM, "not_permitted"),
        ("mrelease", errno.EINTR, "failed"),
    ],
)
def test_reaps_by_result(backend: str, number: int, result: str) -> None:
    """What the kernel said becomes one of few words."""
    buckets = counted(outcome(reap_backend=backend, reap_errno=number)).samples.buckets
    assert set(buckets["oomd_reap_duration_seconds"]) == {(backend, result)}


def test_what_was_not_reaped_has_no_duration() -> None:
    """``none`` is no reap, and a reaper that said nothing none either."""
    buckets = counted(outcome(reap_backend="none"), outcome(reap_backend="", reap_us=None)).samples.buckets
    assert "oomd_reap_duration_seconds" not in buckets


def test_containers_are_bounded() -> None:
    """Those that lost a process last stay; whoever comes again keeps his count."""
    counts = Counts()
    for number in range(MOST_CONTAINERS):
        counts.note(outcome(cgroup=POD.format(f"{number:08x}", number)))
    counts.note(outcome(cgroup=POD.format(f"{0:08x}", 0)))
    counts.note(outcome(cgroup=POD.format("ffffffff", 99)))
    pods = {pod: number for (pod, _, qos), number in counts.containers.items() if qos == "besteffort"}
    assert len(pods) == MOST_CONTAINERS
    assert (pods["00000000"], pods["ffffffff"], "00000001" in pods) == (2, 1, False)


def test_containers_by_name() -> None:
    """Where the names are known they are told, and containers of one name are one; uid and id else."""
    counts = counted(
        *(outcome(cgroup=POD.format("aa", number)) for number in (1, 2)), outcome(cgroup=POD.format("bb", 3))
    )
    unknown, known = "", ("shop", "web-0", "app")
    for uid, identity, qos in counts.containers:
        if uid == "aa":
            counts.names[uid, identity, qos] = known
    assert counts.container_series() == {
        (*known, "besteffort"): 2,
        (unknown, "bb", f"{3:064x}", "besteffort"): 1,
    }


def test_units_of_systemd_count_as_one_ruleset() -> None:
    """Their rulesets are named by cgroups, of which there may be any number."""
    events = [outcome(ruleset=f"systemd: /system.slice/{name}.service") for name in "ab"]
    assert counted(*events).samples.numbers["oomd_kills_total"] == {(UNITS, "killed", "SIGKILL"): 2}


def test_gentle_steps() -> None:
    """By what came of them, and what they took."""
    step = {"event": "step", "ruleset": "level", "action": "reclaim", "dry_run": False, "taken_bytes": 5}
    counts = counted(
        {**step, "status": "enough"}, {**step, "status": "enough"}, {**step, "status": "", "dry_run": True}
    )
    series = counts.samples.numbers["oomd_steps_total"]
    assert series == {("level", "reclaim", "enough"): 2, ("level", "reclaim", "dry_run"): 1}
    assert counts.samples.numbers["oomd_step_taken_bytes_total"] == {("level", "reclaim"): 15}


def test_other_reports() -> None:
    """Reloads, hastened exits with those untold, refusals, what was lost."""
    reap = {"backend": "mrelease", "errno": 0, "duration_us": 9}
    counts = counted(
        {"event": "reload", "time": 5.0, "ok": True, "text": "", "problems": []},
        {"event": "reload", "time": 6.0, "ok": False, "text": "", "problems": ["x"]},
        {"event": "hastened", "untold": 3, "reap": reap},
        {"event": "refused", "id": "1", "pid": 1, "comm": "", "why": ""},
        {"event": "degraded", "text": "x"},
    )
    numbers = counts.samples.numbers
    assert numbers["oomd_config_reloads_total"] == {("taken",): 1, ("refused",): 1}
    assert numbers["oomd_config_last_reload_successful"] == {(): False}
    assert numbers["oomd_config_last_reload_success_timestamp_seconds"] == {(): 5.0}
    assert numbers["oomd_hastened_exits_total"] == {(): 4}
    assert (numbers["oomd_refusals_total"], numbers["oomd_degradations_total"]) == ({(): 1}, {(): 1})
    assert not counts.note({"event": "note", "text": "x"})


def test_page_begins_the_next_one() -> None:
    """Through the ledger, which knows plain values only, everything goes on; of another form nothing is taken."""
    first = counted(start(), DECISION, outcome(cgroup=POD.format("ab", 1)))
    page = marshal.loads(marshal.dumps(first.page()))
    second = Counts(page)
    assert (second.facts["reaper"], second.containers) == ("mrelease", first.containers)
    assert second.names == {}
    second.note(OUTCOME | {"ruleset": "level", "signal": "SIGKILL"})
    assert second.samples.numbers["oomd_kills_total"] == {("level", "killed", "SIGKILL"): 2}
    assert first.samples.numbers["oomd_kills_total"] == {("level", "killed", "SIGKILL"): 1}
    assert Counts({**page, "form": 99}).samples.numbers == {}
    assert Counts({}).facts == {}


def test_page_with_metrics_that_are_no_more() -> None:
    """A newer program takes over what it still knows."""
    page = counted(outcome()).page()
    page["numbers"] = {**page["numbers"], "oomd_gone_total": {(): 5}}
    assert set(Counts(page).samples.numbers) == set(page["numbers"]) - {"oomd_gone_total"}

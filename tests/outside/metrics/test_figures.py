"""All figures of one moment: asked for seldom, absent when nobody answers, going on after a restart."""

from __future__ import annotations

import marshal
from typing import Any

import pytest

from oomd.outside.metrics.figures import Figures
from tests.outside.metrics.reports import DECISION, answer, outcome, start


class Clock:
    """Time as the test says."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now_s = 100.0
        monkeypatch.setattr("oomd.outside.metrics.figures.time.monotonic", lambda: self.now_s)


def test_killer_is_asked_once_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many scrape."""
    clock, asked = Clock(monkeypatch), [0]

    def ask() -> dict[str, Any]:
        asked[0] += 1
        return answer(ticks=asked[0])

    told = Figures(ask)
    for expected, passed_s in ((1, 0.0), (1, 0.9), (2, 0.2), (3, 50.0), (3, 0.5)):
        clock.now_s += passed_s
        assert told.take().numbers["oomd_loop_ticks_total"] == {(): expected}
        assert asked == [expected]


def test_killer_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is told to be down, and nothing is told that only it knows; what was counted is told all the same."""
    clock = Clock(monkeypatch)
    answers: list[Any] = [answer(), None, answer()]
    told = Figures(lambda: answers.pop(0))
    told.note(start())
    told.note(outcome())
    seen = []
    for _ in range(3):
        numbers = told.take().numbers
        seen.append((numbers["oomd_killer_up"][()], "oomd_memory_free_bytes" in numbers))
        assert numbers["oomd_kills_total"]["level", "killed", "SIGKILL"] == 1
        assert numbers["oomd_kills_total"]["level", "exited", "SIGTERM"] == 0
        assert ("link",) in numbers["oomd_reports_dropped_total"] or not seen[-1][0]
        assert numbers["oomd_process_threads"]
        clock.now_s += 2
    assert seen == [(1, True), (0, False), (1, True)]


def test_last_figures_do_not_ask() -> None:
    """The killer has ended."""
    told = Figures(lambda: pytest.fail("asked"))
    assert told.take(last=True).numbers["oomd_killer_up"] == {(): 0}
    assert told.take().numbers["oomd_killer_up"] == {(): 0}


def test_what_did_not_happen_yet_is_zero() -> None:
    """A rate must see the first kill of each ruleset."""
    numbers = Figures(lambda: answer({"ruleset": "a"}, {"ruleset": "b"})).take().numbers
    assert numbers["oomd_kills_total"]["b", "killed", "SIGKILL"] == 0
    assert numbers["oomd_decisions_total"] == {(each, action): 0 for each in "ab" for action in ("term", "kill")}
    assert numbers["oomd_escalations_total"] == {(): 0}


def test_what_the_killer_told_at_its_start() -> None:
    """Reaping, shield, build; a dry run reaps nobody, which is no fault of the kernel."""
    told = Figures(lambda: None)
    assert "oomd_reaping_supported" not in told.take().numbers
    for changes, dry_run, supported in (
        ({}, False, 1),
        ({"calls": {"process_mrelease": False}, "reaper": "expedite"}, False, 0),
        ({"reaper": "none"}, False, 0),
        ({"reaper": "none (dry run)"}, True, 1),
    ):
        told.note({**start(**changes), "dry_run": dry_run})
        assert told.take().numbers["oomd_reaping_supported"] == {(): supported}
    numbers = told.take().numbers
    assert numbers["oomd_reaper_info"] == {("none",): 1}
    assert numbers["oomd_shield"] == {("memory_locked",): 1, ("spared_by_kernel",): 1, ("realtime",): 0}
    assert [labels[2] for labels in numbers["oomd_build_info"]] == ["6.1.0"]
    assert numbers["oomd_config_last_reload_successful"] == {(): 1}
    assert numbers["oomd_config_last_reload_success_timestamp_seconds"] == {(): 100.0}


def test_next_process_goes_on() -> None:
    """Counts, facts, starts and lost reports, through the ledger."""
    first = Figures(lambda: None, dropped=lambda: 3)
    for event in (start(), DECISION, outcome()):
        first.note(event)
    first.add("oomd_metrics_requests_total", 1, "200")
    second = Figures(lambda: None, marshal.loads(marshal.dumps(first.page())), dropped=lambda: 2)
    second.note(outcome())
    numbers = second.take().numbers
    assert numbers["oomd_kills_total"] == {("level", "killed", "SIGKILL"): 2}
    assert numbers["oomd_outside_starts_total"] == {(): 2}
    assert numbers["oomd_reports_dropped_total"] == {("sink",): 5}
    assert numbers["oomd_metrics_requests_total"] == {("200",): 1}
    assert numbers["oomd_reaping_supported"] == {(): 1}


def test_pods_are_named_once_they_are_known() -> None:
    """Asked for again while nobody knows; the next process knows them from the page."""
    cgroup = f"/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-podab.slice/cri-containerd-{1:064x}.scope"
    told, asked = Figures(lambda: None), []
    told.note(outcome(cgroup=cgroup))
    told.note(outcome(cgroup="/system.slice/a.service"))

    def names(uid: str, container: str) -> dict[str, str]:
        asked.append((uid, container))
        return {"namespace": "shop", "pod_name": "web-0", "container_name": "app"} if len(asked) > 1 else {}

    for expected in (("", "ab", f"{1:064x}"), ("shop", "web-0", "app"), ("shop", "web-0", "app")):
        told.name_pods(names)
        assert told.take().numbers["oomd_pod_kills_total"] == {(*expected, "besteffort"): 1}
    assert asked == [("ab", f"{1:064x}")] * 2
    later = Figures(lambda: None, marshal.loads(marshal.dumps(told.page())))
    assert later.take().numbers["oomd_pod_kills_total"] == {("shop", "web-0", "app", "besteffort"): 1}


def test_page_is_a_copy() -> None:
    """What happens afterwards does not change it."""
    told = Figures(lambda: None)
    page = told.page()
    told.note(outcome())
    assert "oomd_kills_total" not in page["numbers"]

"""One round of choice on request, on the daemon's loop in a dry run."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from oomd.model.decision import ASKED
from oomd.rounds import MOST_WAITING
from tests.fakes.proc_tree import GIB, MIB
from tests.test_orders import Site, site

if TYPE_CHECKING:
    from oomd.model.report import Plain

__all__ = ["site"]


def ask(site: Site, command: str, **content: Any) -> Plain:
    """The answer, after as many ticks as it takes; other events are left out."""
    site.orders.take({"command": command, "number": 9, **content})
    for _ in range(200):
        site.loop.tick()
        for heard in site.heard():
            if heard["event"] == "answer":
                assert heard["number"] == 9
                answer: Plain = heard
                return answer
    raise AssertionError("no answer")


def test_who_would_be_next(site: Site) -> None:
    """A fresh look far from danger; a second at once is answered from the first, with its age."""
    answer = ask(site, "next")
    assert (answer["ok"], answer["fresh"], answer["why"], answer["age_us"]) == (True, True, "", 0)
    decision = answer["next"]["decision"]
    assert (decision["action"], decision["target"]["comm"]) == ("term", "web")
    assert answer["next"]["ranking"][0]["pid"] == 1001
    again = ask(site, "next")
    assert (again["fresh"], again["why"]) == (False, "somebody asked a moment ago")
    assert again["age_us"] > 0
    assert again["next"] == answer["next"]
    assert site.loop.act.decisions == 0


def test_no_look_while_memory_is_short(site: Site) -> None:
    """Then the answer is that of before, or none; no process is looked at."""
    site.proc.set_meminfo(available=1200 * MIB)  # above the limit, and warm
    answer = ask(site, "next")
    assert (answer["fresh"], answer["why"], answer["next"]) == (False, "memory is short", None)


def test_no_look_while_a_kill_is_under_way(site: Site) -> None:
    """Its credit is what matters then."""
    assert ask(site, "kill_now", by="uid 0 (root)", dry_run=False)["decision"]["decision"]["action"] == "term"
    assert ask(site, "next")["why"] == "a kill is under way"


def test_no_look_that_would_last_too_long(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """The fastest filler ever seen must not reach the limit meanwhile."""
    site.loop.tick()
    monkeypatch.setattr(site.loop.parts.table.ration, "cost_us", 5_000_000)
    assert "memory could be short by then" in ask(site, "next")["why"]


def test_a_look_waits_for_measurements_and_leaves_alarms_their_patience(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What may be mostly shared is measured first, for as long as an alarm would wait; the loop looks soon again."""
    monkeypatch.setattr(site.loop.parts.sharing, "awaits", lambda leaders: True)
    site.orders.take({"command": "next", "number": 9})
    site.loop.tick()
    assert site.heard() == []
    assert site.loop.pace.interval_us <= 20_000
    assert site.loop.search._waiting_since_us is not None
    answer = ask(site, "status")
    assert answer["ok"]
    while not (heard := site.heard()):
        site.loop.tick()
    assert heard[0]["fresh"]
    assert site.loop.search._waiting_since_us is None


def test_a_pause_does_not_hide_who_would_be_next(site: Site) -> None:
    """It answers the question that was asked."""
    site.orders.take({"command": "pause", "number": 9, "duration_us": 60_000_000, "why": "", "by": "x"})
    assert site.heard()[-1]["ok"]
    assert ask(site, "next")["next"]["decision"]["target"]["comm"] == "web"


def test_kill_by_hand(site: Site) -> None:
    """As though the first ruleset had fired, and who asked stands in the reason. (A dry run: nobody is signalled.)"""
    answer = ask(site, "kill_now", by="uid 0 (root)", dry_run=False)
    decision = answer["decision"]
    assert decision["decision"]["target"]["comm"] == "web"
    assert decision["decision"]["reason"].startswith("level: asked by uid 0 (root); web (1001) gives back")
    assert decision["detections"][0]["evidence"][0]["detector"] == ASKED
    assert (answer["decision_id"], answer["signalled"], answer["dry_run"]) == ("1", False, True)
    assert site.loop.state.credits[0].process.id.pid == 1001
    waiting = ask(site, "kill_now", by="uid 0 (root)", dry_run=False)
    assert waiting["decision"]["decision"]["reason"] == "waiting for what web (1001) gives back"
    assert (waiting["decision_id"], waiting["signalled"]) == ("", False)


@pytest.mark.parametrize("said", [{"dry_run": True}, {}, {"dry_run": None}])
def test_a_dry_run_by_hand_does_nothing(site: Site, said: dict[str, Any]) -> None:
    """The same answer; anything but a clear "no dry run" is one."""
    answer = ask(site, "kill_now", by="uid 0 (root)", **said)
    assert answer["decision"]["decision"]["target"]["comm"] == "web"
    assert (answer["decision_id"], answer["signalled"], answer["dry_run"]) == ("", False, True)
    assert site.loop.state.credits == ()
    assert site.loop.act.decisions == 0


def test_by_hand_protects_as_ever(site: Site) -> None:
    """Who may not be killed is not killed by hand."""
    site.proc.add_process(1002, rss_anon=4 * GIB, comm="sshd", uid=0)
    answer = ask(site, "kill_now", by="uid 0 (root)", dry_run=True)
    assert answer["decision"]["decision"]["target"]["comm"] == "web"
    assert "sshd" in [each["comm"] for each in answer["decision"]["rejected"]]


def test_by_hand_obeys_a_pause(site: Site) -> None:
    """Nobody new is chosen; the reason says so."""
    site.orders.take({"command": "pause", "number": 9, "duration_us": 60_000_000, "why": "backup", "by": "uid 7"})
    assert site.heard()[-1]["ok"]
    answer = ask(site, "kill_now", by="uid 0 (root)", dry_run=False)
    assert answer["decision"]["decision"]["reason"].startswith("paused by uid 7 for")
    assert answer["decision"]["decision"]["action"] == "none"
    assert site.loop.state.credits == ()


def test_requests_wait_for_their_turn_and_are_bounded(site: Site) -> None:
    """One a tick, and the loop does not sleep meanwhile; one too many is refused at once."""
    for number in range(MOST_WAITING + 1):
        site.orders.take({"command": "kill_now", "number": number, "by": "x", "dry_run": True})
    assert site.heard() == [
        {**site.last, "number": MOST_WAITING, "ok": False, "text": "too many wait for a choice"},
    ]
    for number in range(MOST_WAITING):
        site.loop.tick()
        assert [each["number"] for each in site.heard()] == [number]
        assert (site.loop.pace.interval_us <= 20_000) == (number < MOST_WAITING - 1)


def test_no_ruleset_no_choice(site: Site) -> None:
    """In the place of lmkd alone its clients say who may die."""
    site.loop.replace_rules(replace(site.loop.rules, rulesets=()))
    assert "no ruleset is in force" in ask(site, "next")["text"]
    assert not ask(site, "kill_now", by="x", dry_run=False)["ok"]

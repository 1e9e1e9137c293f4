"""A pause on the daemon's loop in a dry run: begins, holds, ends by itself or on request, survives a reload."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from oomd.config.compiled import to_plain
from oomd.model.units import SECOND_US
from oomd.monitor.tape import Tape
from oomd.pausing import MOST_US, MOST_WHY
from tests.fakes.proc_tree import MIB
from tests.fakes.tapes import drained
from tests.test_orders import Site, configuration, site

if TYPE_CHECKING:
    from oomd.model.report import Plain

__all__ = ["site"]


def ask(site: Site, command: str, **content: Any) -> Plain:
    """The answer to a message, behind whatever is told before it."""
    site.orders.take({"command": command, "number": 9, **content})
    while (heard := site.hear())["event"] != "answer":
        assert heard["event"] in ("pause", "resume", "note", "decision")
    assert heard["number"] == 9
    answer: Plain = heard
    return answer


def pause(site: Site, seconds: float = 600, why: str = "backup") -> Plain:
    """Ask for one."""
    return ask(site, "pause", duration_us=int(seconds * SECOND_US), why=why, by="uid 0 (root)")


def end_now(site: Site) -> None:
    """As though its time had passed."""
    held = site.loop.state.pause
    assert held is not None
    site.loop.state = replace(site.loop.state, pause=replace(held, until_us=held.since_us + 1))


def test_nobody_new_is_chosen_and_that_is_told(site: Site) -> None:
    """The critical level too meets the pause; an alarm that does is told, once in a while."""
    site.orders.take(
        {"command": "pause", "number": 9, "duration_us": 600_000_000, "why": "backup", "by": "uid 0 (root)"}
    )
    event, answer = site.hear(), site.hear()
    assert (event["event"], event["why"], event["by"]) == ("pause", "backup", "uid 0 (root)")
    assert event["text"] == "10min by uid 0 (root): backup; nobody new is chosen"
    assert answer["pause"]["until_us"] - answer["pause"]["since_us"] == 600_000_000
    site.proc.set_meminfo(available=10 * MIB)
    for _ in range(3):
        site.loop.tick()
    told = site.hear()
    assert told["event"] == "note"
    assert "nobody is chosen: paused by uid 0 (root)" in told["text"]
    assert site.loop.act.decisions == 0
    site.silent()
    assert ask(site, "resume", by="uid 0 (root)")["ok"]
    site.loop.tick()
    assert site.hear()["event"] == "decision"
    assert site.notified == ["STATUS", "STATUS"]


def test_it_ends_by_itself(site: Site) -> None:
    """And the loop does not sleep beyond its end."""
    assert pause(site)["ok"]
    held = site.loop.state.pause
    assert held is not None
    assert site.orders.pausing.longest_us(held.until_us - 1000) == 1000
    assert site.orders.pausing.words() == "PAUSED for 10min by uid 0 (root): backup"
    end_now(site)
    site.loop.tick()
    event = site.hear()
    assert (event["event"], event["why"]) == ("resume", "its time is over")
    assert site.loop.state.pause is None
    assert site.orders.pausing.words() == ""


def test_it_survives_a_reload_and_is_seen(site: Site) -> None:
    """Rules change beneath it; the status tells it."""
    pause(site)
    site.reload(ok=True, plain=to_plain(configuration("level: {term: 2GiB}\nstall: off\n")))
    assert site.hear()["ok"]
    site.orders.take({"command": "status", "number": 5})
    site.loop.tick()
    told = site.hear()["status"]["pause"]
    assert (told["why"], told["by"]) == ("backup", "uid 0 (root)")


def test_another_takes_its_place(site: Site) -> None:
    """Longer or shorter; and a reason is cut."""
    pause(site)
    assert pause(site, 5, "x" * 1000)["pause"]["why"] == "x" * MOST_WHY
    held = site.loop.state.pause
    assert held is not None
    assert held.until_us - held.since_us == 5 * SECOND_US


@pytest.mark.parametrize("duration", [0, -1, MOST_US + 1, None, "600", 1.5, [1], True])
def test_what_is_no_pause(site: Site, duration: Any) -> None:
    """Nothing changes."""
    answer = ask(site, "pause", duration_us=duration, why="", by="")
    assert not answer["ok"]
    assert "24 hours" in answer["text"]
    assert site.loop.state.pause is None
    nothing = ask(site, "resume", by="x")
    assert (nothing["ok"], nothing["text"]) == (False, "it is not paused")


def test_a_recording_tells_it(site: Site) -> None:
    """Its beginning and its end stand in the ticks that follow."""
    tape = Tape()
    site.loop.parts = replace(site.loop.parts, tape=tape)
    site.loop.act.parts = site.loop.parts
    site.loop.tick()
    pause(site)
    site.loop.tick()
    site.loop.tick()
    ask(site, "resume", by="x")
    site.loop.tick()
    ticks = [tick for part in drained(tape) for tick in part]
    assert [tick.get("pause", "-") and tick.get("pause", "-") != "-" for tick in ticks] == [False, True, False, {}]
    assert ticks[1]["pause"]["by"] == "uid 0 (root)"

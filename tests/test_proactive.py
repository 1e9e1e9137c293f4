"""Proactive reclaim under way: when it looks, what it asks for, when it stops, what it tells."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from oomd.model.decision import StepResult
from oomd.model.proactive import Proactive
from oomd.model.units import MIB, SECOND_US
from oomd.proactive import TELL_US, Prober
from tests.engine.test_proactive import WEB, at, group
from tests.fakes.builders import alarm

if TYPE_CHECKING:
    from oomd.model.proactive import Probe
    from oomd.model.snapshot import Cgroup

RULE = Proactive("/system.slice/*")
QUIET = replace(alarm(), fired=False, since_us=None)


class Desk:
    """A prober over cgroups of the test's, and steps that remember."""

    def __init__(self, *, dry_run: bool = False) -> None:
        self.events: list[dict[str, Any]] = []
        self.asked: list[tuple[str, Probe]] = []
        self.let: list[str] = []
        self.looks: list[float] = []
        self.cgroup = group()
        self.prober = Prober(lambda event, **content: self.events.append({"event": event, **content}))
        self.steps: Any = None if dry_run else self

    def tick(self, seconds: float, *, quiet: bool = True) -> None:
        """The loop's."""

        def look(wants: Any, now_us: int) -> tuple[Cgroup, ...]:
            self.looks.append(now_us / SECOND_US)
            return (self.cgroup,)

        self.prober.tend(RULE, (QUIET if quiet else alarm(),), at(seconds), look, self.steps)

    def probe(self, identity: str, probe: Probe, patience_us: int) -> None:  # noqa: ARG002 - the test has its own time
        """It is asked for."""
        self.asked.append((identity, probe))

    def let_go(self, identity: str, why: str) -> None:  # noqa: ARG002 - nobody reads it
        """It is over."""
        self.let.append(identity)

    def done(self, mib: int, why: str = "") -> None:
        """The last one is."""
        assert self.prober.note(StepResult(self.asked[-1][0], "done", why, mib * MIB))


def test_every_few_seconds() -> None:
    """And never a second time before the first is done."""
    desk = Desk()
    for tenth in range(130):
        desk.tick(1 + tenth / 10)
    assert desk.looks == [1, 7]
    assert [each.path for _, each in desk.asked] == [WEB]
    desk.done(14)
    desk.tick(14)
    assert desk.looks == [1, 7, 14]


def test_an_alarm_ends_it() -> None:
    """At once, and for a while; once it is let go of it is not asked again and again."""
    desk = Desk()
    desk.tick(1)
    desk.tick(7)
    for second in range(8, 20):
        desk.tick(second, quiet=False)
    assert desk.let == [desk.asked[0][0]]
    desk.done(2, "it is wanted no longer")
    desk.tick(20)
    assert desk.looks == [1, 7]
    desk.tick(25)
    assert desk.looks == [1, 7, 25]


def test_what_it_brought_is_told_once_in_a_while() -> None:
    """By cgroup, and why no more; nothing where nothing was taken."""
    desk = Desk()
    second = 1.0
    while second * SECOND_US < 3 * TELL_US:
        desk.tick(second)
        if len(desk.asked) > len(desk.let):
            desk.let.append("")
            desk.done(2, "there is nothing cold left")
        second += 1
    (first, *_) = desk.events
    assert first["event"] == "proactive"
    assert first["cgroups"][0]["cgroup"] == WEB
    assert first["cgroups"][0]["taken_bytes"] > 10 * MIB
    assert first["cgroups"][0]["why"] == "there is nothing cold left"
    assert not first["dry_run"]
    quiet = Desk()
    quiet.cgroup = group(current_bytes=0)
    for turn in range(100):
        quiet.tick(turn * 6)
    assert quiet.events == []


def test_dry_run_tells_only() -> None:
    """What would have been asked for."""
    desk = Desk(dry_run=True)
    for turn in range(15):
        desk.tick(1 + turn * 6)
    assert desk.asked == []
    assert desk.events[0]["dry_run"]
    assert desk.events[0]["cgroups"][0]["taken_bytes"] > 50 * MIB


def test_off_is_off() -> None:
    """Nothing is looked at; and somebody else's results are not ours."""
    desk = Desk()
    desk.prober.tend(None, (QUIET,), at(1), lambda *_: (desk.cgroup,), desk.steps)
    desk.prober.tend(RULE, (QUIET,), at(1), None, desk.steps)
    assert (desk.asked, desk.looks) == ([], [])
    assert not desk.prober.note(StepResult("17", "done"))

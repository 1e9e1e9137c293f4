"""Several processes as one victim, on real ones."""

from __future__ import annotations

import os
import signal
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from oomd.engine.levels import parts_of
from oomd.kill.executor import Executor
from oomd.kill.targets import begin_all, sweep, with_sharers
from oomd.kill.warrant import Refused
from oomd.model.decision import KILL, TERM, Candidate, Decision, Rejection
from oomd.model.snapshot import ProcessId
from oomd.model.units import SECOND_US
from oomd.monitor.waiter import Waiter
from oomd.parts import clock_us
from tests.descriptors import open_descriptors, opened_since
from tests.ends import at_end, until_end
from tests.fakes.builders import alarm
from tests.integration.way_to_a_kill import build, take_down
from tests.kill.test_executor import FRESH, LOW, Stage
from tests.reap.sharers import sharers
from tests.waiting import is_ready

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from oomd.model.ruleset import EngineState


@pytest.fixture
def stage() -> Iterator[Stage]:
    """A fresh stage."""
    stage = Stage()
    yield stage
    stage.close()


def group_of(*parts: Candidate) -> Candidate:
    """These as one, largest first."""
    members = tuple(sorted((part.process for part in parts), key=lambda each: -each.size_bytes))
    total = sum(part.freeable_bytes for part in parts)
    return Candidate(members[0], total, "size", "normal", total, kind="group", name="7", members=members)


def decision(target: Candidate, action: str) -> Decision:
    """To do this to that set, with a grace of 5 s."""
    return Decision(action, "test", LOW, ruleset="level", target=target, grace_us=5 * SECOND_US)


def begin(stage: Stage, target: Candidate, action: str) -> EngineState:
    """Carry it out."""
    return begin_all(stage.executor, "1", decision(target, action), parts_of(target), FRESH, lambda _: -1)


def test_all_die_with_a_credit_each(stage: Stage) -> None:
    """SIGKILL for every member; what the set gives back is shared out among them, the largest first."""
    victims = [stage.start("hold", f"victim{number}", str(mib)) for number, mib in enumerate((16, 48, 8))]
    target = group_of(*victims)
    state = begin(stage, target, KILL)
    assert [credit.process.comm for credit in state.credits] == ["victim1", "victim0", "victim2"]
    assert sum(credit.expected_bytes for credit in state.credits) == pytest.approx(target.freeable_bytes, abs=3)
    assert [child.wait(timeout=120) for child in stage.children] == [-signal.SIGKILL] * 3
    while not all(credit.phase == "dead" or credit.reaped_us for credit in state.credits):
        state = stage.wait(state, LOW.time_us + 1, "reaper")
    later = replace(LOW, time_us=LOW.time_us + 60 * SECOND_US)
    outcomes, state = stage.executor.settle(later, state)
    assert {outcome.status for outcome in outcomes} == {"killed"}, outcomes


def test_asked_to_go_all_together(stage: Stage) -> None:
    """SIGTERM for every member, SIGKILL for each when the grace is over."""
    target = group_of(stage.start("hold", "one", "8"), stage.start("stubborn", "two", "8"))
    state = begin(stage, target, TERM)
    assert {credit.phase for credit in state.credits} == {"term"}
    assert stage.children[0].wait(timeout=120) == -signal.SIGTERM
    assert stage.children[1].poll() is None
    late = replace(LOW, time_us=LOW.time_us + 5 * SECOND_US)
    assert stage.executor.escalate((), late, state)[1] is None  # of both: the other's end was not noted yet
    assert stage.children[1].wait(timeout=120) == -signal.SIGKILL


def test_a_grace_ends_for_all_at_once(stage: Stage) -> None:
    """Nobody of the set is reaped before the last of it has got its SIGKILL; each has its outcome."""
    target = group_of(*(stage.start("stubborn", f"old{number}", "8") for number in range(3)))
    state = begin(stage, target, TERM)
    late = replace(LOW, time_us=LOW.time_us + 5 * SECOND_US)
    escalations, aim, state = stage.executor.escalate((), late, state)
    assert (len(escalations), aim) == (3, None)
    assert [child.wait(timeout=120) for child in stage.children] == [-signal.SIGKILL] * 3
    while not all(credit.phase == "dead" or credit.reaped_us for credit in state.credits):
        state = stage.wait(state, late.time_us + 1, "reaper")
    outcomes, _ = stage.executor.settle(replace(late, time_us=late.time_us + 60 * SECOND_US), state)
    assert [outcome.status for outcome in outcomes] == ["killed"] * 3


def test_one_that_may_not_be_touched_saves_all(stage: Stage) -> None:
    """A member that gets no warrant: nobody is signalled, every pidfd is closed, and it is told who it was."""
    one, two = stage.start("hold", "one", "8"), stage.start("hold", "two", "4")
    outside = replace(two, process=replace(two.process, id=ProcessId(1, 0)))
    before = open_descriptors()
    target = group_of(one, outside)
    with pytest.raises(Refused, match="pid 1") as caught:
        begin(stage, target, KILL)
    assert caught.value.who == ProcessId(1, 0)
    assert opened_since(before) == []
    assert [child.poll() for child in stage.children] == [None, None]


def test_who_went_meanwhile_is_left_out(stage: Stage) -> None:
    """A member that ended by itself is no refusal; when all did, it is one."""
    one, two = stage.start("hold", "one", "8"), stage.start("hold", "two", "4")
    stage.children[1].kill()
    stage.children[1].wait()
    state = begin(stage, group_of(one, two), KILL)
    assert [credit.process.comm for credit in state.credits] == ["one"]
    stage.children[0].wait(timeout=120)
    with pytest.raises(Refused, match="is gone"):
        begin(stage, group_of(one, two), KILL)


def test_sweep_until_nothing_new_appears(stage: Stage) -> None:
    """Whoever joined while the others were being killed is killed too, round by round; then it ends."""
    late = [stage.start("hold", f"late{number}", "4") for number in range(2)]
    target = group_of(stage.start("hold", "first", "8"))
    rounds = [(late[0],), (late[1],), ()]
    state = sweep(stage.executor, "1", decision(target, KILL), FRESH, lambda _: rounds.pop(0))
    assert rounds == []
    assert [credit.process.comm for credit in state.credits] == ["late0", "late1"]
    assert [child.wait(timeout=120) for child in stage.children[:2]] == [-signal.SIGKILL] * 2
    assert stage.children[2].poll() is None


def test_dry_run_gives_credit_and_touches_nobody(stage: Stage) -> None:
    """Without a gate each part is credited as a single victim would be."""
    target = group_of(stage.start("hold", "one", "8"), stage.start("hold", "two", "4"))
    executor = Executor(None, None, until_end(Waiter()))
    state = begin_all(executor, "1", decision(target, KILL), parts_of(target), FRESH, lambda _: -1)
    assert len(state.credits) == 2
    assert [child.poll() for child in stage.children] == [None, None]


def test_sharers_of_one_memory_map_go_together(tmp_path: Path) -> None:
    """Who shares the victim's memory map goes with it; where one of them is spared, the victim is passed over."""
    events: list[Any] = []
    loop = build(events)
    at_end(lambda: take_down(loop))
    with sharers(tmp_path, 48) as (parent, child):
        pidfd = os.pidfd_open(child)
        status = loop.parts.sampler.read_status(clock_us())
        loop.parts.table.scan(status, clock_us)
        chosen = loop._select((alarm(critical=True),), status)
        assert chosen.target is not None
        victim = chosen.target.process
        others = loop.search.sharers(victim)
        assert {victim.id.pid, *(each.id.pid for each in others)} == {parent.pid, child}
        spared = replace(chosen, rejected=(Rejection(others[0], "is protected by its name"),))
        with pytest.raises(Refused, match=r"shares its memory with .* which is protected by its name"):
            with_sharers(spared, others, 64)
        with pytest.raises(Refused, match="shares its memory with 1 more, and one action may take 1"):
            with_sharers(chosen, others, 1)
        assert loop.act.at_once(loop.act.attempt(chosen))
        assert sorted(events[-1]["decision"]["pids"]) == sorted((parent.pid, child))
        assert parent.wait(90) == -signal.SIGKILL
        assert is_ready(pidfd, 90)
        os.close(pidfd)

"""The executor, on real victims, with the time told by the test."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from oomd.engine import credit as credits
from oomd.engine.aftermath import with_credit
from oomd.engine.levels import parts_of
from oomd.kernel.files import PAGE_BYTES
from oomd.kernel.scope import ScopeGuard
from oomd.kill.executor import Executor
from oomd.kill.targets import begin_all
from oomd.kill.warrant import GONE, Gate, Refused
from oomd.model.decision import KILL, TERM, Candidate, Decision
from oomd.model.ruleset import EngineState, RulesetState
from oomd.model.scope import parse_scope
from oomd.model.units import MIB, SECOND_US
from oomd.monitor.rows import read_row
from oomd.monitor.waiter import Waiter
from oomd.reap.mrelease import MreleaseReaper
from oomd.reap.pool import ReaperPool
from tests.descriptors import open_descriptors, opened_since
from tests.fakes.builders import alarm, status
from tests.integration.harness import ACTORS

if TYPE_CHECKING:
    from collections.abc import Iterator

FRESH = EngineState(rulesets=(RulesetState(), RulesetState()))
LOW = status(mem_available_bytes=300 * MIB)


class Stage:
    """An executor with its gate, reaper and epoll, around the tree of this process."""

    def __init__(self) -> None:
        self.proc_fd = os.open("/proc", os.O_RDONLY | os.O_DIRECTORY)
        guard = ScopeGuard(parse_scope(f"tree:{os.getpid()}"), self.proc_fd)
        self.waiter = Waiter()
        self.reaper = ReaperPool(MreleaseReaper())
        self.reaper.start()
        self.waiter.watch(self.reaper.fd, "reaper")
        self.executor = Executor(Gate(guard, self.proc_fd, frozenset()), self.reaper, self.waiter)
        self.outcomes: list[Any] = []
        self.children: list[subprocess.Popen[bytes]] = []

    def start(self, *role: str) -> Candidate:
        """A victim of ours."""
        child = subprocess.Popen([sys.executable, ACTORS, *role], stdout=subprocess.PIPE)
        assert child.stdout is not None
        child.stdout.readline()
        self.children.append(child)
        row = read_row(self.proc_fd, child.pid, PAGE_BYTES)
        assert row is not None
        row.read_status(self.proc_fd)
        value = row.value(0)
        return Candidate(value, value.size_bytes, "size", "normal", value.size_bytes)

    def wait(self, state: EngineState, now_us: int, key: str) -> EngineState:
        """Take events until one of this kind came."""
        while True:
            events = self.waiter.wait_ready(90_000_000)
            assert events, f"no {key}"
            for event, _ in events:
                if event == "reaper":
                    outcomes, state = self.executor.note_reaped(state)
                    self.outcomes += outcomes
                elif isinstance(event, tuple):
                    state = self.executor.note_death(event[1], now_us, state)
            if any(event == key or (isinstance(event, tuple) and event[0] == key) for event, _ in events):
                return state

    def close(self) -> None:
        """Leave nothing behind."""
        self.executor.close()
        assert self.reaper.close(90)
        self.waiter.close()
        os.close(self.proc_fd)
        for child in self.children:
            child.kill()
            child.wait()
            if child.stdout is not None:
                child.stdout.close()


@pytest.fixture
def stage() -> Iterator[Stage]:
    """A fresh stage."""
    stage = Stage()
    yield stage
    stage.close()


def decision(victim: Candidate, action: str) -> Decision:
    """To do this to that victim, with a grace of 5 s."""
    return Decision(action, "test", LOW, ruleset="level", target=victim, grace_us=5 * SECOND_US)


def begin(stage: Stage, decision: Decision) -> EngineState:
    """Signal its victim, and open the credit."""
    aim = stage.executor.take_aim(decision)
    assert not stage.executor.strike(aim)
    return stage.executor.start("1", decision, aim.warrant, FRESH, signalled=True)


def test_kill_reap_outcome(stage: Stage) -> None:
    """SIGKILL at once; death, the reaper's word and the memory back make one outcome; every descriptor is closed."""
    before = open_descriptors()
    victim = stage.start("hold", "victim", "64")
    state = begin(stage, decision(victim, KILL))
    assert [(credit.decision_id, credit.phase) for credit in state.credits] == [("1", "kill")]
    state = stage.wait(state, LOW.time_us + 50_000, "reaper")
    if not any(credit.phase == credits.DEAD for credit in state.credits):
        state = stage.wait(state, LOW.time_us + 50_000, "victim")
    later = replace(LOW, time_us=LOW.time_us + 2 * SECOND_US, mem_available_bytes=364 * MIB)
    state = replace(state, credits=credits.progressed(state.credits, later))
    outcomes, state = stage.executor.settle(later, state)
    assert [(outcome.status, outcome.reap_backend) for outcome in outcomes] == [("killed", "mrelease")]
    assert (outcomes[0].ruleset, outcomes[0].signal) == ("level", "SIGKILL")
    assert outcomes[0].returned_bytes == 64 * MIB or outcomes[0].returned_bytes == outcomes[0].expected_bytes
    assert state.credits == ()
    assert stage.children[0].wait() == -signal.SIGKILL
    assert len(opened_since(before)) <= 2


def test_whoever_goes_on_awaits_every_signal(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second one of a round as well as the first: that puts back what asking for it has set."""
    aim = stage.executor.take_aim(decision(stage.start("hold", "victim", "4"), KILL))
    awaited: list[object] = []

    def await_signal(motion: object) -> int:
        awaited.append(motion)
        return len(awaited)

    monkeypatch.setattr(stage.reaper, "await_signal", await_signal)
    stage.executor.note_struck(aim)
    stage.executor.note_struck(aim)
    assert (awaited, stage.executor.sent_us) == ([aim.motion, aim.motion], 1)
    monkeypatch.undo()
    assert not stage.executor.strike(aim)
    os.close(aim.warrant.pidfd)
    assert stage.children[0].wait() == -signal.SIGKILL


def test_term_grace_kill(stage: Stage) -> None:
    """F1: SIGTERM is ignored, nothing happens within the grace, SIGKILL follows at its end."""
    victim = stage.start("stubborn", "victim", "16")
    state = begin(stage, decision(victim, TERM))
    early = replace(LOW, time_us=LOW.time_us + 4 * SECOND_US)
    escalations, aim, state = stage.executor.escalate((alarm(),), early, state)
    assert (escalations, aim) == ((), None)
    late = replace(LOW, time_us=LOW.time_us + 5 * SECOND_US)
    escalations, aim, state = stage.executor.escalate((alarm(),), late, state)
    assert aim is not None
    assert stage.children[0].poll() is None
    assert not stage.executor.strike(aim)
    assert [escalation.why for escalation in escalations] == ["its grace is over"]
    assert [credit.phase for credit in state.credits] == ["kill"]
    stage.wait(state, late.time_us, "victim")
    assert stage.children[0].wait() == -signal.SIGKILL


def test_victim_that_goes_at_term(stage: Stage) -> None:
    """One that leaves by itself is told as exited, and never escalated."""
    victim = stage.start("polite", "victim", "16")
    state = begin(stage, decision(victim, TERM))
    state = stage.wait(state, LOW.time_us + 10_000, "victim")
    assert stage.children[0].wait() == 7
    late = replace(LOW, time_us=LOW.time_us + 9 * SECOND_US)
    assert stage.executor.escalate((alarm(critical=True),), late, state)[0] == ()
    outcomes, _ = stage.executor.settle(late, state)
    assert [(outcome.status, outcome.signal) for outcome in outcomes] == [("exited", "SIGTERM")]


def test_stuck_victim_times_out(stage: Stage) -> None:
    """A victim whose death is not seen by its deadline is told as timed out and left out of the choice."""
    victim = stage.start("hold", "victim", "4")
    asked = begin(stage, decision(victim, TERM))
    stuck = replace(asked, credits=tuple(credits.killed(credit, LOW.time_us) for credit in asked.credits))
    outcomes, state = stage.executor.settle(replace(LOW, time_us=LOW.time_us + 3 * SECOND_US), stuck)
    assert [outcome.status for outcome in outcomes] == ["timed_out"]
    assert [refusal.why for refusal in state.refusals] == ["was killed and does not die"]


def test_gone_victim_is_refused(stage: Stage) -> None:
    """A victim that ended between the choice and the warrant: another is to be chosen, nothing is signalled."""
    victim = stage.start("hold", "victim", "4")
    stage.children[0].kill()
    stage.children[0].wait()
    with pytest.raises(Refused, match=GONE):
        begin(stage, decision(victim, KILL))


def test_another_ones_kill_is_awaited(stage: Stage) -> None:
    """A process that somebody else killed is waited for, without a signal of ours."""
    victim = stage.start("hold", "victim", "4")
    state = stage.executor.await_death("1", victim, LOW, FRESH)
    assert [credit.phase for credit in state.credits] == ["kill"]
    stage.children[0].kill()
    state = stage.wait(state, LOW.time_us + 10_000, "victim")
    outcomes, _ = stage.executor.settle(replace(LOW, time_us=LOW.time_us + 3 * SECOND_US), state)
    assert [(outcome.status, outcome.detail) for outcome in outcomes] == [("killed", "killed by somebody else")]
    assert (outcomes[0].ruleset, outcomes[0].signal) == ("", "")


def test_dry_run_signals_nobody(stage: Stage) -> None:
    """Without a gate there is credit, an outcome after a while, and no signal."""
    dry = Executor(None, None, stage.waiter)
    victim = stage.start("hold", "victim", "4")
    state = begin_all(dry, "1", decision(victim, KILL), parts_of(victim), FRESH, lambda _: -1)
    assert dry.sent_us is None
    assert dry.settle(replace(LOW, time_us=LOW.time_us + 9 * SECOND_US), state)[0] == ()
    (credit,) = state.credits
    state = with_credit(state, replace(credit, returned_bytes=4 << 20, memory_us=LOW.time_us + 1))  # others freed that
    outcomes, state = dry.settle(replace(LOW, time_us=LOW.time_us + 10 * SECOND_US), state)
    assert [(outcome.status, outcome.ruleset, outcome.signal) for outcome in outcomes] == [("dry_run", "level", "")]
    assert [(outcome.returned_bytes, outcome.signal_to_memory_us) for outcome in outcomes] == [(0, None)]
    assert state.refusals == ()
    assert stage.children[0].poll() is None


def test_late_result_of_a_closed_kill_is_dropped(stage: Stage) -> None:
    """A reaper that hung until after the deadline tells nothing any more, and breaks nothing."""
    victim = stage.start("hold", "victim", "4")
    state = begin(stage, decision(victim, KILL))
    state = replace(state, credits=())
    stage.wait(state, LOW.time_us, "reaper")
    assert stage.outcomes == []

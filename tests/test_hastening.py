"""What was hastened reaches the engine's credit once, and the reports at a bounded rate."""

from __future__ import annotations

import errno
from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from oomd import hastening
from oomd.hastening import MOST_TOLD, Hastening
from oomd.kill.executor import Executor
from oomd.kill.exits import NEWS, PIPE, Hastened
from oomd.model.decision import ReapResult
from oomd.model.ruleset import EngineState
from oomd.model.units import MIB, SECOND_US
from oomd.monitor.waiter import Waiter
from tests.fakes.builders import candidate, process, status

if TYPE_CHECKING:
    from collections.abc import Iterator

NOW_US = 5_000_000


class FakeHastener:
    """Gives what the test put in."""

    keys = (PIPE, NEWS)

    def __init__(self) -> None:
        self.done: list[Hastened] = []
        self.wrong = ""
        self.own_victims: frozenset[int] | None = None
        self.warm: list[bool] = []

    def read(self, own_victims: frozenset[int]) -> str:
        self.own_victims = own_victims
        return self.wrong

    def take(self, *, warm: bool) -> list[Hastened]:
        self.warm.append(warm)
        done, self.done = self.done, []
        return done

    def tend(self, *, warm: bool) -> None:
        self.warm.append(warm)

    def counters(self) -> dict[str, int]:
        return {"exits hastened": 1}


class Desk:
    """The loop's side, with a loop that is only a state."""

    def __init__(self) -> None:
        self.hastener = FakeHastener()
        self.waiter = Waiter()
        self.executor = Executor(None, None, self.waiter)
        self.loop = SimpleNamespace(
            state=EngineState(), parts=SimpleNamespace(executor=self.executor), pace=SimpleNamespace(warm=False)
        )
        self.told: list[dict[str, Any]] = []
        loop: Any = self.loop
        hastener: Any = self.hastener
        self.hastening = Hastening(hastener, loop, self._tell)

    def _tell(self, event: str, **content: Any) -> None:
        self.told.append({"event": event, **content})

    def finish(self, *pids: int, reap_errno: int = 0) -> None:
        """The reaper is done with these."""
        for pid in pids:
            dying = process(pid, 100, kill_pending=True)
            result = ReapResult(dying.id, 0, 0, NOW_US, "mrelease", reap_errno, 20_000, dying.size_bytes)
            self.hastener.done.append(Hastened(dying, result, ("nice 19",), ("nice 19",)))
        self.hastening.on_event(NEWS)


@pytest.fixture
def desk() -> Iterator[Desk]:
    """A fresh one."""
    desk = Desk()
    yield desk
    desk.waiter.close()


def test_awaited_victim_is_stripped_once(desk: Desk) -> None:
    """A kill by somebody else that the engine waits for is stripped by the reap: one credit, whose bytes no longer
    count twice; without such a credit nothing is opened.
    """
    desk.finish(7)
    assert desk.loop.state == EngineState()
    victim = candidate(7, 100, kill_pending=True)
    desk.loop.state = desk.executor.await_death("1", victim, status(time_us=NOW_US), desk.loop.state)
    assert [credit.reaped_us for credit in desk.loop.state.credits] == [None]
    desk.finish(7)
    assert [credit.reaped_us for credit in desk.loop.state.credits] == [NOW_US + 20_000]
    later = status(time_us=NOW_US + 4 * SECOND_US, mem_available_bytes=5000 * MIB)
    desk.finish(7)
    assert len(desk.loop.state.credits) == 1
    outcomes, state = desk.executor.settle(later, desk.loop.state)
    assert [outcome.reap_backend for outcome in outcomes] == ["mrelease"]
    assert state.credits == ()


def test_reap_that_failed_is_no_memory(desk: Desk) -> None:
    """ESRCH or EINVAL leave the credit as it is."""
    victim = candidate(7, 100, kill_pending=True)
    desk.loop.state = desk.executor.await_death("1", victim, status(time_us=NOW_US), desk.loop.state)
    for number in (errno.ESRCH, errno.EINVAL):
        desk.finish(7, reap_errno=number)
        assert [credit.reaped_us for credit in desk.loop.state.credits] == [None]


def test_own_victims_are_named_and_awaited_ones_are_not(desk: Desk) -> None:
    """Those that oomd killed itself have a ruleset; those that it waits for have none, and are hastened."""
    state = desk.executor.await_death("1", candidate(7), status(), EngineState())
    awaited = state.credits[0]
    own = replace(awaited, process=process(8), ruleset="level")
    desk.loop.state = replace(state, credits=(awaited, own))
    desk.hastening.on_event(PIPE)
    assert desk.hastener.own_victims == frozenset({8})


def test_reports_are_bounded(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """So many a second; the next second's first one says how many were left out."""
    now = [NOW_US]
    monkeypatch.setattr(hastening, "clock_us", lambda: now[0])
    desk.finish(*range(100, 100 + MOST_TOLD + 5))
    assert len(desk.told) == MOST_TOLD
    assert {event["untold"] for event in desk.told} == {0}
    now[0] += SECOND_US
    desk.finish(7)
    assert (desk.told[-1]["pid"], desk.told[-1]["untold"]) == (7, 5)
    desk.finish(8)
    assert desk.told[-1]["untold"] == 0


def test_report(desk: Desk) -> None:
    """Who, how much, what the reaper said, what hindered and was lifted."""
    desk.finish(7)
    (event,) = desk.told
    assert (event["event"], event["comm"], event["expected_bytes"]) == ("hastened", "p7", 100 * MIB)
    assert event["reap"] == {"backend": "mrelease", "errno": 0, "duration_us": 20_000}
    assert (event["hindrances"], event["lifted"]) == (["nice 19"], ["nice 19"])


def test_broken_trace_is_told(desk: Desk) -> None:
    """Once it can no longer be read, that is said."""
    desk.hastener.wrong = "Input/output error"
    desk.hastening.on_event(PIPE)
    assert desk.told == [
        {
            "event": "degraded",
            "text": "SIGKILLs can no longer be traced (Input/output error): no exit is hastened",
        }
    ]


def test_need_is_passed_on(desk: Desk) -> None:
    """The loop's pace decides whether the trace is looked at."""
    desk.hastening.on_tick()
    desk.loop.pace.warm = True
    desk.hastening.on_tick()
    desk.hastening.on_event(NEWS)
    assert desk.hastener.warm == [False, True, True]


def test_without_a_trace_it_does_nothing() -> None:
    """No hastener: every call is as good as none."""
    loop: Any = SimpleNamespace()
    silent = Hastening(None, loop, lambda *_, **__: None)
    silent.start()
    silent.on_event(PIPE)
    silent.on_event(NEWS)
    silent.on_tick()
    silent.spare(frozenset())
    silent.stop()
    assert silent.counters() == {}

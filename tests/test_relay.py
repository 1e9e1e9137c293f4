"""The loop goes on in another thread while the one that decided on a kill reaps; real children, real threads."""

from __future__ import annotations

import signal
import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

import pytest

from oomd.loop import Loop
from oomd.reap.mrelease import MreleaseReaper
from tests.test_foresight import CALM, CRITICAL, Rig, ended

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

PATIENCE_S = 90.0
Result = TypeVar("Result")


class Lasting(MreleaseReaper):
    """Signals at once, and reaps until it is let go; where the signal takes long, another one has sent it."""

    def __init__(self) -> None:
        self.begun = self.over = 0
        """Reaps."""
        self.by: list[int] = []
        self._changed = threading.Condition()
        self._may_end = 0

    def strike(self, pidfd: int, signal: int, sent: Callable[[int], None]) -> tuple[int, int, int]:
        """Signals at once."""
        return self._last(lambda: super(Lasting, self).strike(pidfd, signal, sent))

    def reap(self, pidfd: int) -> int:
        """The same for one that was signalled."""
        return self._last(lambda: super(Lasting, self).reap(pidfd))

    def let_go(self, count: int = 1 << 62) -> None:
        """So many reaps, in turn, may end; all of them, now and later."""
        with self._changed:
            self._may_end = max(self._may_end, count)
            self._changed.notify_all()

    def _last(self, strike: Callable[[], Result]) -> Result:
        with self._changed:
            self.begun += 1
            number = self.begun
            self.by.append(threading.get_ident())
        told = strike()
        with self._changed:
            assert self._changed.wait_for(lambda: self._may_end >= number, PATIENCE_S)
            self.over += 1
        return told


class Relay:
    """A loop that is run, and what is done at each of its ticks."""

    def __init__(self, folder: Path) -> None:
        self.rig = Rig(folder)
        self.backend = Lasting()
        pool = self.rig.loop.parts.executor._reaper
        assert pool is not None
        pool.reaper = self.backend
        pool._may_reap_here = lambda: True  # type: ignore[method-assign]  # whatever the lifter is at
        self.ticked_by: list[int] = []
        self.then: Callable[[], object] = lambda: None
        parts = replace(self.rig.loop.parts, on_tick=self._on_tick, floor_bytes=lambda: None)  # no long waits
        self.rig.loop = Loop(parts, self.rig.loop.rules)

    @property
    def is_foreseen(self) -> bool:
        """Whether the next victim is known."""
        return self.rig.loop._foresight.is_armed

    def told(self, event: str) -> list[dict[str, Any]]:
        """Reports of this kind."""
        return [each for each in self.rig.events if each["event"] == event]

    def run(self, then: Callable[[], object]) -> None:
        """Until ``then``, which is called at each tick, has it stop."""
        self.then = then
        self.rig.loop.run()

    def stop(self) -> None:
        """The loop ends."""
        self.backend.let_go()
        self.rig.loop.stopping = True

    def _on_tick(self, now_us: int) -> None:  # noqa: ARG002 - as the loop has it
        self.ticked_by.append(threading.get_ident())
        self.then()
        self.rig.loop.pace = replace(self.rig.loop.pace, interval_us=1000)


@pytest.fixture
def relay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Relay]:
    """One; nobody reaps for ever, and nobody is given up because the machine is slow."""
    monkeypatch.setattr("oomd.engine.credit.DEADLINE_US", int(PATIENCE_S * 1_000_000))
    made = Relay(tmp_path / "proc")
    yield made
    made.backend.let_go()
    made.rig.close()


@pytest.mark.parametrize("foreseen", [True, False])
def test_another_thread_goes_on_while_this_one_reaps(
    relay: Relay, monkeypatch: pytest.MonkeyPatch, foreseen: bool
) -> None:
    """The decision is told while the reap still lasts, which is the deciding thread's; its end comes from the other.
    Whoever was not foreseen goes the same way.
    """
    if not foreseen:
        monkeypatch.setattr(relay.rig.loop._foresight, "take_aim", lambda sampler, state: None)
    big = relay.rig.hold("big", 90)
    told_meanwhile: list[bool] = []

    def then() -> None:
        if relay.told("outcome"):
            relay.stop()
        elif relay.told("decision"):
            told_meanwhile.append(not relay.backend.over)
            relay.rig.level(CALM)
            relay.backend.let_go()
        elif relay.is_foreseen:
            relay.rig.level(CRITICAL)

    relay.run(then)
    assert ended(big) == -signal.SIGKILL
    assert told_meanwhile[0]
    (reaped_by,) = relay.backend.by
    assert reaped_by == relay.ticked_by[0] != relay.ticked_by[-1]
    assert threading.get_ident() not in relay.ticked_by  # which only waits
    (decision,) = relay.told("decision")
    assert (decision["times"]["signalled_us"] or 1 << 62) >= decision["times"]["decided_us"]
    assert relay.told("outcome")[0]["status"] == "killed"


def test_the_first_thread_may_have_its_turn_again(relay: Relay) -> None:
    """Several kills, each reaped by whoever decided; nobody is decided on twice, and every thread comes back."""
    victims = [relay.rig.hold(f"big{number}", 90 - 10 * number) for number in range(4)]

    def then() -> None:
        done = len(relay.told("outcome"))
        if done == len(victims):
            relay.stop()
        elif len(relay.told("decision")) > done:
            relay.rig.level(CALM)
            relay.backend.let_go(done + 1)
        elif relay.is_foreseen:
            relay.rig.level(CRITICAL)

    relay.run(then)
    assert [ended(victim) for victim in victims] == [-signal.SIGKILL] * 4
    assert [each["decision"]["target"]["pid"] for each in relay.told("decision")] == [each.pid for each in victims]
    assert len(set(relay.backend.by)) > 1


def test_a_mistake_in_another_thread_is_raised_where_the_loop_was_begun(relay: Relay) -> None:
    """The daemon must not go on without a loop."""
    relay.rig.hold("big", 90)

    def then() -> None:
        if relay.told("decision"):
            relay.backend.let_go()
            raise ZeroDivisionError
        if relay.is_foreseen:
            relay.rig.level(CRITICAL)

    with pytest.raises(ZeroDivisionError):
        relay.run(then)
    assert relay.ticked_by[-1] != relay.ticked_by[0]


def test_signals_find_a_thread_that_only_waits(relay: Relay) -> None:
    """Before a kill, while its reap lasts and after it: the handler runs, the loop goes on, and it ends as it is told
    to, although somebody still reaps.
    """
    big = relay.rig.hold("big", 90)
    heard: list[int] = []
    before = signal.signal(signal.SIGUSR1, lambda number, frame: heard.append(number))
    waits = [1]

    def then() -> None:
        if len(heard) < waits[0]:
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR1)
        elif relay.told("decision"):
            relay.rig.loop.stopping = True
        elif relay.is_foreseen:
            waits[0] = 2
            relay.rig.level(CRITICAL)

    try:
        relay.run(then)
        assert len(heard) >= 2
        assert not relay.backend.over
    finally:
        signal.signal(signal.SIGUSR1, before)
        relay.backend.let_go()
    assert ended(big) == -signal.SIGKILL

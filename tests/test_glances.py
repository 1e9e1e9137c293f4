"""Between full looks the loop glances: what it reads then, what ends it, what is remembered of it. On real children of
the test; where memory stands is told by a fake procfs.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import oomd.loop
from oomd.kernel.files import PAGE_BYTES, KernelFile
from oomd.kernel.loadavg import parse_last_pid
from oomd.loop import Loop
from oomd.model.units import GIB, MIB, SECOND_US
from oomd.monitor.sampler import Sampler
from oomd.parts import clock_us
from tests.ends import stop_at_end, until_end
from tests.test_foresight import CALM, CRITICAL, PATIENCE_S, Rig

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

FAR = 7 * GIB
NEAR_GLANCE = {"preadv": 5}
"""meminfo, pressure, loadavg; vmstat is read to its end."""
FAR_CALLS = 13


class Glancing(Rig):
    """With its background measurements, and a clock that stands still but for a millisecond each tick."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__(folder)
        self.now_us = clock_us()
        monkeypatch.setattr(oomd.loop, "clock_us", lambda: self.now_us)
        self.tree.set_pressure(some_us=0, full_us=0)
        self.ticks: Counter[str] = Counter()
        self.floor: int | None = 0
        parts = replace(
            self.loop.parts,
            sampler=until_end(Sampler(str(folder), PAGE_BYTES)),
            on_tick=lambda _: self.ticks.update(looks=1),
            on_glance=lambda _: self.ticks.update(glances=1),
            floor_bytes=lambda: self.floor,
        )
        self.loop = Loop(parts, self.loop.rules)
        parts.sharing.start()
        stop_at_end(parts.sharing)

    def let_nobody_be_born(self) -> None:
        """Who is started on this machine from now on, by whomever, is not told."""
        self.tree.set_loadavg(parse_last_pid(Path("/proc/loadavg").read_bytes()))
        newcomers = self.loop.parts.table._newcomers
        assert newcomers._loadavg is not None
        newcomers._loadavg.close()
        newcomers._loadavg = until_end(KernelFile(f"{self.tree.root}/loadavg", single_record=True))

    def tick(self) -> None:
        """One round, at once."""
        self.now_us += 1000
        super().tick()

    def settle(self) -> None:
        """Tick until glances suffice: everybody was measured."""
        end = time.monotonic() + PATIENCE_S
        while self.loop._calm is None:
            assert time.monotonic() < end
            self.tick()

    def looked(self) -> bool:
        """Whether another tick is a full look."""
        self.ticks.clear()
        self.tick()
        assert self.ticks.total() == 1
        return self.ticks["looks"] == 1


@pytest.fixture
def rig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Glancing]:
    """One, with a large child."""
    made = Glancing(tmp_path / "proc", monkeypatch)
    made.hold("large", 64)
    yield made
    made.close()


@pytest.mark.parametrize("available", [FAR, CALM])
def test_memory_that_stands_still_is_glanced_at(rig: Glancing, available: int) -> None:
    """Far from danger and near it; a small step is nothing, a large one is looked at, in the same tick."""
    rig.level(available)
    rig.settle()
    assert not rig.looked()
    rig.level(available - 1 * MIB)
    assert not rig.looked()
    rig.level(available + 500 * MIB)
    assert not rig.looked()
    rig.level(available - (400 * MIB if available == FAR else 30 * MIB))
    assert rig.looked()
    assert rig.loop.status is not None
    assert rig.loop.status.available_bytes < available


def test_what_a_glance_reads(rig: Glancing, monkeypatch: pytest.MonkeyPatch) -> None:
    """Near danger four files, and no process; far from it two."""
    calls: Counter[str] = Counter()
    loop = threading.get_ident()

    def counted(name: str) -> None:
        real = getattr(os, name)

        def count(*words: Any, **more: Any) -> Any:
            calls[name] += threading.get_ident() == loop
            return real(*words, **more)

        monkeypatch.setattr(os, name, count)

    rig.let_nobody_be_born()
    rig.settle()
    for name in ("preadv", "pread", "read", "open", "stat", "listdir", "readlink", "close"):
        counted(name)
    assert not rig.looked()  # who may have been half born at the last full look is looked for once more
    calls.clear()
    assert not rig.looked()
    assert all(count <= NEAR_GLANCE.get(name, 0) for name, count in calls.items()), calls
    rig.level(FAR)
    rig.loop.forget_calm()
    rig.tick()
    calls.clear()
    assert not rig.looked()
    assert calls == {"preadv": 2}


def test_what_a_glance_runs(rig: Glancing) -> None:
    """Code that was not run for seconds is not in the processor's caches: each function costs what a system call does
    that is. Far from danger a glance is a few of them, a full look hundreds.
    """
    called: list[str] = []

    def note(frame: FrameType, event: str, argument: object) -> None:
        if event == "call" and "/oomd/" in frame.f_code.co_filename:
            called.append(frame.f_code.co_qualname)

    rig.level(FAR)
    rig.settle()
    rig.loop.pace = replace(rig.loop.pace, interval_us=0)
    sys.setprofile(note)
    try:
        rig.loop.tick()
    finally:
        sys.setprofile(None)
    assert rig.ticks["glances"] == 1
    assert len(called) <= FAR_CALLS, called


def test_full_looks_in_between(rig: Glancing) -> None:
    """Near danger the choice is renewed every second, far from it everything once a minute."""
    rig.settle()
    rig.now_us += SECOND_US
    assert rig.looked()
    rig.level(FAR)
    rig.loop.forget_calm()
    rig.tick()
    rig.now_us += 50 * SECOND_US
    assert not rig.looked()
    rig.now_us += 10 * SECOND_US
    assert rig.looked()


def test_somebody_new_and_large_is_looked_at(rig: Glancing) -> None:
    """Near danger, within a glance."""
    rig.settle()
    child = rig.hold("new", 96)
    assert rig.looked()
    assert any(row.pid == child.pid for row in rig.loop.parts.table.leaders)


def test_growth_that_may_be_an_unwatched_process(rig: Glancing) -> None:
    """Is scanned for as soon as before."""
    rig.settle()
    rig.grown(900)
    end = time.monotonic() + PATIENCE_S
    scanned_us = rig.loop.parts.table.ration.scanned_us
    while rig.loop.parts.table.ration.scanned_us == scanned_us:  # a scan takes a twentieth of the time at most
        assert time.monotonic() < end
        rig.tick()


def test_events_are_followed_by_a_full_look(rig: Glancing) -> None:
    """Whatever it was."""
    rig.settle()
    fd = os.eventfd(1)
    rig.loop.parts.waiter.watch(fd, "something")
    assert rig.looked()
    rig.loop.parts.waiter.unwatch(fd)
    os.close(fd)


def test_others_may_want_full_looks(rig: Glancing) -> None:
    """Always, or below some level."""
    rig.level(FAR)
    rig.settle()
    rig.floor = None
    rig.loop.forget_calm()
    assert all(rig.looked() for _ in range(3))
    rig.floor = FAR - 10 * MIB
    assert rig.looked()
    assert not rig.looked()
    rig.level(FAR - 20 * MIB)
    assert all(rig.looked() for _ in range(3))


def test_the_last_glance_is_remembered(rig: Glancing) -> None:
    """What came later cannot have been earlier: the rate of the fall, and since when files took the memory."""
    rig.level(FAR)
    rig.settle()
    rig.now_us += 40 * SECOND_US
    assert not rig.looked()
    rig.now_us += SECOND_US
    rig.level(2 * GIB)
    assert rig.looked()
    assert rig.loop.glanced is not None
    assert rig.loop.glanced.available_bytes == FAR
    assert rig.loop._trend.falling > 4 * GIB  # in a second, not in forty
    assert [sample.available_bytes for sample in rig.loop.state.trail][-2:] == [FAR, 2 * GIB]


def test_a_level_that_is_crossed_between_glances(rig: Glancing) -> None:
    """Whoever was foreseen dies in that very tick."""
    rig.hold("larger", 96)
    rig.settle()
    rig.prepare()
    rig.settle()
    assert not rig.looked()
    assert rig.strike(CRITICAL)["event"] == "decision"

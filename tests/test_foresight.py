"""Kills decided in advance, on real children of the test; where memory stands is told by a fake procfs."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from oomd.config.loader import load_config
from oomd.kernel.files import PAGE_BYTES, KernelFile
from oomd.kill.executor import Executor
from oomd.loop import Loop
from oomd.model.config import Config
from oomd.model.ruleset import Pause
from oomd.model.units import GIB, MIB, SECOND_US
from oomd.monitor.bound import GrowthBound
from oomd.monitor.process_table import ProcessTable
from oomd.monitor.sampler import Sampler
from tests.ends import at_end, until_end
from tests.fakes.proc_tree import ProcTree
from tests.integration.way_to_a_kill import build, take_down
from tests.kernel.children import child, said

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.kernel.children import Child

HOLD = """
import sys
def be(name):
    open("/proc/self/comm", "w").write(name)
def hold(mib):
    block = bytearray(mib << 20)
    for at in range(0, len(block), 4096):
        block[at] = 1
    return block
be("{name}")
held = hold({mib})
print(flush=True); input()
{then}
print(flush=True); input()
"""
RULES = """
rulesets:
  - name: level
    when: {all: [{memory_available: {below: 500MiB}}]}
    critical: {all: [{memory_available: {below: 100MiB}}]}
    then: [{term: {grace: 5s}}, {kill: {}}]
    choose: {policy: freeable}
"""
CALM, LOW, CRITICAL = 700 * MIB, 400 * MIB, 50 * MIB
PATIENCE_S = 90.0


class Rig:
    """A loop as the daemon builds it, around this test's own tree."""

    def __init__(self, folder: Path, *, dry_run: bool = False) -> None:
        self.events: list[dict[str, Any]] = []
        self.tree = ProcTree(folder)
        config = load_config("x", text=RULES.encode())
        assert isinstance(config, Config)
        made = build(self.events, KernelFile("/proc/loadavg", single_record=True))
        at_end(lambda: take_down(made))
        # What others on this machine allocate is no affair of a test.
        self.pages = 1_000_000
        self.grown(0)
        vmstat = made.parts.table.bound._vmstat
        assert vmstat is not None
        vmstat.close()
        made.parts.table.bound = GrowthBound(until_end(KernelFile(f"{folder}/vmstat")), PAGE_BYTES)
        parts = replace(made.parts, sampler=until_end(Sampler(str(folder), PAGE_BYTES)))
        if dry_run:
            parts = replace(parts, executor=Executor(None, None, parts.waiter))
        self.loop = Loop(parts, config.rules)
        self.stack = ExitStack()
        self.level(CALM)

    def level(self, available: int) -> None:
        """So much is available."""
        self.tree.set_meminfo(total=8 * GIB, available=available, anon=4 * GIB)

    def grown(self, mib: int) -> None:
        """The kernel has counted so much more."""
        self.pages += mib * MIB // PAGE_BYTES
        self.tree.set_vmstat(pgalloc_normal=self.pages, pgfault=self.pages)

    def hold(self, name: str, mib: int, then: str = "pass") -> Child:
        """A child that owns so much; ``then`` is what it does once it is told to go on."""
        process = self.stack.enter_context(child(HOLD.format(name=name, mib=mib, then=then)))
        said(process)
        return process

    def tick(self) -> None:
        """One round, at once."""
        self.loop.pace = replace(self.loop.pace, interval_us=0)
        self.loop.tick()

    def prepare(self) -> None:
        """Tick until a decision stands; measurements of shared memory come in meanwhile."""
        end = time.monotonic() + PATIENCE_S
        while not self.loop._foresight._reflexes:
            assert time.monotonic() < end
            self.tick()

    def strike(self, available: int = CRITICAL) -> dict[str, Any]:
        """The tick at which the level is crossed; its decision."""
        self.level(available)
        self.tick()
        return self.events[-1]

    def close(self) -> None:
        self.loop._foresight.drop()
        self.stack.close()


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    """One, with a large child and a smaller one."""
    made = Rig(tmp_path / "proc")
    yield made
    made.close()


@pytest.fixture
def ordinary(monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """How often the ordinary way was gone."""
    asked: list[int] = []
    real = Loop._select

    def counted(self: Loop, *words: Any) -> Any:
        asked.append(1)
        return real(self, *words)

    monkeypatch.setattr(Loop, "_select", counted)
    return lambda: len(asked)


def ended(process: Child) -> int:
    """How it ended."""
    return process.wait(PATIENCE_S)


def test_the_victim_is_known_before(rig: Rig, ordinary: Callable[[], int]) -> None:
    """The level is crossed: the largest dies in that very tick without anybody being searched for, and the report has
    the reasons of that moment, the ranking, and its times.
    """
    big, small = rig.hold("big", 90), rig.hold("small", 40)
    rig.prepare()
    told = rig.strike()
    assert ended(big) == -signal.SIGKILL
    assert small.poll() is None
    assert ordinary() == 0
    assert (told["event"], told["decision"]["action"], told["decision"]["target"]["comm"]) == (
        "decision",
        "kill",
        "big",
    )
    assert "50 MiB available" in told["decision"]["reason"]
    assert [each["comm"] for each in told["ranking"][:2]] == ["big", "small"]
    assert told["status"]["mem_available_bytes"] == CRITICAL
    times = told["times"]
    assert times["wake_us"] <= times["read_us"] <= times["decided_us"] <= (times["signalled_us"] or 1 << 62)
    (credit,) = rig.loop.state.credits
    assert (credit.phase, credit.process.id.pid) == ("kill", big.pid)


def test_what_its_death_has_left_on_the_lists_is_not_counted_before(rig: Rig) -> None:
    """What a foreseen victim gives back is counted from before the signal, although the rest is read after it."""
    rig.tree.set_pcp(100)
    big = rig.hold("big", 90)
    rig.prepare()
    rig.tick()  # a look that has read the lists
    rig.tree.set_pcp(10_000)  # as its pages pass through them
    rig.strike()
    assert ended(big) == -signal.SIGKILL
    (credit,) = rig.loop.state.credits
    assert credit.available_at_signal_bytes == CRITICAL + 100 * PAGE_BYTES


def test_asking_first(rig: Rig, ordinary: Callable[[], int]) -> None:
    """Above the critical level it is SIGTERM with grace, as the rule says."""
    big = rig.hold("big", 90)
    rig.prepare()
    told = rig.strike(LOW)
    assert (told["decision"]["action"], ordinary()) == ("term", 0)
    assert ended(big) == -signal.SIGTERM
    assert rig.loop.state.credits[0].ruleset == "level"


def test_nothing_happens_above_the_level(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """However long a decision stands, and it stands without being made again while nobody is looked at anew."""
    big = rig.hold("big", 90)
    rig.prepare()
    for name in ("wants_look", "wants_scan"):  # on a busy machine a second has gone by
        monkeypatch.setattr(ProcessTable, name, lambda *_: False)
    standing = rig.loop._foresight._reflexes
    rig.tick()
    assert rig.loop._foresight._reflexes is standing
    assert big.poll() is None
    assert rig.events == []


def test_what_nobody_in_sight_took_stops_nothing(rig: Rig, ordinary: Callable[[], int]) -> None:
    """Somebody allocates all the time while memory is short. Those who lead are asked whether it was they; what is left
    may be anybody's, and is too little to overtake the victim.
    """
    big, other = rig.hold("big", 90), rig.hold("other", 40)
    rig.prepare()
    rig.grown(30)
    told = rig.strike()
    assert (told["decision"]["target"]["comm"], ordinary()) == ("big", 0)
    assert ended(big) == -signal.SIGKILL
    assert other.poll() is None


def test_nobody_is_held_for_long(rig: Rig) -> None:
    """The warrant is let go when the rules change, and when memory is no longer short."""
    rig.hold("big", 90)
    before = len(os.listdir("/proc/self/fd"))
    rig.prepare()
    assert rig.loop._foresight._aim is not None
    rig.level(4 * GIB)
    rig.tick()
    assert rig.loop._foresight._aim is None
    rig.level(CALM)
    rig.prepare()
    rig.loop.replace_rules(rig.loop.rules)
    assert rig.loop._foresight._aim is None
    assert len(os.listdir("/proc/self/fd")) >= before


def test_dry_run_foresees_nothing(tmp_path: Path) -> None:
    """Nobody is held, nobody is signalled; the decision is told by the ordinary way."""
    rig = Rig(tmp_path / "proc", dry_run=True)
    try:
        big = rig.hold("big", 90)
        end = time.monotonic() + PATIENCE_S
        rig.tick()
        assert rig.loop._foresight._aim is None
        rig.level(CRITICAL)
        while not rig.events:  # the first measurement is waited for
            assert time.monotonic() < end
            rig.tick()
        assert (rig.events[-1]["decision"]["target"]["comm"], rig.events[-1]["dry_run"]) == ("big", True)
        assert big.poll() is None
    finally:
        rig.close()


def test_rehearsal_touches_nobody(rig: Rig) -> None:
    """All the motions, no signal, nothing kept."""
    big = rig.hold("big", 90)
    rig.tick()
    rig.loop.rehearse(rig.loop.parts.sampler.read_status(1))
    assert big.poll() is None
    assert rig.loop._foresight._aim is None
    with pytest.raises(subprocess.TimeoutExpired):
        big.wait(0.05)


def test_what_was_said_meanwhile_was_not_foreseen(rig: Rig) -> None:
    """A pause that was asked for as the loop woke, or anything else that changed the engine's memory since: nobody is
    struck, and the ordinary way decides.
    """
    big = rig.hold("big", 90)
    rig.prepare()
    rig.level(CRITICAL)
    now_us = rig.loop.status.time_us if rig.loop.status is not None else 0
    rig.loop.state = replace(rig.loop.state, pause=Pause(now_us, now_us + 60 * SECOND_US, "why", "who"))
    rig.tick()
    assert big.poll() is None
    assert not rig.loop.state.credits

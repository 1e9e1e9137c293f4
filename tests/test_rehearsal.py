"""READY does not wait for processes to be read, unless danger is near; the rehearsal costs the same on a small and on a
large machine.
"""

from __future__ import annotations

import os
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from oomd import rehearsal
from oomd.config.loader import load_config
from oomd.kernel.files import PAGE_BYTES
from oomd.loop import Loop
from oomd.model.config import Config
from oomd.model.values import replace
from oomd.monitor.census import SizeReader
from oomd.monitor.sampler import Sampler
from oomd.rehearsal import get_ready, is_danger_near, rehearse
from tests.ends import at_end
from tests.fakes.proc_tree import GIB, MIB, ProcTree
from tests.integration.way_to_a_kill import build, take_down
from tests.kernel.children import HOLD_32_MIB, WAIT, child, said

if TYPE_CHECKING:
    from collections.abc import Container
    from pathlib import Path

    from oomd.monitor.census import Sizes

RULES = b"""
rulesets:
- name: level
  when: {any: [{all: [{memory_available: {below: 400MiB}}]}]}
  choose: {policy: freeable}
  then: [{kill: {}}]
"""
CALM, NEAR, SHORT = 4 * GIB, 700 * MIB, 100 * MIB


class Counting(SizeReader):
    """Notes how often everybody is read, and how many that are."""

    def __init__(self) -> None:
        super().__init__(os.open("/proc", os.O_RDONLY | os.O_DIRECTORY), PAGE_BYTES)
        self.seen: list[int] = []

    def read(self, skip: Container[int], *, swapped: bool) -> Sizes:
        """As ever."""
        sizes = super().read(skip, swapped=swapped)
        self.seen.append(len(sizes))
        return sizes


class Start:
    """A loop as the daemon builds it, on a machine with so much memory available, and what was done when."""

    def __init__(self, folder: Path, available: int, rules: bytes = RULES, *, budget: int | None = None) -> None:
        config = load_config("x", text=rules)
        assert isinstance(config, Config)
        ProcTree(folder).set_meminfo(total=8 * GIB, available=available, anon=2 * GIB)
        made = build([])
        at_end(lambda: take_down(made))
        sampler = Sampler(str(folder), PAGE_BYTES)
        at_end(sampler.close)
        self.loop = Loop(replace(made.parts, sampler=sampler, limit_bytes=budget), config.rules)
        self.table = made.parts.table
        self.reader = Counting()
        at_end(lambda: os.close(self.reader._proc_fd))
        # As on a whole machine; the gate lets nobody through all the same.
        self.table._whole, self.table.reader = False, self.reader
        self.before: list[int] = []

    def get_ready(self, *, first: bool = False) -> None:
        """Up to READY, and what follows it."""

        def say_so() -> None:
            assert not self.before
            self.before = [len(self.reader.seen), self.table.scans]

        get_ready(self.loop, say_so, first=first)


def test_far_from_danger_nobody_is_read_before_ready(tmp_path: Path) -> None:
    """And everybody right after it: first some, for the rehearsal, who are sought through besides, then all."""
    start = Start(tmp_path, CALM)
    with child(HOLD_32_MIB) as process:
        said(process)
        assert not is_danger_near(start.loop)
        start.get_ready()
        assert start.before == [0, 0]
        assert (len(start.reader.seen), start.table.scans) == (2, 3)
        assert start.reader.seen[0] >= 1
        assert process.pid in start.table.rows
        assert start.table.ration.scanned_us is not None


@pytest.mark.parametrize("available", [NEAR, SHORT])
def test_near_danger_everybody_is_read_before_ready(tmp_path: Path, available: int) -> None:
    """Who may have to choose at once says that he is ready when he can."""
    start = Start(tmp_path, available)
    assert is_danger_near(start.loop)
    start.get_ready()
    assert start.before == [2, 2]
    assert (len(start.reader.seen), start.table.scans) == (2, 2)
    assert start.table.ration.scanned_us is not None


def test_the_rehearsal_may_be_asked_for_first(tmp_path: Path) -> None:
    """Where others than our rules decide when."""
    start = Start(tmp_path, CALM)
    start.get_ready(first=True)
    assert start.before == [2, 2]


def test_the_rehearsal_reads_only_some(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The newest, and nothing that counts as a scan: whoever is to be chosen later is chosen among everybody."""
    few = 2
    monkeypatch.setattr(rehearsal, "MOST_READ", few)
    start = Start(tmp_path, CALM)
    with ExitStack() as stack:
        for _ in range(6 * few):
            said(stack.enter_context(child(WAIT)))
        rehearse(start.loop)
        assert start.reader.seen
        assert max(start.reader.seen) <= few
        assert start.table.ration.scanned_us is None
        start.get_ready()
        assert start.reader.seen[-1] > few


def test_a_budget_is_not_known_before_processes_are(tmp_path: Path) -> None:
    """They are its usage."""
    assert is_danger_near(Start(tmp_path, CALM, budget=GIB).loop)


def test_rules_that_do_not_look_at_available_memory(tmp_path: Path) -> None:
    """How far danger is cannot be told; where there are no rules there is none."""
    other = RULES.replace(b"memory_available: {below: 400MiB}", b"swap_free: {below: 10%}")
    assert is_danger_near(Start(tmp_path, CALM, other).loop)
    start = Start(tmp_path, SHORT)
    start.loop.replace_rules(replace(start.loop.rules, rulesets=()))
    assert not is_danger_near(start.loop)
    start.get_ready()
    assert start.before == [0, 0]


def test_nobody_is_touched(tmp_path: Path) -> None:
    """However short memory is: nothing is decided by it, and nothing remembered."""
    start = Start(tmp_path, SHORT)
    with child(HOLD_32_MIB) as process:
        said(process)
        state = start.loop.state
        start.get_ready()
        assert process.poll() is None
        assert (start.loop.state, start.loop.act.decisions, start.loop.acted) == (state, 0, False)

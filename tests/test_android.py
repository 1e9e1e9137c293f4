"""From a registered process to its death: the real loop, gate, executor, reaper and socket, over the files of a machine
that is short of memory.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from oomd.android import Android, Site
from oomd.companion import Answer
from oomd.config.loader import load_config
from oomd.engine.credit import open_credit
from oomd.kernel.files import PAGE_BYTES, KernelFile
from oomd.kernel.scope import ScopeGuard
from oomd.kill.executor import Executor
from oomd.kill.warrant import Gate
from oomd.lmkd.decision import CRITICAL, MEDIUM
from oomd.lmkd.listening import open_listener
from oomd.loop import Loop
from oomd.model.config import Config, LmkdOptions
from oomd.model.decision import Candidate, Credit
from oomd.model.ruleset import Pause
from oomd.model.scope import parse_scope
from oomd.monitor.bound import GrowthBound
from oomd.monitor.process_table import ProcessTable
from oomd.monitor.sampler import Sampler
from oomd.monitor.selfcheck import own_and_ancestors
from oomd.monitor.sharing import SharingMeter
from oomd.monitor.waiter import Waiter
from oomd.outside.lmkd_properties import REQUEST, answer_properties
from oomd.parts import Parts, clock_us
from oomd.reap.mrelease import MreleaseReaper
from oomd.reap.pool import ReaperPool
from tests.ends import until_end
from tests.fakes.builders import process
from tests.kernel.children import HOLD_32_MIB, child, said
from tests.lmkd.client import PATIENCE_S, Client, words_of
from tests.lmkd.machine import Machine

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.integration


class Rig:
    """A killer in this process that kills registered children of this test."""

    def __init__(self, folder: Path, options: LmkdOptions, *, watchdog: bool = False, dry_run: bool = False) -> None:
        self.machine = Machine(folder / "proc")
        self.path = str(folder / "lmkd")
        self.events: list[dict[str, Any]] = []
        config = load_config(None, overrides={"lmkd.only": "true"})
        assert isinstance(config, Config)
        self._proc_fd = until_end(os.open("/proc", os.O_RDONLY | os.O_DIRECTORY))
        guard = ScopeGuard(parse_scope(f"tree:{os.getpid()}"), self._proc_fd)
        own = own_and_ancestors(self._proc_fd)
        gate = None if dry_run else Gate(guard, self._proc_fd, own)
        self.waiter, self.reaper = until_end(Waiter()), ReaperPool(MreleaseReaper())
        self.reaper.start()
        self.waiter.watch(self.reaper.fd, "reaper")
        vmstat, loadavg = until_end(KernelFile("/proc/vmstat")), until_end(KernelFile("/proc/loadavg"))
        bound = GrowthBound(vmstat, PAGE_BYTES)
        table = ProcessTable(self._proc_fd, guard, own, bound=bound, loadavg=loadavg, page_bytes=PAGE_BYTES)
        parts = Parts(
            waiter=self.waiter,
            sampler=until_end(Sampler("/proc", PAGE_BYTES)),
            table=until_end(table),
            sharing=SharingMeter(self._proc_fd),
            executor=Executor(gate, None if dry_run else self.reaper, self.waiter),
            on_event=self._on_event,
            report=self.events.append,
            on_tick=lambda now: None,
            beside=lambda now: self.android.on_tick(now),  # noqa: PLW0108 - made after the loop
        )
        self.loop = Loop(parts, config.rules)
        proc_dir = str(self.machine.root)
        self._properties = options.properties
        site = Site(
            self.loop,
            gate,
            guard,
            self._proc_fd,
            self._tell,
            self._ask,
            proc_dir,
            any_window=False,
            watchdog=watchdog,
        )
        self.android = Android(options, open_listener(self.path), self.path, site)
        self.android.start(Path(options.properties).read_text(encoding="ascii") if options.properties else "")
        self._scans = 0

    def busy(self) -> None:
        """Reclaim goes on: without it nothing is ever decided. And the next tick is soon."""
        self.loop.pace = replace(self.loop.pace, interval_us=min(self.loop.pace.interval_us, 5000))
        self._scans += 1
        self.machine.set_vmstat(pgscan_kswapd=self._scans)

    def until(self, what: Callable[[], object]) -> None:
        """Tick until it is so."""
        end = time.monotonic() + PATIENCE_S
        while not what():
            assert time.monotonic() < end, self.events
            self.busy()
            self.loop.tick()

    def lines(self, start: str) -> list[str]:
        """What lmkd's log says that begins so."""
        return [event["text"] for event in self.events if event["event"] == "lmkd" and event["text"].startswith(start)]

    def of(self, kind: str) -> list[dict[str, Any]]:
        """All events of this kind."""
        return [event for event in self.events if event["event"] == kind]

    def close(self) -> None:
        """End it."""
        self.android.close()
        self.android._names.wait_end()
        self.android._mind._files.close()
        self.loop.parts.executor.close()
        assert self.reaper.close(PATIENCE_S)

    def _on_event(self, key: Any, lost: bool) -> None:
        self.android.on_event(key, lost=lost)

    def round(self, now_us: int) -> None:
        """Ours alone, without the loop's."""
        self.loop.act.at_once(self.android.on_tick(now_us))

    def _ask(self, request: str, done: Callable[[Answer], object], **_: int) -> None:
        """As the outside process answers."""
        assert request == REQUEST
        answer = answer_properties(self._properties)
        done(Answer(answer["ok"], answer.get("text", ""), answer))

    def _tell(self, event: str, **content: object) -> None:
        self.events.append({"event": event, **content})


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    """One that is not short of memory yet."""
    rig = Rig(tmp_path, LmkdOptions(override=("ro.lmk.use_psi=false",)))
    yield rig
    rig.close()


def test_least_important_dies_and_everybody_is_told(rig: Rig) -> None:
    """Below the low watermark the highest adj dies first; subscribers, counters and the log learn of it, and the other
    lives.
    """
    with child(HOLD_32_MIB) as one, child(HOLD_32_MIB) as other, Client(rig.path) as client:
        said(one), said(other)
        client.send(5, 0)
        client.send(5, 1)
        client.send(1, one.pid, 10001, 800)
        client.send(1, other.pid, 10002, 950)
        rig.until(lambda: len(rig.android.registry) == 2 and rig.android._names.of(other.pid))
        rig.machine.set_meminfo(MemFree=4)
        rig.until(lambda: rig.lines("Kill "))
        rig.machine.set_meminfo()
        rig.until(lambda: rig.of("outcome"))
        (outcome,) = rig.of("outcome")
        reaped = rig.lines(f"Process {other.pid} was reaped in ")
        assert len(reaped) == (outcome["reap"]["errno"] == 0)  # ESRCH: the victim was quicker
        assert other.wait(PATIENCE_S) == -9
        assert one.poll() is None
        notice = words_of(client.receive())
        assert notice[:3] == (6, other.pid, 10002)
        assert notice[3] > 32 << 10
        statistics = client.receive()
        assert statistics[:4] == b"\0\0\0\x08"
        assert words_of(statistics[52:84])[:3] == (10002, 950, 701)
        assert words_of(statistics[72:76]) == (8,)
        assert statistics.endswith(sys.executable.encode() + b"\0")
        (kill,) = rig.lines("Kill ")
        assert kill.startswith(f"Kill '{sys.executable}' ({other.pid}), uid 10002, oom_score_adj 950 to free ")
        assert kill.endswith("kB swap; reason: min watermark is breached")
        (info,) = rig.lines(f"[{other.pid},10002,950,701,")
        assert info.count(",") == 37
        client.send(4, 950, 950)
        rig.loop.tick()
        assert words_of(client.receive()) == (4, 1)


def test_a_pause_spares_registered_ones_too(rig: Rig) -> None:
    """Low memory meets a pause: nobody dies; when it is over the next look takes its victim."""
    with child(HOLD_32_MIB) as one, Client(rig.path) as client:
        said(one)
        client.send(1, one.pid, 10001, 900)
        rig.until(lambda: len(rig.android.registry) == 1)
        rig.loop.state = replace(rig.loop.state, pause=Pause(0, 1 << 62, "backup", "x"))
        rig.machine.set_meminfo(MemFree=4)
        for _ in range(5):
            rig.busy()
            rig.loop.tick()
        assert one.poll() is None
        assert rig.lines("Kill ") == []
        rig.loop.state = replace(rig.loop.state, pause=None)
        rig.until(lambda: rig.lines("Kill "))
        assert one.wait(PATIENCE_S) == -9


def test_nobody_of_too_high_importance(rig: Rig) -> None:
    """Plain low memory takes nobody below 701, and nobody below 0 ever dies."""
    with child(HOLD_32_MIB) as one, child(HOLD_32_MIB) as other, Client(rig.path) as client:
        said(one), said(other)
        client.send(1, one.pid, 10001, 700)
        rig.until(lambda: len(rig.android.registry) == 1)
        rig.machine.set_meminfo(MemFree=4)
        for _ in range(5):
            rig.busy()
            rig.loop.tick()
        assert (one.poll(), other.poll()) == (None, None)
        assert rig.lines("Kill ") == []


def test_no_second_victim_while_the_first_gives_back(rig: Rig) -> None:
    """The alarm holds on; the second one dies only after the first was reaped or is dead."""
    with child(HOLD_32_MIB) as one, child(HOLD_32_MIB) as other, Client(rig.path) as client:
        said(one), said(other)
        for pid in (one.pid, other.pid):
            client.send(1, pid, 10001, 900)
        rig.until(lambda: len(rig.android.registry) == 2)
        rig.machine.set_meminfo(MemFree=4)
        seen: list[int] = []

        def both_dead() -> bool:
            open_kills = [
                credit for credit in rig.loop.state.credits if credit.phase == "kill" and not credit.reaped_us
            ]
            seen.append(len(open_kills))
            return len(rig.lines("Kill ")) == 2

        rig.until(both_dead)
        assert max(seen) == 1
        assert rig.lines("Kill ")[0].split("(")[1].startswith(f"{one.pid})")  # registered first, so left alone longest
        rig.machine.set_meminfo()
        rig.until(lambda: len(rig.of("outcome")) == 2)


def test_the_dead_are_passed_over(rig: Rig) -> None:
    """A process that ended by itself is no victim; the next one is, in the same evaluation."""
    gone = subprocess.Popen(["sleep", "300"])
    with child(HOLD_32_MIB) as one, Client(rig.path) as client:
        said(one)
        client.send(1, gone.pid, 10001, 1000)
        client.send(1, one.pid, 10001, 900)
        rig.until(lambda: len(rig.android.registry) == 2)
        gone.kill()
        gone.wait()
        rig.machine.set_meminfo(MemFree=4)
        rig.until(lambda: rig.lines("Kill "))
        assert one.wait(PATIENCE_S) == -9
        assert [event["pid"] for event in rig.events if event["event"] == "refused"] == []


def test_bad_properties_keep_the_old_ones(tmp_path: Path) -> None:
    """UPDATE_PROPS reads the file anew; a mistake is told and answered with -1."""
    file = tmp_path / "props"
    file.write_text("ro.lmk.use_psi=false\nro.lmk.lowmem_min_oom_score=900", encoding="ascii")
    rig = Rig(tmp_path, LmkdOptions(properties=str(file)))
    try:
        with Client(rig.path) as client:
            for text, answer, least in (
                ("ro.lmk.use_psi=false\nro.lmk.lowmem_min_oom_score=800", 0, 800),
                ("ro.lmk.lowmem_min_oom_score=high", -1, 800),
                (None, -1, 800),
            ):
                if text is None:
                    file.unlink()
                else:
                    file.write_text(text, encoding="ascii")
                client.send(7)
                rig.loop.tick()
                rig.loop.tick()
                assert words_of(client.receive()) == (7, answer)
                assert rig.android._mind.properties.lowmem_min_oom_score == least
            assert rig.lines("properties: ") == [
                "properties: line 1: ro.lmk.lowmem_min_oom_score: 'high' is no number",
                f"properties: {file}: No such file or directory",
            ]
    finally:
        rig.close()


def test_what_is_left_out_is_told(tmp_path: Path) -> None:
    """Who asks for the minfree table learns that it is not there."""
    rig = Rig(tmp_path, LmkdOptions(override=("ro.lmk.use_psi=false", "ro.lmk.use_minfree_levels=true")))
    assert rig.lines("properties: ") == ["properties: use_minfree_levels has no effect here"]
    rig.close()


def test_monitors_wait_for_the_framework(tmp_path: Path) -> None:
    """With delay_monitors_until_boot nothing is decided before START_MONITORING."""
    override = ("ro.lmk.use_psi=false", "ro.lmk.delay_monitors_until_boot=true")
    rig = Rig(tmp_path, LmkdOptions(override=override))
    try:
        with child(HOLD_32_MIB) as one, Client(rig.path) as client:
            said(one)
            client.send(1, one.pid, 10001, 900)
            rig.machine.set_meminfo(MemFree=4)
            for _ in range(4):
                rig.busy()
                rig.loop.tick()
            assert rig.lines("Kill ") == []
            client.send(9)
            rig.until(lambda: rig.lines("Kill "))
            assert one.wait(PATIENCE_S) == -9
    finally:
        rig.close()


def held_up(rig: Rig, phase: str = "kill") -> Credit:
    """A kill under way that will not be over for a minute."""
    status = rig.loop.parts.sampler.read_status(clock_us(), per_cpu_lists=False)
    victim = Candidate(process(1 << 22, 500), 500 << 20, "size", "normal", score=900)
    credit = open_credit("9", victim, "lmkd", phase, status, patience_us=60_000_000)
    rig.loop.state = replace(rig.loop.state, credits=(credit,))
    return credit


def test_an_event_of_before_is_no_reason_afterwards(rig: Rig) -> None:
    """While a victim gives its memory back the kernel tells of critical pressure: that was so, and is no second kill
    when its memory is there. Without the first victim the same event is one.
    """
    with child(HOLD_32_MIB) as one, Client(rig.path) as client:
        said(one)
        client.send(1, one.pid, 10001, 0)
        rig.until(lambda: len(rig.android.registry) == 1)
        held_up(rig)
        rig.android._event = CRITICAL
        rig.round(clock_us())
        rig.loop.state = replace(rig.loop.state, credits=())
        rig.busy()
        rig.round(clock_us())
        assert rig.lines("Kill ") == []
        rig.busy()
        rig.android._event = CRITICAL
        rig.round(clock_us())
        assert rig.lines("Kill ")[0].endswith("reason: device is not responding")
        assert one.wait(PATIENCE_S) == -9


def test_who_was_only_asked_to_go_holds_up_nobody(rig: Rig) -> None:
    """The grace of another rule's victim is a promise, no memory."""
    with child(HOLD_32_MIB) as one, Client(rig.path) as client:
        said(one)
        client.send(1, one.pid, 10001, 900)
        rig.until(lambda: len(rig.android.registry) == 1)
        held_up(rig, "term")
        rig.machine.set_meminfo(MemFree=4)
        rig.busy()
        rig.android._next_us = 0
        rig.round(clock_us())
        assert len(rig.lines("Kill ")) == 1
        assert one.wait(PATIENCE_S) == -9


def test_lower_events_tell_nothing_new(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Until the next poll a medium event after a critical one is passed over; then it counts again."""
    seen: list[int | None] = []
    evaluate = rig.android._mind.evaluate

    def look(now_us: int, level: int | None, **others: bool) -> Any:
        seen.append(level)
        return evaluate(now_us, level, **others)

    monkeypatch.setattr(rig.android._mind, "evaluate", look)
    now, events = clock_us(), ((0, CRITICAL), (1, MEDIUM), (2, CRITICAL), (3, None), (150, None), (151, MEDIUM))
    for after_ms, event in events:
        rig.android._event = event
        rig.round(now + after_ms * 1000)
    assert seen == [CRITICAL, CRITICAL, None, MEDIUM]


def test_dry_run_tells_and_touches_nobody(tmp_path: Path) -> None:
    """What would be done is told once in ten seconds, and a kill that was none is not taken for one."""
    rig = Rig(tmp_path, LmkdOptions(override=("ro.lmk.use_psi=false",)), dry_run=True)
    try:
        with child(HOLD_32_MIB) as one, Client(rig.path) as client:
            said(one)
            client.send(1, one.pid, 10001, 900)
            rig.until(lambda: len(rig.android.registry) == 1)
            rig.machine.set_meminfo(MemFree=4)
            for reason in ("min watermark is breached", "min watermark is breached"):
                before = len(rig.of("decision"))
                rig.until(lambda: len(rig.of("decision")) > before)  # noqa: B023 - called before it changes
                decision = rig.of("decision")[-1]
                assert decision["dry_run"]
                assert decision["decision"]["reason"] == reason
                for _ in range(5):
                    rig.busy()
                    rig.loop.tick()
                assert len(rig.of("decision")) == before + 1
                rig.loop.state = replace(rig.loop.state, credits=())  # ten seconds later
            assert one.poll() is None
            assert rig.lines("Kill ") == []
            assert rig.android.registry.kills == 0
    finally:
        rig.close()


def test_debug_lines(tmp_path: Path) -> None:
    """ro.lmk.debug has the waits told, in the words of the original; without it they are not."""
    for debug, wanted in ((True, 1), (False, 0)):
        folder = tmp_path / str(debug)
        folder.mkdir()
        rig = Rig(folder, LmkdOptions(override=("ro.lmk.use_psi=false", f"ro.lmk.debug={str(debug).lower()}")))
        try:
            held_up(rig)
            rig.round(clock_us())
            rig.loop.state = replace(rig.loop.state, credits=())
            rig.round(clock_us())
            assert len(rig.lines("Process got killed in ")) == wanted
            credit = held_up(rig)
            rig.round(clock_us())
            rig.round(credit.deadline_us)
            assert len(rig.lines("Stop waiting for process kill after ")) == wanted
        finally:
            rig.loop.state = replace(rig.loop.state, credits=())
            rig.close()


def test_watchdog_acts_while_the_killer_hangs(tmp_path: Path) -> None:
    """A killer that makes no round: the least important one dies all the same, and when the killer lives again it is
    counted and told.
    """
    rig = Rig(tmp_path, LmkdOptions(override=("ro.lmk.use_psi=false",)), watchdog=True)
    try:
        with child(HOLD_32_MIB) as one, child(HOLD_32_MIB) as other, Client(rig.path) as client:
            said(one), said(other)
            client.send(5, 0)
            client.send(1, one.pid, 10001, 950)
            client.send(1, other.pid, 10001, 0)
            rig.until(lambda: len(rig.android.registry) == 2)
            rig.machine.set_meminfo(MemFree=4)
            assert one.wait(PATIENCE_S) == -9  # nobody ticks
            rig.machine.set_meminfo()
            line = f"the watchdog killed process {one.pid}, oom_score_adj 950, while the killer hung"
            rig.until(lambda: rig.lines(line))
            assert rig.android.registry.count_kills(950, 950) == 1
            assert rig.lines("Kill ") == []
            assert rig.lines(f"[{one.pid},10001,950,0,") == [f"[{one.pid},10001,950" + ",0" * 30 + ",0.00" * 5 + "]"]
            assert words_of(client.receive())[:3] == (6, one.pid, 10001)
    finally:
        rig.close()
    assert os.waitpid(rig.android.watchdog_pid, 0)[0] == rig.android.watchdog_pid  # it ends with the killer

"""A recording asked again: by its own rules it repeats itself; by others it tells what differs."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import oomd.kill.executor
import oomd.kill.targets
import oomd.loop
import oomd.pausing
import oomd.rounds
from oomd import policies
from oomd.config.compiled import to_plain
from oomd.config.loader import load_config
from oomd.kill.executor import Executor
from oomd.kill.warrant import Refused
from oomd.ladders import Ladders
from oomd.loop import Loop
from oomd.model.config import Config
from oomd.model.decision import ReapResult, StepResult, Warrant
from oomd.model.ruleset import NOTHING, Wants
from oomd.model.snapshot import Cgroup
from oomd.model.units import GIB, MIB
from oomd.monitor.tape import VALUES_AT_ONCE, VALUES_PER_PART, Tape
from oomd.outside.recorder import Recorder
from oomd.parts import Parts
from oomd.pausing import Pausing
from oomd.reap.motion import Motion
from oomd.replay.asking import Asked, ask
from oomd.replay.incident import read_recording
from oomd.rounds import Rounds
from tests.fakes.builders import pressure, process, snapshot, status

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LONG_RULES = """
rulesets:
  - name: level
    when: {all: [{memory_available: {below: 5%}}]}
    critical: {all: [{memory_available: {below: 2%}}]}
    for: 100ms
    then: [{term: {grace: 400ms}}, {kill: {}}]
    pause: 1s
    choose: {level: LEVEL, most: 4, policy: POLICY}
"""
LADDER_RULES = """
rulesets:
  - name: level
    when: {all: [{memory_available: {below: 5%}}]}
    critical: {all: [{memory_available: {below: 2%}}]}
    then:
      - notify: {timeout: 200ms}
      - throttle: {timeout: 1s}
      - restart_unit: {}
      - reclaim: {of: /none}
      - freeze: {timeout: 300ms}
      - term: {grace: 400ms}
      - kill: {}
    pause: 300ms
"""
CGROUP_RULES = """
rulesets:
  - name: hot
    when:
      any:
        - all: [{pressure: {of: "/g*", over: 1s, above: 30%}}, {reclaim: {of: "/g*", within: 2s}}]
        - all: [{memory_above: {of: "/g*/*", kind: anon, above: 1GiB}}, {memory_growth: {of: "/g*", above: 1MiB/s}}]
    critical: {all: [{pressure: {of: "/g*/*", over: 1s, above: 80%}}, {memory_available: {below: 5%}}]}
    for: 200ms
    choose: {from: ["/g*"], level: LEVEL, most: 4, policy: POLICY}
    then: [{term: {grace: 400ms}}, {kill: {}}]
    pause: 500ms
  - name: low
    when: {all: [{memory_available: {below: 5%}}]}
    choose: {level: LEVEL, policy: POLICY}
"""
WAYS = {
    "siblings": "cgroup",
    "recursive": "cgroup, recursive: true",
    "one of it": "process_in",
    "one below": "process_in, recursive: true",
}
RULES = "level: {grace: 400ms}\nstall: off\n"
SIZES = {10: 3 * GIB, 11: 2 * GIB, 12: 900 * MIB, 13: 40 * MIB, 14: 5 * MIB}


@dataclass
class Script:
    """One tick: how long after the last, what memory shows, and what the machine does meanwhile."""

    pause_ms: int
    available_mib: int
    dies: int = 0
    """The pid that ends by itself or of its signal before this tick."""
    refuses: int = 0
    """The pid that may not be touched in this tick."""
    dying: int = 0
    """The pid that somebody else has killed."""
    reaped: bool = True
    """Whether the reaper's results have come."""
    reap_errno: int = 0
    """Of the signal."""
    reap_answer: int = 22
    """EINVAL: it is not dying, as after a SIGTERM that it catches."""
    held: bool = False
    pause_s: int = 0
    """Somebody asks for a pause before this tick; -1: for its end."""
    by_hand: bool = False
    """Somebody asks for a kill."""


class FakeSteps:
    """Carries nothing out, and says so when the script lets it."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine

    @classmethod
    def of(cls, machine: Machine) -> Any:
        """What builds it."""
        return lambda: cls(machine)

    def prepare(self, steps: Any) -> None: ...

    def begin(self, identity: str, *rest: Any) -> None:
        self._machine.steps.append(identity)

    def let_go(self, identity: str, why: str) -> None: ...

    def take_results(self) -> list[StepResult]:
        done, self._machine.steps = self._machine.steps, []
        word = "impossible" if self._machine.script.refuses else "done"
        return [StepResult(identity, word) for identity in done]


class Groups:
    """The machine's cgroups, one of each process below one of two; their counters rise in an order of their own."""

    reader = None

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._wants = NOTHING
        self._seen: tuple[Cgroup, ...] = ()
        self._next_us = 0

    def want(self, wants: Wants, *, choices: bool) -> None:
        self._wants = wants

    def look(self, clock: Any) -> tuple[Cgroup, ...]:
        if self._wants.cgroups and self._machine.now_us >= self._next_us:
            self._seen = self._now()
            self._next_us = self._machine.now_us + 100_000
        return self._seen

    def choice(self, wants: Wants, now_us: int) -> tuple[Cgroup, ...]:
        return self._now()

    def _now(self) -> tuple[Cgroup, ...]:
        sizes: dict[str, int] = {}
        for pid, size in self._machine.alive.items():
            for path in (f"/g{pid // 2}", f"/g{pid // 2}/p{pid}"):
                sizes[path] = sizes.get(path, 0) + size
        return tuple(self._group(path, size) for path, size in sorted(sizes.items()))

    def _group(self, path: str, size: int) -> Cgroup:
        now, number = self._machine.now_us, sum(path.encode())
        return Cgroup(
            path,
            time_us=now,
            inode=number,
            current_bytes=size + now % 977 * MIB,
            anon_bytes=size + now // 1000 % 89 * MIB,
            pgscan=now // 1000 * (1 + number % 5),
            active_anon_bytes=size // 2,
            inactive_anon_bytes=size * (number % 3) // 4,
            memory_pressure=pressure(now // 1000 % 100 / 100, total_us=now // 1000 * (100 + 100 * (number % 10))),
            oom_group=number % 7 == 0,
            xattrs=(("user.oomd_avoid", "1"),) if number % 11 == 0 else (),
        )


class Machine:
    """The real loop and executor around a machine that follows a script; nobody real is touched."""

    def __init__(self, config: Config, recorder: Recorder, patch: pytest.MonkeyPatch) -> None:
        self.now_us = 5_000_000
        for module in (oomd.loop, oomd.pausing, oomd.rounds):
            patch.setattr(module, "clock_us", lambda: self.now_us)
        self.script = Script(0, 4096)
        self.alive = dict(SIZES)
        self.watched: dict[int, Any] = {}
        self.submitted: list[tuple[Warrant, int]] = []
        self.rows: dict[int, Any] = {}
        self.leaders: list[Any] = []
        self.sized: list[Any] = []
        self.last_pids: frozenset[int] = frozenset()
        self.looked_us = self.scans = 0
        self.events: list[dict[str, Any]] = []
        self.recorder = recorder
        self.tape = Tape()
        gate: Any = None if config.dry_run else self
        executor = Executor(gate, None if config.dry_run else self, self)  # type: ignore[arg-type] # plays all parts
        executor.on_result = self.tape.note_reaped
        me: Any = self
        self.steps: list[str] = []
        """Ids of gentle steps that nobody has said anything of."""
        ladders = Ladders(lambda event, **content: None, None if config.dry_run else FakeSteps.of(self))
        groups: Any = Groups(self)
        parts = Parts(
            *(me, me, me, me, executor, lambda key, lost: None, self.report, self.on_tick),
            ladders=ladders,
            tape=self.tape,
            cgroups=groups,
        )
        self.loop = Loop(parts, config.rules)
        self.pausing = Pausing(self.loop, lambda event, **content: None, lambda: None)
        self.rounds = Rounds(self.loop, lambda event, **content: None)
        ladders.prepare(config.rules)
        self.report({"event": "rules", "plain": to_plain(config)})

    def run(self, script: list[Script]) -> None:
        """Tick by tick."""
        for self.script in script:
            self.now_us += 1000 * self.script.pause_ms
            if self.script.dies:
                self.alive.pop(self.script.dies, None)
            if self.script.pause_s:
                asked = {"duration_us": 1_000_000 * self.script.pause_s, "why": "", "by": "x"}
                self.pausing.begin(asked) if self.script.pause_s > 0 else self.pausing.end(asked)
            if self.script.by_hand:
                self.rounds.ask({"command": "kill_now", "by": "x", "dry_run": False})
            self.loop.tick()
        self.loop.act.hand_out(everything=True)
        self.loop.parts.executor.close()

    def on_tick(self, now_us: int) -> None:
        self.pausing.on_tick(now_us)
        self.rounds.on_tick(now_us)

    def report(self, event: dict[str, Any]) -> None:
        (self.recorder.put if event["event"] in ("seen", "rules") else self.events.append)(event)

    # The waiter
    def wait_ready(self, timeout_us: int) -> list[tuple[Any, bool]]:
        ready = [(key, False) for key in self.watched.values() if key[1].pid not in self.alive]
        ready += [("reaper", False)] if self.script.reaped and self.submitted else []
        return [*ready, ("steps", False)] if self.script.reaped and self.steps else ready

    def watch(self, fd: int, key: Any, events: int = 0) -> None:
        self.watched[fd] = key

    def unwatch(self, fd: int) -> None:
        self.watched.pop(fd, None)

    # The sampler
    can_glance = False  # as where it is recorded

    def take_glanced(self) -> None: ...

    def read_levels(self, now_us: int) -> Any:
        available = self.script.available_mib * MIB
        return status(time_us=now_us, mem_available_bytes=available, anon_bytes=7 * GIB)

    def read_rest(self, levels: Any, *, per_cpu_lists: bool = False) -> Any:
        return levels

    def want(self, details: Any) -> None: ...

    # The table
    def wants_look(self, now_us: int, fresh_us: int = 0) -> bool:
        return False

    def wants_scan(self, now_us: int) -> bool:
        return False

    def look(self, status: Any, clock: Any, *, sizes_only: bool = False, but_from: int = 0) -> None: ...

    def seek(self, status: Any, clock: Any) -> None: ...

    def scan(self, status: Any, clock: Any) -> None: ...

    def note_sizes(self) -> None: ...

    def find_newcomers(self) -> list[Any]:
        return []

    def read_everybody(self) -> None: ...

    def rest_bound_bytes(self) -> int:
        return 0

    def unexamined_bound_bytes(self) -> int:
        return 0

    def snapshot(self, now: Any, now_us: int, *, everybody: bool = False) -> Any:
        shown = [
            process(
                pid,
                size / MIB,
                kill_pending=pid == self.script.dying,
                comm=f"p{pid}",
                session=pid // 2,
                pgrp=pid // 3,
                cgroup=f"/g{pid // 2}/p{pid}",
            )
            for pid, size in self.alive.items()
        ]
        return snapshot(*shown, status=now, complete=everybody)

    def condemn(self, pid: Any) -> None: ...

    def bury(self, pid: int) -> None: ...

    # The sharing meter
    def ask(self, leaders: Any, now_us: int, watched: Any = (), rows: Any = (), *, calm: bool = False) -> None: ...

    def collect(self, rows: Any) -> None: ...

    def awaits(self, leaders: Any) -> bool:
        return self.script.held

    # The gate
    def grant(self, chosen: Any, stat_fd: int = -1) -> Warrant:
        if chosen.id.pid == self.script.refuses:
            raise Refused("may not be touched")
        return Warrant(chosen.id, os.open("/dev/null", os.O_RDONLY), chosen.comm, "test")

    # The reaper
    def expect(self, wait_us: int) -> None: ...

    def submit(self, warrant: Warrant, number: int) -> None:
        self.submitted.append((warrant, number))

    def arm(self, warrant: Warrant) -> Motion:
        return Motion(warrant, -1, 0)

    def disarm(self, motion: Motion) -> None: ...

    def fire(self, motion: Motion, number: int, go_on: object) -> None:
        self.submitted.append((motion.warrant, number))

    def kill_all(self, warrants: tuple[Warrant, ...]) -> None:
        self.submitted += [(warrant, 9) for warrant in warrants]

    def take_results(self) -> list[ReapResult]:
        done, self.submitted = self.submitted, []
        failed = self.script.reap_errno
        answer = self.script.reap_answer
        return [ReapResult(each.id, number, failed, self.now_us, "test", answer, 1000) for each, number in done]

    def take_lifted(self, pid: int) -> tuple[str, ...]:
        return ()


@pytest.fixture(autouse=True)
def no_signals() -> Iterator[None]:
    """Signals go nowhere, and time is the machine's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(oomd.kill.executor, "pidfd_send_signal", lambda pidfd, number: None)
        patch.setattr(oomd.kill.executor, "open_pidfd", lambda pid: os.open("/dev/null", os.O_RDONLY))
        yield


def config_of(text: str) -> Config:
    """The rules of this text."""
    config = load_config("x", text=text.encode())
    assert isinstance(config, Config)
    return config


def recorded(folder: Path, script: list[Script], text: str = RULES) -> tuple[str, list[dict[str, Any]]]:
    """The recording of a machine that followed the script, and what was reported."""
    path = str(folder / "incident")
    recorder = Recorder(path, print)
    with pytest.MonkeyPatch.context() as patch:
        machine = Machine(config_of(text), recorder, patch)
        machine.run(script)
    recorder.finish()
    return path, machine.events


def answers(path: str, text: str | None = None) -> list[Asked]:
    """Every tick's answer."""
    recording = read_recording(path)
    assert recording.cut == ""
    return list(ask(recording, None if text is None else config_of(text)))


LEAK = [Script(100, available) for available in (4000, 2000, 800, 300, 290, 280, 280, 280, 280)]


def test_a_leak_repeats(tmp_path: Path) -> None:
    """Asked, killed after the grace, dead, back: the same victim with the same signals at the same ticks."""
    script = [*LEAK, Script(100, 280, dies=10), Script(20, 3300), Script(2000, 3300)]
    path, events = recorded(tmp_path, script)
    assert [event["event"] for event in events if event["event"] != "note"] == ["decision", "escalation", "outcome"]
    asked = answers(path)
    assert [(each.decision.action, each.recorded.action) for each in asked if each.decision.action != "none"] == [
        ("term", "term"),
        ("kill", "kill"),
    ]
    assert not any(each.differs for each in asked)
    assert len(asked) == len(script)


def test_other_rules_differ(tmp_path: Path) -> None:
    """Rules that begin sooner ask sooner, which is marked; and so is the tick at which the recorded ones did."""
    path, _ = recorded(tmp_path, [*LEAK, Script(100, 280, dies=10), Script(20, 3300)])
    asked = answers(path, "level: {term: 1GiB, kill: 10MiB, grace: 10s}\nstall: off")
    found = [(number, each.decision.action, each.recorded.action) for number, each in enumerate(asked) if each.differs]
    # Asked at 800 MiB; killed at once when that fell by a quarter; when the grace of the recorded one was over, dead.
    assert found == [(2, "term", "none"), (3, "kill", "term"), (7, "none", "kill")]
    assert asked[2].snapshot_us == 5_400_000  # taken two ticks later, the first there is
    protected = answers(path, RULES + "protect: [p10]")
    assert {each.decision.target.process.id.pid for each in protected if each.decision.target} == {11}


def test_the_dead_are_not_asked_for(tmp_path: Path) -> None:
    """A victim that died and was settled is no candidate, though the nearest snapshot is of before its death."""
    long = LONG_RULES.replace("LEVEL", "group").replace("POLICY", "culprit")
    script = [*[Script(10, 60, reaped=False)] * 8, Script(10, 60, dies=12, reaped=False)]
    script += [
        Script(10, 60, reap_errno=1, reap_answer=0),
        Script(10, 60, reap_answer=0),
        Script(500, 150, dies=13, reaped=False),
    ]
    path, events = recorded(tmp_path, script, long)
    assert [event["pid"] for event in events if event["event"] == "outcome"] == [10, 11, 13]
    assert [each.tick.number for each in answers(path) if each.differs] == []


def test_a_pause_is_known(tmp_path: Path) -> None:
    """What was not decided because of a pause is not decided again, by other rules neither; its end is known too."""
    script = [Script(100, 4000), Script(100, 60, pause_s=2), Script(100, 60), Script(1000, 60, pause_s=-1)]
    path, events = recorded(tmp_path, script)
    assert [event["event"] for event in events] == ["decision"]
    asked = answers(path)
    assert [each.decision.action for each in asked] == ["none", "none", "none", "kill"]
    assert [each.decision.reason for each in asked[1:3]] == ["paused by x for 2s more", "paused by x for 1s more"]
    assert not any(each.differs for each in asked)
    other = answers(path, "level: {term: 1GiB, grace: 1s}\nstall: off")
    assert [each.decision.action for each in other] == ["none", "none", "none", "kill"]


def test_a_kill_by_hand_is_known(tmp_path: Path) -> None:
    """It is repeated at the tick at which somebody asked for it, with the same reason."""
    path, events = recorded(tmp_path, [Script(100, 4000), Script(100, 4000, by_hand=True), Script(100, 4000)])
    asked = answers(path)
    assert [each.decision.action for each in asked] == ["none", "term", "none"]
    assert asked[1].decision.reason == events[0]["decision"]["reason"]
    assert asked[1].decision.reason.startswith("level: asked by x; p10 (10)")
    assert not any(each.differs for each in asked)


def test_by_hand_while_a_step_begins(tmp_path: Path) -> None:
    """One thing at a tick: the step of the ladder first, whom the request takes at the next one."""
    path, _ = recorded(tmp_path, [Script(10, 150, by_hand=True), Script(20, 150)], LADDER_RULES)
    asked = answers(path)
    assert [each.decision.action for each in asked] == ["notify", "term"]
    assert not any(each.differs for each in asked)


def test_a_ladder_repeats(tmp_path: Path) -> None:
    """Steps begin again at the same ticks: in time, sooner where the recorded one was through, at once where there was
    nobody; other ladders differ where they begin another step, or none.
    """
    script = [*[Script(100, 350)] * 3, *[Script(100, 350, reaped=False)] * 4, Script(100, 350, refuses=10)]
    script += [Script(100, 350)] * 5
    path, _ = recorded(tmp_path, script, LADDER_RULES)
    asked = answers(path)
    assert not any(each.differs for each in asked)
    begun = [(each.tick.number, each.decision.action) for each in asked if each.decision.action != "none"]
    assert begun == [(0, "notify"), (2, "throttle"), (7, "freeze"), (10, "term")]
    other = answers(path, LADDER_RULES.replace("      - throttle: {timeout: 1s}\n", ""))
    found = [(each.tick.number, each.decision.action) for each in other if each.differs]
    assert found[:2] == [(2, "freeze"), (5, "term")]


def test_a_ladder_without_a_kill_repeats(tmp_path: Path) -> None:
    """It begins anew a pause after all that was asked of its step was done, and not after the look that shows that it
    was not enough.
    """
    rules = LADDER_RULES[: LADDER_RULES.index("    critical:")]
    rules += (
        '    choose: {from: ["/g*"], level: cgroup, policy: resident}\n    then: [{reclaim: {}}]\n    pause: 1500ms\n'
    )
    path, _ = recorded(tmp_path, [Script(100, 150)] * 30, rules)
    asked = answers(path)
    assert not any(each.differs for each in asked)
    begun = [each.tick.number for each in asked if each.decision.action == "reclaim"]
    assert begun == [0, 16]


def test_a_pause_of_a_rule_repeats(tmp_path: Path) -> None:
    """The next one goes when the rule has rested, and not a tick sooner, though the alarm holds on."""
    rules = LONG_RULES.replace("LEVEL", "process").replace("POLICY", "freeable")
    rules = rules.replace("pause: 1s", "pause: 3s")  # longer than the rest after a kill that gave little back
    script = [Script(100, 60), Script(100, 300, dies=10), *[Script(100, 300)] * 40]
    path, _ = recorded(tmp_path, script, rules)
    asked = answers(path)
    assert not any(each.differs for each in asked)
    begun = [(each.tick.number, each.decision.action, _pid(each)) for each in asked if each.decision.target]
    assert [each[1:] for each in begun[:2]] == [("kill", 10), ("term", 11)]
    assert begun[1][0] - begun[0][0] >= 30


def test_no_gentle_step_follows_a_signal(tmp_path: Path) -> None:
    """Whoever was killed at once at the critical level had no ladder; while the alarm holds on nobody begins one."""
    script = [Script(100, 60), Script(100, 300, dies=10), *[Script(100, 300)] * 10]
    path, _ = recorded(tmp_path, script, LADDER_RULES)
    asked = answers(path)
    assert not any(each.differs for each in asked)
    assert {each.decision.action for each in asked} == {"none", "kill", "term"}


def _pid(asked: Asked) -> int:
    assert asked.decision.target is not None
    return asked.decision.target.process.id.pid


STEP = st.builds(
    Script,
    pause_ms=st.sampled_from([10, 100, 500, 1500]),
    available_mib=st.sampled_from([60, 150, 300, 340, 600, 4000]),
    dies=st.sampled_from([0, 0, 0, 10, 11, 12, 13]),
    refuses=st.sampled_from([0, 0, 10, 11]),
    dying=st.sampled_from([0, 0, 0, 0, 11]),
    reaped=st.booleans(),
    reap_errno=st.sampled_from([0, 0, 1, 3]),
    reap_answer=st.sampled_from([0, 3, 11, 22]),
    held=st.sampled_from([False, False, True]),
    pause_s=st.sampled_from([0, 0, 0, 0, 0, 1, 5, -1]),
    by_hand=st.sampled_from([False, False, False, True]),
)


@settings(max_examples=60, deadline=None)
@given(
    script=st.lists(STEP, min_size=1, max_size=40),
    dry_run=st.booleans(),
    level=st.sampled_from(["", "process", "session", "group", "cgroup", "process_in", "ladder"]),
    policy=st.sampled_from([each.name for each in policies.ALL]),
)
def test_replay_repeats_the_recorded_decisions(
    tmp_path_factory: pytest.TempPathFactory, script: list[Script], dry_run: bool, level: str, policy: str
) -> None:
    """Whatever the machine does, a recording asked by its own rules gives its own answers."""
    text = f"{RULES}dry_run: {dry_run}\n"
    if level == "ladder":
        text = f"dry_run: {dry_run}\n{LADDER_RULES}"
    elif level:
        text = f"dry_run: {dry_run}\n{LONG_RULES.replace('LEVEL', level).replace('POLICY', policy)}"
    path, _ = recorded(tmp_path_factory.mktemp("tape"), script, text)
    asked = answers(path)
    assert len(asked) == len(script)
    assert [each.tick.number for each in asked if each.differs] == []


@pytest.mark.parametrize("way", WAYS)
@settings(max_examples=25, deadline=None)
@given(
    script=st.lists(STEP, min_size=1, max_size=40),
    leaves=st.booleans(),
    policy=st.sampled_from([each.name for each in policies.ALL]),
)
def test_replay_repeats_what_was_decided_of_cgroups(
    tmp_path_factory: pytest.TempPathFactory, script: list[Script], leaves: bool, policy: str, way: str
) -> None:
    """The same of rules that look at cgroups, with a clock and a window for each, and choose among them."""
    text = CGROUP_RULES.replace("POLICY", policy).replace("LEVEL", WAYS[way])
    if leaves and way == "siblings":
        text = text.replace('from: ["/g*"], level: cgroup', 'from: ["/g*"], leaves: true, level: cgroup')
    path, _ = recorded(tmp_path_factory.mktemp("tape"), script, text)
    asked = answers(path)
    assert [each.tick.number for each in asked] == [*range(len(script))]
    assert [each.tick.number for each in asked if each.differs] == []


def test_nobody_is_left_after_a_refusal(tmp_path: Path) -> None:
    """The last one may not be touched, those that the snapshot of before shows are gone: that is told, and repeats."""
    quiet = Script(10, 60, reaped=False)
    script = [quiet, *(replace(quiet, dies=pid) for pid in (11, 12, 13)), *[replace(quiet, pause_ms=1500)] * 2]
    script[-1] = replace(script[-1], refuses=10)
    text = CGROUP_RULES.replace("POLICY", "youngest").replace("LEVEL", WAYS["one of it"])
    path, events = recorded(tmp_path, script, text)
    asked = answers(path)
    assert any(event["event"] == "decision" and event["decision"]["action"] == "notify" for event in events)
    assert [fact.id.pid for fact in asked[-1].tick.refused] == [10]
    assert (asked[-1].decision.action, asked[-1].recorded.action) == ("notify", "notify")
    assert not any(each.differs for each in asked)


def test_a_hot_cgroup_repeats(tmp_path: Path) -> None:
    """Not a word of the kind above is empty: cgroups alone make the alarm, and one is asked to go and killed."""
    text = CGROUP_RULES.replace("POLICY", "resident").replace("LEVEL", WAYS["recursive"])
    path, events = recorded(tmp_path, [Script(250, 4000)] * 20, text)
    told = [event["event"] for event in events if event["event"] in ("decision", "escalation")]
    assert told[:2] == ["decision", "escalation"]
    decided = [each for each in answers(path) if each.decision.action == "term"]
    assert decided
    target = decided[0].decision.target
    assert target is not None
    assert target.name.startswith("/g")
    recording = read_recording(path)
    assert all(len(tick.cgroups) == 8 for tick in recording.ticks[:5])


def test_handed_out_little_by_little(tmp_path: Path) -> None:
    """A long past is told at the ticks after the signal, a slice each, and written once it is told in full."""
    crowd = tuple(Cgroup(f"/g1/x{number}", current_bytes=number) for number in range(60))

    class Crowded(Groups):
        def _now(self) -> tuple[Cgroup, ...]:
            return (*super()._now(), *(replace(each, time_us=self._machine.now_us) for each in crowd))

    handed: dict[int, list[int]] = {}

    class Counting(Recorder):
        def put(self, event: dict[str, Any]) -> None:
            if event["event"] == "seen":
                handed.setdefault(machine.loop.ticks, []).append(len(event["packed"]))
                lasts.append(event["last"])
            super().put(event)

    lasts: list[bool] = []
    path = str(tmp_path / "incident")
    recorder = Counting(path, print)
    text = CGROUP_RULES.replace("POLICY", "resident").replace("LEVEL", WAYS["recursive"])
    text = text.replace("above: 30%", "above: 100%").replace("above: 1GiB", "above: 900GiB")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tests.replay.test_asking.Groups", Crowded)
        machine = Machine(config_of(text), recorder, patch)
        quiet = [Script(100, 4000)] * 100
        machine.run([*quiet, Script(100, 60), *[Script(100, 60)] * 20])
    recorder.finish()
    ticks = sorted(handed)
    assert ticks[0] == 101  # the tick of the kill
    assert ticks[:6] == [*range(101, 107)]  # no more than a slice at each of the next ones
    assert lasts.count(True) < len(lasts)
    values = VALUES_AT_ONCE + VALUES_PER_PART
    for tick in ticks[:-1]:
        assert len(handed[tick]) <= values // 60
    asked = answers(path)
    assert [each.tick.number for each in asked] == [*range(121)]
    assert not any(each.differs for each in asked)
    assert asked[100].decision.action == "kill"


@settings(max_examples=20, deadline=None)
@given(script=st.lists(STEP, min_size=1, max_size=40), drop=st.integers(0, 30))
def test_ticks_that_are_missing(tmp_path_factory: pytest.TempPathFactory, script: list[Script], drop: int) -> None:
    """Where parts were lost, the replay goes on with what the engine remembered then."""
    path, _ = recorded(tmp_path_factory.mktemp("tape"), script)
    recording = read_recording(path)
    begins = [number for number, tick in enumerate(recording.ticks) if tick.state is not None]
    rest = replace(recording, ticks=recording.ticks[begins[min(drop, len(begins) - 1)] :])
    assert len(list(ask(rest))) == len(rest.ticks)

"""Reading a recording: whole, cut off, of another version, of any bytes."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oomd.config.compiled import to_plain
from oomd.config.effective import to_yaml
from oomd.config.loader import default_config
from oomd.engine.detection import initial_state
from oomd.model.decision import NOTIFY, Decision
from oomd.model.ruleset import EngineState
from oomd.model.snapshot import Cgroup, Pressure, PressureLine
from oomd.monitor.tape import Tape
from oomd.outside.recording import RecordingError, config_line, header_line, json_of, tick_line, value_of
from oomd.replay.incident import nearest_snapshots, read_recording
from oomd.replay.trace import ReplayError
from tests.fakes.builders import process, snapshot, status
from tests.fakes.tapes import drained

if TYPE_CHECKING:
    from pathlib import Path


def lines(count: int = 3) -> list[str]:
    """A recording of quiet ticks."""
    config = default_config()
    tape = Tape()
    for number in range(count):
        tape.begin(status(time_us=number * 1000), initial_state(config.rules))
    return [header_line(to_yaml(config)), *(tick_line(tick) for part in drained(tape) for tick in part)]


def written(folder: Path, text: str) -> str:
    """The text as a file."""
    path = folder / "incident"
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_whole_file(tmp_path: Path) -> None:
    """Rules, ticks in order, and the state that the first one began with."""
    recording = read_recording(written(tmp_path, "".join(lines())))
    assert recording.config == default_config()
    assert [tick.number for tick in recording.ticks] == [0, 1, 2]
    assert recording.ticks[2].status == status(time_us=2000)
    assert recording.ticks[0].state == initial_state(default_config().rules)
    assert recording.ticks[1].state is None
    assert recording.cut == ""


def test_cut_off(tmp_path: Path) -> None:
    """What is readable is used, and the place of the cut is told."""
    text = "".join(lines())
    recording = read_recording(written(tmp_path, text[:-20]))
    assert len(recording.ticks) == 2
    assert "incident:4: cut off" in recording.cut
    broken = lines()
    broken[2] = '{"tick": 1}\n'
    recording = read_recording(written(tmp_path, "".join(broken)))
    assert len(recording.ticks) == 1
    assert "incident:3: not a tick" in recording.cut


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"oomd_recording": 2, "config": ""}\n', "a recording of version 2; this oomd reads version 1"),
        ("", "is no recording of oomd"),
        ("[]\n", "is no recording of oomd"),
        ('{"oomd_recording": 1}\n', "incident:1: tells no rules"),
        ('{"oomd_recording": 1, "config": "leve: off"}\n', r"incident:1:1:1: leve: unknown key"),
        ('{"oomd_recording": 1, "config": ""}\n', "no tick in it"),
    ],
)
def test_what_is_no_recording_is_told(tmp_path: Path, text: str, message: str) -> None:
    """Each mistake names the file, and the line where it has one."""
    with pytest.raises(ReplayError, match=message):
        read_recording(written(tmp_path, text))


def test_reloads_stand_before_their_tick(tmp_path: Path) -> None:
    """New rules hold from the next tick on."""
    config = default_config()
    other = replace(config, rules=replace(config.rules, rulesets=config.rules.rulesets[:1]))
    text = lines()
    text.insert(2, config_line(to_yaml(other)))
    recording = read_recording(written(tmp_path, "".join(text)))
    assert [tick.config for tick in recording.ticks] == [None, other, None]


def test_values_come_back() -> None:
    """Every kind of value, with nested ones, sets and whatever differs from its default."""
    line = PressureLine(0.1, 0.2, 0.3, 7)
    cgroup = Cgroup("/a", xattrs=(("user.oomd_avoid", "1"),), memory_pressure=Pressure(line, None), max_bytes=5)
    seen = snapshot(process(7, private_bytes=5), own_pids=frozenset({1, 2}), cgroups=(cgroup,), complete=False)
    assert value_of(json.loads(json.dumps(json_of(to_plain(seen))))) == seen


def test_fields_of_the_future_are_left_out() -> None:
    """A recording of a newer oomd of the same version may tell more."""
    content = json_of(to_plain(status()))
    assert value_of({**content, "tomorrow": 1}) == status()


@pytest.mark.parametrize(
    "wrong", [{"time_us": "1"}, {"time_us": True}, {"budget": 1}, {"mem_free_bytes": None}, {"arc_bytes": [1]}]
)
def test_values_are_of_their_declared_kind(wrong: dict[str, Any]) -> None:
    """A number that is a text would be found out in the middle of a replay otherwise."""
    content = json_of(to_plain(status()))
    with pytest.raises(RecordingError, match=rf"MemoryStatus.{next(iter(wrong))}"):
        value_of({**content, **wrong})


def test_nearest_snapshot(tmp_path: Path) -> None:
    """A tick's own, else the last before it, else the first after it; always with the tick's own status."""
    config = default_config()
    tape = Tape()
    for number in range(4):
        tape.begin(status(time_us=number), initial_state(config.rules))
        if number in (1, 3):
            now = status(time_us=number)
            tape.note_decision(Decision(NOTIFY, "", now), snapshot(process(number), status=now), EngineState())
    text = [header_line(to_yaml(config)), *(tick_line(tick) for part in drained(tape) for tick in part)]
    ticks = read_recording(written(tmp_path, "".join(text))).ticks
    found = [
        (shown.processes[0].id.pid, shown.status.time_us, taken)
        for _, shown, taken in nearest_snapshots(ticks)
        if shown
    ]
    assert found == [(1, 0, 1), (1, 1, 1), (1, 2, 1), (3, 3, 3)]
    assert [shown for _, shown, _ in nearest_snapshots(ticks[:1])] == [None]


@given(st.binary(max_size=400), st.integers(0, 3))
def test_any_bytes(tmp_path_factory: pytest.TempPathFactory, data: bytes, after: int) -> None:
    """Whatever follows the lines of a recording, it is read as far as it goes, or said to be none."""
    path = tmp_path_factory.mktemp("bytes") / "incident"
    path.write_bytes("".join(lines()[:after]).encode() + data)
    try:
        recording = read_recording(str(path))
    except ReplayError:
        return
    assert len(recording.ticks) >= after - 1


json_values: Any = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["$", "of", "id", "pid"]), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(
    content=st.dictionaries(
        st.sampled_from(["tick", "status", "state", "facts", "decision", "held", "config"]), json_values
    )
)
def test_any_json(tmp_path_factory: pytest.TempPathFactory, content: dict[str, Any]) -> None:
    """A line of JSON that is no tick ends the reading there, or is told; nothing else."""
    path = tmp_path_factory.mktemp("json") / "incident"
    path.write_text("".join(lines()) + json.dumps(content) + "\n", encoding="utf-8")
    try:
        assert len(read_recording(str(path)).ticks) >= 3
    except ReplayError as error:
        assert "incident:5" in str(error)  # noqa: PT017 - either outcome is right

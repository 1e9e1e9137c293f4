"""The recorder: bounded, whole at every moment, never in anybody's way."""

from __future__ import annotations

import json
import os
import threading
from typing import TYPE_CHECKING, Any

import pytest

from oomd.config.compiled import to_plain
from oomd.config.loader import default_config, load_config
from oomd.model.config import Config
from oomd.model.ruleset import EngineState
from oomd.monitor.tape import Tape
from oomd.outside.recorder import MOST_QUEUED, Recorder
from oomd.outside.recording import KEY
from tests.fakes.builders import status

if TYPE_CHECKING:
    from pathlib import Path


def seen(*times_us: int, last: bool = True) -> dict[str, Any]:
    """What the killer hands out."""
    tape = Tape()
    for time_us in times_us:
        tape.begin(status(time_us=time_us), EngineState())
    (part,), _ = tape.drain()
    return {"event": "seen", "packed": part, "last": last}


def rules(text: str = "") -> dict[str, Any]:
    """The rules that hold from now on."""
    config = load_config("x", text=text.encode()) if text else default_config()
    assert isinstance(config, Config)
    return {"event": "rules", "plain": to_plain(config)}


def written(path: Path) -> list[dict[str, Any]]:
    """The recording's lines."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_written_at_every_action(tmp_path: Path) -> None:
    """Header, ticks, and new rules where they began to hold; readable by its owner alone."""
    path = tmp_path / "incident"
    complaints: list[str] = []
    recorder = Recorder(str(path), complaints.append)
    for event in (rules(), seen(1, 2, last=False), rules("stall: off"), seen(3)):
        recorder.put(event)
    recorder.finish()
    header, *lines = written(path)
    assert header[KEY] == 1
    assert "stall" in header["config"]
    assert ["config" in line for line in lines] == [False, False, True, False]
    assert path.stat().st_mode & 0o777 == 0o600
    assert os.listdir(tmp_path) == ["incident"]
    assert complaints == []


@pytest.mark.parametrize("most_bytes", [2500, 4000, 6000, 9000, 20_000])
def test_bounded(tmp_path: Path, most_bytes: int) -> None:
    """The oldest parts go, header and rules count too; the header tells the rules that the first one left has."""
    path = tmp_path / "incident"
    complaints: list[str] = []
    recorder = Recorder(str(path), complaints.append, most_bytes=most_bytes)
    recorder.put(rules())
    for number in range(40):
        if number % 10 == 0:
            recorder.put(rules("stall: off" if number % 20 else "level: off"))
        recorder.put(seen(number))
        recorder.finish()
        assert path.stat().st_size <= most_bytes
        recorder = again(recorder)
    recorder.finish()
    header, *lines = written(path)
    in_force = header["config"]
    for line in lines:
        in_force = line.get("config", in_force)
        if "status" in line:
            level_is_off = line["status"]["time_us"] // 10 % 2 == 0
            assert ("name: level" in in_force, "name: stall" in in_force) == (not level_is_off, level_is_off)
    assert lines[-1]["status"]["time_us"] == 39
    assert 1 <= len(lines) <= 44
    assert complaints == []


def again(recorder: Recorder) -> Recorder:
    """The same, going on after it has written everything."""
    recorder._thread = threading.Thread(target=recorder._run, daemon=True)
    recorder._thread.start()
    return recorder


def test_what_is_too_large_alone(tmp_path: Path) -> None:
    """A part that is larger than a recording may be is left out, which is told; the next one is recorded."""
    path = tmp_path / "incident"
    complaints: list[str] = []
    recorder = Recorder(str(path), complaints.append, most_bytes=4000)
    for event in (rules(), seen(*range(100)), seen(7)):
        recorder.put(event)
    recorder.finish()
    assert [line["status"]["time_us"] for line in written(path)[1:]] == [7]
    assert complaints == [f"parts of the recording {path} were lost, as they found no room: 1"]


def test_an_earlier_recording_is_kept(tmp_path: Path) -> None:
    """The incident of the run before is not lost at the first action of this one."""
    path = tmp_path / "incident"
    for number in (1, 2, 3):
        recorder = Recorder(str(path), print)
        recorder.put(rules())
        recorder.put(seen(number))
        recorder.put(seen(10 + number))
        recorder.finish()
    assert [line["status"]["time_us"] for line in written(path)[1:]] == [3, 13]
    assert [line["status"]["time_us"] for line in written(tmp_path / "incident.1")[1:]] == [2, 12]


def test_what_cannot_be_written_is_told_once(tmp_path: Path) -> None:
    """A folder that is gone costs the recording, and one note."""
    folder = tmp_path / "gone"
    complaints: list[str] = []
    recorder = Recorder(str(folder / "incident"), complaints.append)
    recorder.put(rules())
    recorder.put(seen(1))
    recorder.put(seen(2))
    recorder.finish()
    assert complaints == [f"the recording {folder}/incident cannot be written: No such file or directory"]


def test_a_disk_that_hangs_holds_up_nobody(tmp_path: Path) -> None:
    """What finds no room is dropped and counted."""
    os.mkfifo(tmp_path / "fifo")
    recorder = Recorder(str(tmp_path / "incident"), print)
    stuck = {"event": "rules", "plain": None}
    recorder._queue.put(None)  # the thread ends: nobody takes anything any more
    recorder._thread.join()
    for _ in range(MOST_QUEUED + 5):
        recorder.put(stuck)
    assert recorder.lost == 5

"""The recorder: bounded, whole at every moment, never in anybody's way."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

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


def test_bounded(tmp_path: Path) -> None:
    """The oldest parts go; the header tells the rules that the first one left began with."""
    path = tmp_path / "incident"
    recorder = Recorder(str(path), print, most_bytes=3000)
    recorder.put(rules())
    for number in range(20):
        if number == 10:
            recorder.put(rules("stall: off"))
        recorder.put(seen(number))
    recorder.finish()
    header, *lines = written(path)
    assert 0 < len(lines) < 10
    assert lines[-1]["status"]["time_us"] == 19
    assert "name: stall" not in header["config"]
    assert all("config" not in line for line in lines)


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

"""Streams on real descriptors that fill up, fail and come back."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

from oomd.outside.sinks import Stream, render_json

if TYPE_CHECKING:
    from pathlib import Path

NOTE = {"event": "note", "time": 0.0, "text": "hello"}
TEARING = """
import resource, sys
from oomd.outside.sinks import Stream, render_json
file = open(sys.argv[1], "wb", buffering=0)
stream = Stream(file.fileno(), render_json)
limits = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))
for number in range(4):
    try:
        stream({"event": "note", "number": number})
    except OSError as error:
        print(number, error.strerror)
resource.setrlimit(resource.RLIMIT_FSIZE, limits)
stream({"event": "note", "number": 4})
stream({"event": "note", "number": 5})
"""


def test_torn_line_is_ended_before_the_next(tmp_path: Path) -> None:
    """F20: a file that took half a line keeps that half as a line of its own; what comes later is whole."""
    path = tmp_path / "log"
    done = subprocess.run(
        [sys.executable, "-c", TEARING, str(path)], capture_output=True, text=True, timeout=120, check=True
    )
    assert done.stdout.splitlines() == ["3 File too large"]
    lines = path.read_text(encoding="utf-8").splitlines()
    whole = [json.loads(line)["number"] for line in lines if line.endswith("}")]
    assert whole == [0, 1, 2, 4, 5]
    assert [line for line in lines if not line.endswith("}")] == ['{"event": "note", "number": 3}'[: 100 - 3 * 31]]


def test_descriptor_that_somebody_made_non_blocking_is_waited_for() -> None:
    """F20: a terminal or pipe shared with a program that set O_NONBLOCK loses nothing."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    got = bytearray()

    def drain() -> None:
        while data := os.read(reading, 1 << 16):
            got.extend(data)

    reader = threading.Thread(target=drain)
    reader.start()
    stream = Stream(writing, render_json)
    for _ in range(20):
        stream(NOTE | {"text": "x" * 50_000})
    os.close(writing)
    reader.join()
    os.close(reading)
    assert [len(json.loads(line)["text"]) for line in got.splitlines()] == [50_000] * 20

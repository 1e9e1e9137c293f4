"""Lines in logcat's shape."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Any

from oomd.outside.logcat import divert_logcat, render_logcat

if TYPE_CHECKING:
    from pathlib import Path

EVENT = {
    "event": "lmkd",
    "time": 1_700_000_000.25,
    "letter": "I",
    "tag": "lowmemorykiller",
    "writer": 77,
    "text": "Kill 'x'",
}


def test_shape() -> None:
    """Date, time to the millisecond, pid twice, letter, tag; a name with a newline cannot begin a line of its own."""
    shape = r"\d\d-\d\d \d\d:\d\d:\d\d\.250    77    77 I lowmemorykiller: Kill 'x'\n"
    assert re.fullmatch(shape, render_logcat(EVENT))
    assert render_logcat({**EVENT, "tag": "killinfo", "text": "a\nb\x1b"}).endswith("I killinfo: a\\x0ab\\x1b\n")


def test_lines_go_to_the_file_and_the_rest_elsewhere(tmp_path: Path) -> None:
    """A file that was moved away is begun anew; readable for its owner and group only."""
    other: list[dict[str, Any]] = []
    path = tmp_path / "log"
    sink = divert_logcat(other.append, str(path))
    sink(EVENT)
    sink({"event": "start"})
    path.rename(tmp_path / "log.1")
    sink(EVENT)
    assert [len(file.read_text(encoding="utf-8").splitlines()) for file in (path, tmp_path / "log.1")] == [1, 1]
    assert other == [{"event": "start"}]
    assert path.stat().st_mode & 0o007 == 0


def test_where_it_cannot_be_written(tmp_path: Path) -> None:
    """The line goes where everything else goes."""
    other: list[dict[str, Any]] = []
    sink = divert_logcat(other.append, str(tmp_path / "missing" / "log"))
    sink(EVENT)
    assert other == [EVENT]
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    divert_logcat(other.append, str(fifo))(EVENT)  # nobody reads it: no reason to wait
    assert other == [EVENT, EVENT]

"""Lines in the shape of ``logcat -v threadtime``, so that readers of lmkd's log go on working."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from oomd.model.report import Plain
    from oomd.outside.sinks import Sink

KIND = "lmkd"
"""The event that carries one line: ``letter``, ``tag``, ``writer`` (our pid), ``text``."""
MODE = 0o640
_CONTROLS = {code: f"\\x{code:02x}" for code in (*range(0x20), *range(0x7F, 0xA0))}


def render_logcat(event: Plain) -> str:
    """``month-day time pid tid letter tag: text``; a name cannot end the line."""
    seconds = float(event["time"])
    stamp = time.strftime("%m-%d %H:%M:%S", time.localtime(seconds))
    millis = int(seconds * 1000) % 1000
    text = event["text"].translate(_CONTROLS)
    return (
        f"{stamp}.{millis:03d} {event['writer']:5d} {event['writer']:5d} {event['letter']} {event['tag']:<8}: {text}\n"
    )


def divert_logcat(sink: Sink, path: str) -> Sink:
    """A sink whose lines of lmkd are appended to this file, which may be moved away at any time; while it cannot be
    written they go where everything else goes.
    """

    def write(event: Plain) -> None:
        if event["event"] != KIND:
            sink(event)
            return
        try:
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NONBLOCK, MODE)
            try:
                os.write(fd, render_logcat(event).encode("utf-8", "backslashreplace"))
            finally:
                os.close(fd)
        except OSError:
            sink(event)

    return write

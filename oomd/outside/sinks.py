"""Where events go: text for people on standard error, JSON lines on standard output, or journald."""

from __future__ import annotations

import json
import os
import select
from typing import TYPE_CHECKING

from oomd.outside.text import describe_event

if TYPE_CHECKING:
    from collections.abc import Callable

    from oomd.model.report import Plain

    Sink = Callable[[Plain], None]

STDOUT, STDERR = 1, 2


class Stream:
    """Writes events to a descriptor, each as whole lines. Blocks as the descriptor does; raises OSError."""

    def __init__(self, fd: int, render: Callable[[Plain], str]) -> None:
        self._fd = fd
        self._render = render
        self._torn = False
        """A disk that filled up took the beginning of a line only: what comes next must not continue it."""

    def __call__(self, event: Plain) -> None:
        """Write one event."""
        data = self._render(event).encode("utf-8", "backslashreplace")
        if self._torn:
            data = b"\n" + data
        while data:
            try:
                written = os.write(self._fd, data)
            except BlockingIOError:
                # Whoever shares the terminal or pipe with us made it non-blocking.
                poll = select.poll()
                poll.register(self._fd, select.POLLOUT)
                poll.poll()
                continue
            data = data[written:]
            self._torn = bool(data)


def render_text(event: Plain) -> str:
    """Lines for people."""
    return "".join(f"{line}\n" for line in describe_event(event))


def render_json(event: Plain) -> str:
    """One JSON object on one line; names stay readable."""
    return json.dumps(event, ensure_ascii=False) + "\n"


def choose_sink(name: str) -> tuple[Sink, str]:
    """The sink of this name, and what is to be said about it: journald falls back to text where it cannot be had."""
    if name == "json":
        return Stream(STDOUT, render_json), ""
    text = Stream(STDERR, render_text)
    if name != "journal":
        return text, ""
    from oomd.outside.journal import JournalMissing, open_journal

    try:
        return open_journal(), ""
    except JournalMissing as error:
        return text, f"{error}; reporting as text"

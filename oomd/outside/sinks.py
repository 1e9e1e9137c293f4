"""Where events go: text and JSON lines to a descriptor, or journald."""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING

from oomd.outside.text import describe_event

if TYPE_CHECKING:
    from collections.abc import Callable

    from oomd.model.report import Plain

    Sink = Callable[[Plain], None]


def text_sink(event: Plain) -> None:
    """Lines for people, to standard error."""
    _write(2, "".join(f"{line}\n" for line in describe_event(event)))


def json_sink(event: Plain) -> None:
    """One JSON object a line, to standard output."""
    _write(1, json.dumps(event) + "\n")


def choose_sink(name: str) -> Sink:
    """The sink of this name; text where journald cannot be had, said once."""
    if name == "json":
        return json_sink
    if name == "journal":
        from oomd.outside.journal import JournalMissing, open_journal

        try:
            return open_journal()
        except JournalMissing as error:
            print(f"oomd: {error}; reporting as text", file=sys.stderr)
    return text_sink


def _write(fd: int, text: str) -> None:
    data = text.encode("utf-8", "backslashreplace")
    while data:
        data = data[os.write(fd, data) :]

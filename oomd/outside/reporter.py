"""Writes events in a thread of its own, with a bounded queue before it: a sink that blocks (a pipe that nobody reads, a
hung journald) fills the queue, events are dropped and counted, and nobody waits.
"""

from __future__ import annotations

import queue
import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from oomd.model.report import Plain
    from oomd.outside.sinks import Sink

MOST_QUEUED = 256
FLUSH_S = 2.0
"""How long the last events may take when the killer has ended."""


class Reporter:
    """Writes events in a thread of its own."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._queue: queue.Queue[Plain | None] = queue.Queue(MOST_QUEUED)
        # One writer each, so that no count is lost between the threads.
        self._refused = 0
        self._failed = 0
        self._told = 0
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    @property
    def dropped(self) -> int:
        """Events lost since the start: no room in the queue, or refused by the sink."""
        return self._refused + self._failed

    def put(self, event: Plain) -> None:
        """Queue it, or drop and count it."""
        try:
            self._queue.put_nowait(event)
        except queue.Full:
            self._refused += 1

    def finish(self) -> None:
        """Write what is queued, as long as that takes no longer than :data:`FLUSH_S`."""
        try:
            self._queue.put(None, timeout=FLUSH_S)
        except queue.Full:
            return
        self._thread.join(FLUSH_S)

    def _run(self) -> None:
        while (event := self._queue.get()) is not None:
            if not self._write(event):
                self._failed += 1
            elif self._queue.empty():
                self._tell_dropped()
        self._tell_dropped()

    def _tell_dropped(self) -> None:
        dropped = self.dropped
        if dropped > self._told and self._write(note(f"{dropped - self._told} reports were dropped")):
            self._told = dropped

    def _write(self, event: Plain) -> bool:
        try:
            try:
                self._sink(event)
            except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
                # A bug in how this event is told must neither be hidden nor silence the events after it.
                self._sink(note(f"a report that cannot be told ({error!r}): {event!r}"))
        except OSError:
            return False  # the sink is gone or full: the next event may fare better
        return True


def note(text: str) -> Plain:
    """An event of our own."""
    return {"event": "note", "time": time.time(), "text": text}

"""The outside process: ``python -m oomd.outside.main OPTIONS`` with one JSON argument.

Reading the link and writing the sink are two threads with a bounded queue between them: a sink that blocks (a pipe that
nobody reads, a hung journald) fills the queue, events are dropped and counted, and the killer never notices.
"""

from __future__ import annotations

import contextlib
import json
import marshal
import os
import queue
import signal
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

from oomd.config.compiled import to_plain
from oomd.config.loader import load_config
from oomd.kernel.tracefs import remove_instance
from oomd.model.config import Config
from oomd.outside.link import MOST_BYTES
from oomd.outside.logcat import divert_logcat
from oomd.outside.managed import start_listener
from oomd.outside.recorder import Recorder
from oomd.outside.sinks import choose_sink

if TYPE_CHECKING:
    from oomd.model.report import Plain
    from oomd.outside.sinks import Sink

MOST_QUEUED = 256
FLUSH_S = 2.0
"""How long the last events may take when the killer has ended."""
QUIET_KINDS = frozenset({"start", "stop"})
TAPE_KINDS = frozenset({"seen", "rules"})
"""What only a recording is made of."""


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
            except (LookupError, TypeError, ValueError, AttributeError) as error:
                # A bug in how this event is told must neither be hidden nor silence the events after it.
                self._sink(note(f"a report that cannot be told ({error!r}): {event!r}"))
        except OSError:
            return False  # the sink is gone or full: the next event may fare better
        return True


def note(text: str) -> Plain:
    """An event of our own."""
    return {"event": "note", "time": time.time(), "text": text}


def reload_answer(options: dict[str, Any]) -> Plain:
    """What the killer is told when it asks for the configuration anew."""
    loaded = load_config(options["config_path"], overrides=options["overrides"])
    if isinstance(loaded, Config):
        return {"command": "config", "plain": to_plain(loaded)}
    return {"command": "reload_failed", "problems": [str(problem) for problem in sorted(loaded)]}


def serve(link_fd: int, options: dict[str, Any], reporter: Reporter, recorder: Recorder | None = None) -> None:
    """Take events until the killer is gone."""
    while True:
        try:
            data = os.read(link_fd, MOST_BYTES)
        except OSError:
            return
        if not data:
            return
        event: Plain = marshal.loads(data)  # noqa: S302 - from the killer, over a socket pair that nobody else has
        if event["event"] == "reload_request":
            _answer(link_fd, reload_answer(options))
        elif event["event"] in TAPE_KINDS:
            if recorder is not None:
                recorder.put(event)
        elif not (options["quiet"] and event["event"] in QUIET_KINDS):
            reporter.put(event)


def _answer(link_fd: int, answer: Plain) -> None:
    size = len(marshal.dumps(answer))
    if size > MOST_BYTES // 2:
        problem = f"the configuration is too large for a reload ({size} bytes); restart instead"
        answer = {"command": "reload_failed", "problems": [problem]}
    send_command(link_fd, answer)


def send_command(link_fd: int, command: Plain) -> None:
    """One datagram to the killer; when it is gone, the next read of the link tells."""
    with contextlib.suppress(OSError):
        os.write(link_fd, marshal.dumps(command))


def main() -> None:
    """Serve the killer that started us; signals are the killer's business, the end of the link is our end."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    options = json.loads(sys.argv[1])
    sink, remark = choose_sink(options["format"])
    if options.get("lmkd_log"):
        sink = divert_logcat(sink, options["lmkd_log"])
    reporter = Reporter(sink)
    if remark:
        reporter.put(note(remark))
    link_fd = options["link_fd"]
    start_listener(options, lambda message: send_command(link_fd, message), lambda text: reporter.put(note(text)))
    recorder = None
    if options.get("record"):
        recorder = Recorder(options["record"], lambda text: reporter.put(note(text)))
    serve(link_fd, options, reporter, recorder)
    if recorder is not None:
        recorder.finish()
    if options["trace_instance"]:
        remove_instance(options["instances_fd"], options["trace_instance"])
    reporter.finish()
    os._exit(0)  # a sink that hangs must not keep us


if __name__ == "__main__":
    main()

"""``--record FILE``: keeps what the killer hands out, bounded, and writes it at every action, in a thread of its own.

The file is made beside its place and renamed into it, so that it is whole at every moment; a disk that hangs or is full
costs recordings, never reports or kills. What an earlier run has left there is kept as ``FILE.1``.
"""

from __future__ import annotations

import contextlib
import os
import queue
import threading
import time
from collections import deque
from typing import TYPE_CHECKING

from oomd.config.compiled import from_plain
from oomd.config.effective import to_yaml
from oomd.config.packed import inflate
from oomd.outside.plain import loads
from oomd.outside.recording import config_line, header_line, tick_line
from oomd.outside.replacement import OWN, replace_file

if TYPE_CHECKING:
    from collections.abc import Callable

    from oomd.model.report import Plain

MOST_BYTES = 8 << 20
"""The largest recording: hours of quiet, or the last few dozen kills."""
MOST_QUEUED = 256
FLUSH_S = 2.0


class Recorder:
    """Takes parts of the tape; the oldest are dropped when there are too many."""

    def __init__(self, path: str, complain: Callable[[str], None], *, most_bytes: int = MOST_BYTES) -> None:
        """``complain`` is told what cannot be written, once until it works again, and what was lost meanwhile."""
        self._path = path
        self._began = False
        self._config = ""
        """The rules that the first part begins with."""
        self._complain = complain
        self._most_bytes = most_bytes
        self._parts: deque[tuple[str, str]] = deque()
        """The text of each part, and the rules that it begins with (empty: as before)."""
        self._bytes = 0
        """Of all of them."""
        self._failed = False
        self._queue: queue.Queue[Plain | None] = queue.Queue(MOST_QUEUED)
        self.lost = 0
        """Parts that found no room, as the disk hung, or were too large; until that is told."""
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def put(self, event: Plain) -> None:
        """A part (``seen``) or the rules that hold from now on (``rules``); dropped while the disk hangs."""
        try:
            self._queue.put_nowait(event)
        except queue.Full:
            self.lost += 1

    def finish(self) -> None:
        """Write what is left, as long as that takes no longer than :data:`FLUSH_S`."""
        with contextlib.suppress(queue.Full):
            self._queue.put(None, timeout=FLUSH_S)
            self._thread.join(FLUSH_S)

    def _run(self) -> None:
        while (event := self._queue.get()) is not None:
            if event["event"] == "rules":
                self._keep("", to_yaml(from_plain(event["plain"])))
                continue
            try:
                ticks = ticks_of(event["packed"])
            except ValueError:
                self.lost += 1
                continue
            self._keep("".join(tick_line(tick) for tick in ticks), "")
            if event["last"]:
                self._write()

    def _keep(self, text: str, config: str) -> None:
        if not self._parts:
            self._config, config = config or self._config, ""
        self._parts.append((text, config))
        self._bytes += _size(text, config)
        while self._parts and self._bytes + len(self._header()) > self._most_bytes:
            dropped, rules = self._parts.popleft()
            self._bytes -= _size(dropped, rules)
            self._config = rules or self._config
            self.lost += not self._parts

    def _header(self) -> str:
        return header_line(self._config, written=round(time.time(), 3))

    def _write(self) -> None:
        if not self._began:
            with contextlib.suppress(OSError):
                os.replace(self._path, f"{self._path}.1")
            self._began = True
        header = self._header()
        lines = "".join(_config_lines(config) + text for text, config in self._parts)
        try:
            # It tells the names of everybody's processes.
            replace_file(self._path, (header + lines).encode(), OWN)
        except OSError as error:
            if not self._failed:
                self._complain(f"the recording {self._path} cannot be written: {error.strerror}")
            self._failed = True
        else:
            self._failed = False
            lost, self.lost = self.lost, 0
            if lost:
                self._complain(f"parts of the recording {self._path} were lost, as they found no room: {lost}")


def _config_lines(config: str) -> str:
    return config_line(config) if config else ""


def _size(text: str, config: str) -> int:
    """In bytes: JSON of ours is ASCII."""
    return len(text) + len(_config_lines(config))


def ticks_of(packed: bytes) -> list[Plain]:
    """The ticks of a part as the killer packed it. Raises ValueError for anything else."""
    ticks = loads(inflate(packed))
    if not isinstance(ticks, list):
        raise ValueError("no ticks in it")  # noqa: TRY004 - the bytes are wrong, not a type of ours
    return ticks

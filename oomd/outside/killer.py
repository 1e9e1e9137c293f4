"""The killer as the outside process sees it: events come from it, questions go to it, and it has things done here.

One thread reads the link and hands every event on; whoever listens must be quick, because what is not read in time
is lost. Requests are handled by threads of their own, as many side by side as there are, and answered in any case.
"""

from __future__ import annotations

import contextlib
import marshal
import os
import queue
import threading
import time
from typing import TYPE_CHECKING

from oomd.outside.link import MOST_BYTES
from oomd.outside.plain import loads

if TYPE_CHECKING:
    from collections.abc import Callable

    from oomd.model.report import Plain

    Handler = Callable[[Plain], Plain]
    """Takes a request (its ``patience_us`` says for how long anybody waits for the answer) and returns what to add to
    the answer: ``ok``, ``text`` and whatever else was agreed.
    """

HANDLERS = 4
"""Requests that are handled side by side."""
MOST_WAITING = 64
"""Requests that wait for a thread."""
BUGS = (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, OSError)
"""What is raised where an event is not as somebody expected."""
ANSWER_S = 2.0
"""How long a question waits for the killer, which may be busy killing."""


class Killer:
    """Our end of the link."""

    def __init__(self, link_fd: int) -> None:
        self._fd = link_fd
        self._listeners: list[Callable[[Plain], object]] = []
        self._handlers: dict[str, Handler] = {}
        self._requests: queue.Queue[tuple[Plain, float]] = queue.Queue(MOST_WAITING)
        self._lock = threading.Lock()
        self._asked: dict[int, tuple[float, Callable[[Plain], object]]] = {}
        """Until when, and who takes the answer."""
        self._last_question = 0

    def listen(self, listener: Callable[[Plain], object]) -> None:
        """Hear every event that is neither an answer nor a request. It must neither block nor raise."""
        self._listeners.append(listener)

    def handle(self, request: str, handler: Handler) -> None:
        """Have requests of this kind handled, in a thread that may block for as long as the request's patience."""
        self._handlers[request] = handler

    def send(self, command: Plain) -> bool:
        """One datagram; when the killer is gone the next read of the link tells. Whether it was sent."""
        data = marshal.dumps(command)
        if len(data) > MOST_BYTES:
            return False
        with contextlib.suppress(OSError):
            return os.write(self._fd, data) == len(data)
        return False

    def ask(self, command: str, timeout_s: float = ANSWER_S, **content: object) -> Plain | None:
        """Ask and wait for the answer; None when none came in time. Any thread but the one that reads the link."""
        box: queue.SimpleQueue[Plain] = queue.SimpleQueue()
        if not self.pose(command, box.put, timeout_s, **content):
            return None
        with contextlib.suppress(queue.Empty):
            return box.get(timeout=timeout_s)
        return None

    def pose(
        self, command: str, take: Callable[[Plain], object], timeout_s: float = ANSWER_S, **content: object
    ) -> bool:
        """Ask without waiting: ``take`` is called with the answer, at most once and hardly after ``timeout_s``, by the
        thread that reads the link, so it must neither block nor raise. False when the question could not be sent.
        """
        now_s = time.monotonic()
        with self._lock:
            for late in [number for number, (until_s, _) in self._asked.items() if until_s < now_s]:
                del self._asked[late]
            self._last_question += 1
            number = self._last_question
            self._asked[number] = (now_s + timeout_s, take)
        if self.send({"command": command, "number": number, **content}):
            return True
        with self._lock:
            self._asked.pop(number, None)
        return False

    def serve(self) -> None:
        """Take events until the killer is gone."""
        for number in range(HANDLERS):
            threading.Thread(target=self._work, name=f"request-{number}", daemon=True).start()
        while True:
            try:
                data = os.read(self._fd, MOST_BYTES)
            except OSError:
                return
            if not data:
                return
            self.take(data)

    def take(self, data: bytes) -> None:
        """One datagram; what is no event is left alone."""
        try:
            event = loads(data)
        except ValueError:
            return
        if isinstance(event, dict) and isinstance(event.get("event"), str):
            self._take(event)

    def _take(self, event: Plain) -> None:
        if event["event"] == "answer":
            with self._lock:
                asked = self._asked.pop(_number_of(event), None)
            if asked is not None:
                asked[1](event)
        elif event["event"] == "request":
            try:
                self._requests.put_nowait((event, time.monotonic()))
            except queue.Full:
                self._answer(event, {"ok": False, "text": "too many requests"})
        else:
            for listener in self._listeners:
                try:
                    listener(event)
                except BUGS as error:
                    # A bug of one who listens must neither be hidden nor end the process.
                    self._tell_bug(f"an event {event['event']!r} that cannot be taken: {error!r}")

    def _tell_bug(self, text: str) -> None:
        for listener in self._listeners:
            with contextlib.suppress(*BUGS):
                listener({"event": "note", "time": time.time(), "text": text})

    def _work(self) -> None:
        while True:
            event, came_s = self._requests.get()
            handler = self._handlers.get(str(event.get("request")))
            left_us = _number_of(event, "patience_us") - int((time.monotonic() - came_s) * 1e6)
            if handler is None:
                answer: Plain = {"ok": False, "text": f"nobody here knows {event.get('request')}"}
            elif left_us <= 0:
                answer = {"ok": False, "text": "it waited too long for its turn"}
            else:
                answer = _handled(handler, event | {"patience_us": left_us})
            self._answer(event, answer)

    def _answer(self, event: Plain, answer: Plain) -> None:
        self.send({"command": "answer", "number": _number_of(event), **answer})


def _number_of(event: Plain, key: str = "number") -> int:
    number = event.get(key)
    return number if isinstance(number, int) else 0


def _handled(handler: Handler, event: Plain) -> Plain:
    """The handler's answer; a bug in one costs its request, is told, and ends nobody."""
    try:
        return handler(event)
    except Exception as error:  # noqa: BLE001 - an answer is owed in any case
        return {"ok": False, "text": f"{event['request']} failed: {error!r}"}

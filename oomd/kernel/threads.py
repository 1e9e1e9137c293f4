"""Threads and semaphores of the interpreter's own parts: ``threading`` and what it imports (functools, collections)
would be half a mebibyte of the killer.
"""

from __future__ import annotations

from _queue import Empty, SimpleQueue
from _thread import allocate_lock, get_native_id, start_new_thread

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections import deque
    from collections.abc import Callable
else:
    from _collections import deque

__all__ = ["Empty", "Semaphore", "SimpleQueue", "Thread", "allocate_lock", "deque", "get_native_id"]


class Thread:
    """Calls ``target`` once it is started. Ends with the process, whatever it does."""

    def __init__(self, target: Callable[[], object], *, name: str) -> None:
        self.name = name
        self._target = target
        self._running = allocate_lock()
        self._alive = False
        self.native_id = 0
        """Its number in /proc/self/task, once it runs."""

    def start(self) -> None:
        """Once. Raises RuntimeError where the machine has no thread left."""
        self._running.acquire()
        self._alive = True
        try:
            start_new_thread(self._run, ())
        except RuntimeError:
            self._end()
            raise

    def join(self, timeout: float | None = None) -> None:
        """Wait for its end, at most so many seconds."""
        if self._running.acquire(timeout=-1 if timeout is None else timeout):
            self._running.release()

    def is_alive(self) -> bool:
        """Whether it was started and has not ended."""
        return self._alive

    def _run(self) -> None:
        self.native_id = get_native_id()
        try:
            self._target()
        finally:
            self._end()

    def _end(self) -> None:
        self._alive = False
        self._running.release()


class Semaphore:
    """So many may pass; each release lets one more."""

    def __init__(self, value: int) -> None:
        self._tokens: SimpleQueue[None] = SimpleQueue()
        for _ in range(value):
            self._tokens.put(None)

    def acquire(self, timeout: float | None = None) -> bool:
        """Pass, or wait for that at most so many seconds; whether it succeeded."""
        try:
            self._tokens.get(timeout=timeout)
        except Empty:
            return False
        return True

    def release(self) -> None:
        """Let one more pass."""
        self._tokens.put(None)

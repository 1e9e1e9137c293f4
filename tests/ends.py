"""What a test has opened or started ends with the test: for rigs that plain functions build, which have no end of their
own. Without it one run of all tests held one and a half thousand descriptors, and threads by the dozen.
"""

from __future__ import annotations

import os
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from oomd.kernel.threads import Thread

PATIENCE_S = 90.0
"""For the end of a thread."""
_ENDS: list[ExitStack] = []
"""Of the test that runs."""


class Closable(Protocol):
    """Whatever can be closed."""

    def close(self) -> object:
        """Let go of everything."""


class Started(Protocol):
    """Whatever reads in a thread of its own."""

    @property
    def _thread(self) -> Thread: ...

    def stop(self) -> None:
        """End the thread after the work in hand."""


Opened = TypeVar("Opened", bound="Closable | int")


@contextmanager
def ending() -> Iterator[None]:
    """The test: at its end, whatever became of it, the last that was opened is closed first."""
    with ExitStack() as stack:
        _ENDS.append(stack)
        try:
            yield
        finally:
            _ENDS.remove(stack)


def at_end(action: Callable[[], object]) -> None:
    """Do this when the test has ended."""
    _ENDS[-1].callback(action)


def until_end(opened: Opened) -> Opened:
    """The same, closed when the test has ended: a descriptor, or what has a ``close``."""
    at_end((lambda: os.close(opened)) if isinstance(opened, int) else opened.close)
    return opened


def stop_at_end(reader: Started) -> None:
    """Its thread is told to end when the test has ended, and waited for: what it reads is closed after it."""

    def end() -> None:
        reader.stop()
        if reader._thread.is_alive():
            reader._thread.join(PATIENCE_S)
        assert not reader._thread.is_alive(), reader._thread.name

    at_end(end)

"""The pressure triggers of the kernel that wake lmkd, one per level; Documentation/accounting/psi.rst."""

from __future__ import annotations

import os
import select

from oomd.kernel.psi import open_trigger
from oomd.lmkd.registry import WARNING
from oomd.model.units import MILLISECOND_US, SECOND_US

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable
    from typing import Protocol

    class Watches(Protocol):
        """Where descriptors are waited for."""

        def watch(self, fd: int, key: Hashable, events: int = ...) -> None:
            """Wake up when ``fd`` is ready."""

        def unwatch(self, fd: int) -> None:
            """Forget it."""


PRESSURE_FILE = "/proc/pressure/memory"
UNPRIVILEGED_WINDOW_US = 2 * SECOND_US
"""Without CAP_SYS_RESOURCE the kernel takes only windows of whole multiples of this."""


class Triggers:
    """Owns the descriptors."""

    def __init__(self, watches: Watches, key: str, say: Callable[[str, str], None], *, any_window: bool) -> None:
        """``key``: the first half of what the loop is woken with; the descriptor is the other. ``any_window``: we have
        CAP_SYS_RESOURCE.
        """
        self._watches = watches
        self._key = key
        self._say = say
        self._any_window = any_window
        self._levels: dict[int, int] = {}

    def __bool__(self) -> bool:
        return bool(self._levels)

    def open(self, wanted: Iterable[tuple[str, int, int]], window_ms: int) -> None:
        """Kind of stall, milliseconds of it per window, level. What the kernel does not take is told, and polled."""
        for kind, stall_ms, level in wanted:
            stall_us, window_us = fit_window(
                stall_ms * MILLISECOND_US, window_ms * MILLISECOND_US, any_window=self._any_window
            )
            try:
                fd = open_trigger(PRESSURE_FILE, kind, stall_us, window_us)
            except OSError as error:
                self._say(WARNING, f"no pressure trigger ({kind}: {error.strerror}); polling instead")
                continue
            self._levels[fd] = level
            self._watches.watch(fd, (self._key, fd), select.EPOLLPRI)

    def level_of(self, fd: int) -> int | None:
        """The level for which this descriptor stands; None when it is none of ours."""
        return self._levels.get(fd)

    def close(self) -> None:
        """Close all."""
        for fd in list(self._levels):
            self.drop(fd)

    def drop(self, fd: int) -> None:
        """Close one: it would be ready for ever."""
        del self._levels[fd]
        self._watches.unwatch(fd)
        os.close(fd)


def fit_window(stall_us: int, window_us: int, *, any_window: bool) -> tuple[int, int]:
    """The same share of stall in a window that the kernel lets us have."""
    if any_window or not window_us % UNPRIVILEGED_WINDOW_US:
        return stall_us, window_us
    longer = -(-window_us // UNPRIVILEGED_WINDOW_US) * UNPRIVILEGED_WINDOW_US
    return stall_us * longer // window_us, longer

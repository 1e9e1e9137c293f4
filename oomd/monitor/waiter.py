"""Wait: one epoll for everything that can wake the loop, and the time until something is due."""

from __future__ import annotations

import os
import select

from oomd.kernel.psi import open_trigger

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
    from collections.abc import Hashable, Iterable
else:
    import _signal as signal  # the C module alone: `signal` brings enum

LOST = select.EPOLLERR | select.EPOLLHUP
READABLE = select.EPOLLIN
PRESSURE = select.EPOLLPRI


class Waiter:
    """Descriptors by key. The keys of those that became ready come back; the descriptors stay their owners'."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._keys: dict[int, Hashable] = {}

    def watch(self, fd: int, key: Hashable, events: int = READABLE) -> None:
        """Wake up when ``fd`` is ready and answer with ``key``."""
        self._epoll.register(fd, events)
        self._keys[fd] = key

    def unwatch(self, fd: int) -> None:
        """Forget ``fd``, before it is closed."""
        if self._keys.pop(fd, None) is not None:
            self._epoll.unregister(fd)

    def wait_ready(self, timeout_us: int) -> list[tuple[Hashable, bool]]:
        """What became ready within ``timeout_us``, as (key, lost); lost says that the other end is gone."""
        events = self._epoll.poll(timeout_us / 1_000_000, 64)
        if not events:
            return []
        return [(self._keys[fd], bool(mask & LOST)) for fd, mask in events if fd in self._keys]

    def close(self) -> None:
        """Close the epoll; the descriptors stay their owners'."""
        self._epoll.close()


def watch_pressure(waiter: Waiter, path: str, *, any_window: bool) -> tuple[bool, list[str]]:
    """Wait for memory pressure too, by two triggers of the kernel (Documentation/accounting/psi.rst). Whether one was
    taken, and what was not, in words. ``any_window``: without CAP_SYS_RESOURCE the kernel takes only windows of whole
    multiples of 2 s.
    """
    window_us = 1_000_000 if any_window else 2_000_000
    opened, problems = False, []
    for kind, share in (("some", 10), ("full", 20)):
        try:
            fd = open_trigger(path, kind, window_us // share, window_us)
        except OSError as error:
            problems.append(f"{kind}: {error.strerror}")
            continue
        waiter.watch(fd, ("pressure", fd), PRESSURE)
        opened = True
    return opened, problems


class SignalPipe:
    """Signals as readable bytes: the interpreter's wake-up descriptor, so that no handler runs at a bad moment."""

    def __init__(self, signals: Iterable[int]) -> None:
        self.fd, self._write_fd = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(self._write_fd, warn_on_full_buffer=False)
        for number in signals:
            signal.signal(number, _ignore)

    def read_signals(self) -> bytes:
        """The numbers of the signals that arrived, one byte each."""
        try:
            return os.read(self.fd, 256)
        except BlockingIOError:
            return b""


def _ignore(number: int, frame: object) -> None:
    """A handler must exist for the wake-up byte to be written; it has nothing to do."""

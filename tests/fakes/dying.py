"""Processes on their way to the end, as process_mrelease and pidfd_send_signal of Linux 6.18 see them, without any."""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass

SIGKILL = 9
MOST_SIGNAL = 64


@dataclass
class FakeVictim:
    """One process behind a pidfd."""

    dying: bool = False
    has_memory: bool = True
    reaped: bool = False
    sharer_lives: bool = False
    dumps_core: bool = False
    held_times: int = 0
    """How often a part of it is held by a device yet."""
    of_thread: bool = False
    """The pidfd is one of a thread that is no leader (PIDFD_THREAD)."""
    foreign: bool = False
    """It belongs to somebody whom we may not signal."""


class FakeProcesses:
    """Stands in the place of the two system calls."""

    def __init__(self) -> None:
        self._victims: dict[int, FakeVictim] = {}

    def add(self, victim: FakeVictim) -> int:
        """Its pidfd."""
        pidfd = 1000 + len(self._victims)
        self._victims[pidfd] = victim
        return pidfd

    def process_mrelease(self, pidfd: int, flags: int = 0) -> None:
        """mm/oom_kill.c, SYSCALL_DEFINE2(process_mrelease)."""
        if flags:
            _fail(errno.EINVAL)
        victim = self._find(pidfd)
        if victim.of_thread or victim.reaped or not victim.has_memory:
            _fail(errno.ESRCH)
        if not victim.dying or victim.sharer_lives or victim.dumps_core:
            _fail(errno.EINVAL)
        if victim.held_times:
            victim.held_times -= 1
            _fail(errno.EAGAIN)

    def pidfd_send_signal(self, pidfd: int, number: int) -> None:
        """kernel/signal.c, SYSCALL_DEFINE4(pidfd_send_signal), without flags."""
        victim = self._find(pidfd)
        if not 0 <= number <= MOST_SIGNAL:
            _fail(errno.EINVAL)
        if victim.reaped:
            _fail(errno.ESRCH)
        if victim.foreign:
            _fail(errno.EPERM)
        if number == SIGKILL:
            victim.dying = True

    def _find(self, pidfd: int) -> FakeVictim:
        if pidfd not in self._victims:
            _fail(errno.EBADF)
        return self._victims[pidfd]


def _fail(number: int) -> None:
    raise OSError(number, os.strerror(number))

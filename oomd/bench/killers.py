"""The ways to kill that are compared: a bare SIGKILL, and oomd's own reaper with each backend."""

from __future__ import annotations

import os
import select
import signal
import time
from dataclasses import dataclass

from oomd.kernel.features import probe_features
from oomd.kernel.files import PAGE_BYTES
from oomd.kernel.scope import ScopeGuard
from oomd.kill.warrant import Gate, Refused
from oomd.model.scope import parse_scope
from oomd.monitor.rows import read_row
from oomd.monitor.selfcheck import narrowed_by_environment
from oomd.reap.backends import choose_reaper
from oomd.reap.pool import ReaperPool

TYPE_CHECKING = False
if TYPE_CHECKING:
    from oomd.model.decision import Warrant

PLAIN = "plain"
BACKENDS = (PLAIN, "mrelease", "expedite")


@dataclass(frozen=True, slots=True)
class Killed:
    """A kill that was begun."""

    begin_ns: int
    """CLOCK_MONOTONIC, just before the first signal."""
    dead_ns: int | None
    """When the last victim was dead; None when it was not in time."""
    reap_errno: int | None
    """Of the reap: 0, or the first errno other than that; None where nothing was reaped, or it was not done in time."""


class Killers:
    """Kills children of ours; the scope is our own tree within OOMD_SCOPE, and every victim needs a warrant."""

    def __init__(self, backends: tuple[str, ...]) -> None:
        """Raises ScopeError."""
        scope = narrowed_by_environment(parse_scope(f"tree:{os.getpid()}"))
        self._proc_fd = os.open("/proc", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        guard = ScopeGuard(scope, self._proc_fd)
        self._gate = Gate(guard, self._proc_fd, frozenset({os.getpid(), os.getppid()}))
        has = probe_features().process_mrelease
        self._pools = {
            name: ReaperPool(choose_reaper(name, kernel_has_mrelease=has)) for name in backends if name != PLAIN
        }
        for pool in self._pools.values():
            pool.start()

    def kill(self, backend: str, pids: list[int], limit_s: float) -> Killed:
        """Kill these at once and wait for their end, but no longer than ``limit_s``. Raises Refused."""
        warrants: list[Warrant] = []
        try:
            for pid in pids:
                warrants.append(self._grant(pid))  # noqa: PERF401 - those before a refusal are closed all the same
            return self._kill(backend, tuple(warrants), limit_s)
        finally:
            for warrant in warrants:
                os.close(warrant.pidfd)

    def close(self) -> None:
        """End the reapers."""
        for pool in self._pools.values():
            pool.close()
        os.close(self._proc_fd)

    def _kill(self, backend: str, warrants: tuple[Warrant, ...], limit_s: float) -> Killed:
        begin = time.monotonic_ns()
        if backend == PLAIN:
            for warrant in warrants:
                signal.pidfd_send_signal(warrant.pidfd, signal.SIGKILL)
        else:
            pool = self._pools[backend]
            pool.submit(warrants[0]) if len(warrants) == 1 else pool.kill_all(warrants)
        end = begin / 1e9 + limit_s
        dead = _wait_dead([warrant.pidfd for warrant in warrants], end)
        return Killed(begin, dead, self._errno_of(backend, warrants, end))

    def _grant(self, pid: int) -> Warrant:
        row = read_row(self._proc_fd, pid, PAGE_BYTES)
        if row is None:
            raise Refused("a victim has ended by itself")
        row.read_status(self._proc_fd)
        return self._gate.grant(row.value(0))

    def _errno_of(self, backend: str, warrants: tuple[Warrant, ...], end: float) -> int | None:
        if backend == PLAIN:
            return None
        pool = self._pools[backend]
        awaited, errnos = {warrant.id for warrant in warrants}, []
        while awaited and time.monotonic() < end + 1:
            if select.select([pool.fd], [], [], max(0.0, end + 1 - time.monotonic()))[0]:
                for result in pool.take_results():
                    if result.id in awaited:  # else it is late, of a victim that nobody waits for any more
                        awaited.discard(result.id)
                        errnos.append(result.reap_errno)
        return None if awaited else next((number for number in errnos if number), 0)


def _wait_dead(pidfds: list[int], end: float) -> int | None:
    """When the last of them was dead."""
    poll = select.poll()
    left = set(pidfds)
    for pidfd in pidfds:
        poll.register(pidfd, select.POLLIN)
    while left:
        ready = poll.poll(max(0.0, end - time.monotonic()) * 1000)
        if not ready:
            return None
        for pidfd, _ in ready:
            poll.unregister(pidfd)
            left.discard(pidfd)
    return time.monotonic_ns()

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
from oomd.kill.warrant import Gate
from oomd.model.scope import parse_scope
from oomd.monitor.rows import read_row
from oomd.reap.backends import choose_reaper
from oomd.reap.pool import ReaperPool

TYPE_CHECKING = False
if TYPE_CHECKING:
    from oomd.model.decision import ReapResult, Warrant

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
    """Kills children of ours; the scope is our own tree, and every victim needs a warrant."""

    def __init__(self, backends: tuple[str, ...]) -> None:
        self._proc_fd = os.open("/proc", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        guard = ScopeGuard(parse_scope(f"tree:{os.getpid()}"), self._proc_fd)
        self._gate = Gate(guard, self._proc_fd, frozenset({os.getpid(), os.getppid()}))
        has = probe_features().process_mrelease
        self._pools = {
            name: ReaperPool(choose_reaper(name, kernel_has_mrelease=has)) for name in backends if name != PLAIN
        }
        for pool in self._pools.values():
            pool.start()

    def kill(self, backend: str, pids: list[int], limit_s: float) -> Killed:
        """Kill these at once and wait for their end, but no longer than ``limit_s``. Raises Refused."""
        warrants = tuple(self._grant(pid) for pid in pids)
        try:
            begin = time.monotonic_ns()
            if backend == PLAIN:
                for warrant in warrants:
                    signal.pidfd_send_signal(warrant.pidfd, signal.SIGKILL)
            else:
                self._pools[backend].submit_all(warrants)
            end = begin / 1e9 + limit_s
            dead = _wait_dead([warrant.pidfd for warrant in warrants], end)
            return Killed(begin, dead, self._errno_of(backend, len(warrants), end))
        finally:
            for warrant in warrants:
                os.close(warrant.pidfd)

    def close(self) -> None:
        """End the reapers."""
        for pool in self._pools.values():
            pool.stop()
        os.close(self._proc_fd)

    def _grant(self, pid: int) -> Warrant:
        row = read_row(self._proc_fd, pid, PAGE_BYTES)
        assert row is not None, "a victim ended by itself"
        row.read_status(self._proc_fd)
        return self._gate.grant(row.value(0))

    def _errno_of(self, backend: str, count: int, end: float) -> int | None:
        if backend == PLAIN:
            return None
        pool = self._pools[backend]
        results: list[ReapResult] = []
        while len(results) < count and time.monotonic() < end + 1:
            if select.select([pool.fd], [], [], max(0.0, end + 1 - time.monotonic()))[0]:
                results += pool.take_results()
        if len(results) < count:
            return None
        return next((result.reap_errno for result in results if result.reap_errno), 0)


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

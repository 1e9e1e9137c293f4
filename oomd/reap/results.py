"""What the reaper threads have done, for whoever waits on an eventfd for it."""

from __future__ import annotations

import os
import time

from oomd.kernel.threads import deque
from oomd.model.decision import ReapResult

TYPE_CHECKING = False
if TYPE_CHECKING:
    from oomd.model.decision import Warrant


class Results:
    """Told by any thread, taken by one."""

    def __init__(self, backend: str) -> None:
        self.fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        """Readable as long as there are some."""
        self.realtime = False
        """Whether those that tell them have a real-time class."""
        self._backend = backend
        self._told: deque[ReapResult] = deque()

    def tell(self, result: ReapResult) -> None:
        """One more."""
        self._told.append(result)
        self.wake()

    def keep(self, result: ReapResult) -> None:
        """One more, of several; :meth:`wake` after the last."""
        self._told.append(result)

    def wake(self) -> None:
        """Wake whoever waits."""
        os.eventfd_write(self.fd, 1)

    def take(self) -> list[ReapResult]:
        """What was told since the last call."""
        try:
            os.eventfd_read(self.fd)
        except BlockingIOError:
            return []
        results = []
        while self._told:
            results.append(self._told.popleft())
        return results

    def close(self) -> None:
        """Close the eventfd."""
        os.close(self.fd)

    def make(
        self, warrant: Warrant, number: int, signal_errno: int, signal_us: int, reap_errno: int, reaped_bytes: int = 0
    ) -> ReapResult:
        """Of a victim that got this signal (0: none of ours) at ``signal_us``, and was reaped until now."""
        return ReapResult(
            id=warrant.id,
            signal=number,
            signal_errno=signal_errno,
            signal_us=signal_us,
            backend=self._backend,
            reap_errno=reap_errno,
            reap_us=time.monotonic_ns() // 1000 - signal_us,
            reaped_bytes=reaped_bytes,
            realtime=self.realtime,
        )

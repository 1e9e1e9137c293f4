"""What a look at memory costs on this machine, in CPU time of the loop's thread: it may look the less often for it."""

from __future__ import annotations

import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections import deque
else:
    from _collections import deque  # the C module alone

REMEMBERED = 8


class Effort:
    """The last looks that were no glances. One instance per loop."""

    def __init__(self) -> None:
        self.least_us = 0
        """The cheapest of the last ones: a scan now and then has an allowance of its own. 0 before the first."""
        self._costs: deque[int] = deque(maxlen=REMEMBERED)
        self._spent_us = 0

    def note(self) -> None:
        """A look is over; the time since the one before is what it took, whatever happened in between (one call of
        clock_gettime(2) with CLOCK_THREAD_CPUTIME_ID, which is no vDSO one).
        """
        spent_us = time.thread_time_ns() // 1000
        if self._spent_us:
            self._costs.append(spent_us - self._spent_us)
            self.least_us = min(self._costs)
        self._spent_us = spent_us

    def skip(self) -> None:
        """What follows is no look, or the first one after that: it does not count."""
        self._spent_us = 0

"""Kills in the proposal's way (oomd.reap.expedite): the signal now, by whoever asks, and one worker afterwards."""

from __future__ import annotations

import errno
import time

from oomd.kernel.sched import LOOP_PRIORITY, be_realtime
from oomd.model.values import dataclass
from oomd.reap.expedite import SS_EXPEDITE, Expedited, Expediter
from oomd.reap.motion import send

TYPE_CHECKING = False
if TYPE_CHECKING:
    from oomd.model.decision import Warrant
    from oomd.reap.expedite import ExpediteReaper
    from oomd.reap.results import Results

SIGKILL = 9


@dataclass(frozen=True, slots=True)
class _Sent:
    """What the expediter's worker must know of its victim."""

    warrant: Warrant
    sent_us: int


class ExpeditedKills:
    """The expediter and its worker, whose results are told."""

    def __init__(self, reaper: ExpediteReaper, results: Results) -> None:
        self._results = results
        self._expediter = Expediter(reaper, self._note)
        self._expediter.prepare = lambda: be_realtime(LOOP_PRIORITY)
        self.thread = self._expediter.thread
        self.start, self.stop = self._expediter.start, self._expediter.stop

    def kill(self, warrant: Warrant) -> tuple[int | None, bool]:
        """When it was signalled (CLOCK_MONOTONIC, microseconds; None: it was not), and whether its end is hastened."""
        sent_us = time.monotonic_ns() // 1000
        try:
            self._expediter.pidfd_send_signal(warrant.pidfd, SIGKILL, SS_EXPEDITE, tag=_Sent(warrant, sent_us))
        except OSError as error:
            # Not privileged: a plain SIGKILL is what is left, and says so.
            number = send(warrant.pidfd, SIGKILL) if error.errno == errno.EPERM else error.errno or errno.EIO
            self._results.tell(self._results.make(warrant, SIGKILL, number, sent_us, errno.EPERM))
            return None if number else sent_us, False
        return sent_us, True

    def _note(self, done: Expedited) -> None:
        assert isinstance(done.tag, _Sent)
        warrant, sent_us = done.tag.warrant, done.tag.sent_us
        bytes_ = warrant.expected_bytes if done.reap_errno == 0 else 0
        self._results.tell(self._results.make(warrant, SIGKILL, 0, sent_us, done.reap_errno, bytes_))

"""How the workers share what is left of a kill of many (:mod:`oomd.reap.crowd`)."""

from __future__ import annotations

import errno
import os
import time

from oomd.kernel.threads import get_native_id
from oomd.reap.crowd import Crowd
from oomd.reap.dying import NO_LIMIT
from oomd.reap.hindrance import let_go
from oomd.reap.motion import make_lift

TYPE_CHECKING = False
if TYPE_CHECKING:
    from oomd.model.decision import Warrant
    from oomd.reap.base import Reaper
    from oomd.reap.hindrance import Lifter
    from oomd.reap.results import Results
    from oomd.reap.urgency import Urgency
    from oomd.reap.workers import Workers


class Crowds:
    """Several victims of one kill, begun by whoever has signalled them, and reaped by the workers."""

    def __init__(
        self,
        reaper: Reaper,
        results: Results,
        workers: Workers,
        lifter: Lifter | None,
        urgency: Urgency,
        proc_fd: int,
        *,
        at_once: int,
    ) -> None:
        """``at_once``: how many workers share a crowd."""
        self._reaper = reaper
        self._results = results
        self._workers = workers
        self._lifter = lifter
        self._urgency = urgency
        self._proc_fd = proc_fd
        self._at_once = at_once

    def begin(self, warrants: list[Warrant], max_bytes: int = NO_LIMIT, *, watch: bool) -> None:
        """All are signalled: let workers reap them, until ``max_bytes`` are back. ``watch``: leave them alone as long
        as they get on by themselves.
        """
        victims = []
        for warrant in warrants:
            try:
                victims.append((warrant, os.dup(warrant.pidfd)))
            except OSError as error:  # no descriptor left: it ends by itself
                number = error.errno or errno.EIO
                self._results.tell(self._results.make(warrant, 0, 0, time.monotonic_ns() // 1000, number))
                continue
            if not watch:  # help costs more than it gives where nothing hinders: who is there at the end needs it
                let_go(make_lift(self._lifter, warrant, patient=not warrant.hindrances))
        when_done = self._lifter.hurry if self._lifter is not None else lambda: None
        crowd = Crowd(victims, self._proc_fd, max_bytes, when_done, watch=watch)
        self._share(crowd, 1 if watch else min(self._at_once, len(victims)))
        self._wake_lifter()

    def reap(self, crowd: Crowd) -> None:
        """By a worker: take the largest that nobody has taken, until none is left."""
        if crowd.watch:
            crowd.watch = False
            self._watch(crowd)
        tid = get_native_id()
        try:
            while (taken := crowd.take()) is not None:
                warrant, pidfd = taken
                begin_us = time.monotonic_ns() // 1000
                self._urgency.enter_next()
                try:
                    number, bytes_ = crowd.reap(self._reaper, pidfd)
                finally:
                    os.close(pidfd)
                self._results.keep(self._results.make(warrant, 0, 0, begin_us, number, bytes_))
        finally:
            self._urgency.leave(tid)
            self._results.wake()

    def _watch(self, crowd: Crowd) -> None:
        """Until they do not get on any more: who is still there is helped."""
        stuck = crowd.leave_alone()
        for warrant, pidfd in stuck:
            let_go(make_lift(self._lifter, warrant, pidfd))
        self._wake_lifter()
        self._share(crowd, min(self._at_once, len(stuck)) - 1)

    def _share(self, crowd: Crowd, workers: int) -> None:
        for _ in range(workers):
            self._workers.put(crowd)

    def _wake_lifter(self) -> None:
        if self._lifter is not None:
            self._lifter.wake()

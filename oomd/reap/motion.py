"""One victim's last signal and its memory back, as a worker of the pool is given it."""

from __future__ import annotations

import errno
from _thread import allocate_lock

from oomd.kernel.syscalls import pidfd_send_signal
from oomd.model.values import dataclass, field

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _thread import LockType
    from collections.abc import Callable

    from oomd.model.decision import Warrant
    from oomd.reap.hindrance import Lift, Lifter


@dataclass(slots=True)
class Motion:
    """What is asked, and how far it has come."""

    warrant: Warrant
    pidfd: int
    """A copy of our own: a number that its owner closes and that is given to another process's pidfd before the signal
    would kill that one."""
    signal: int
    """0: somebody else has sent it, and it is only reaped."""
    lift: Lift | None = None
    """Made by whoever asks: the worker has no time for it."""
    sent: list[int] = field(default_factory=list)
    """When it was signalled (CLOCK_MONOTONIC, microseconds), as soon as that is so."""
    signal_errno: int = 0
    """Of a signal that whoever asked has sent."""
    taken: LockType = field(default_factory=allocate_lock)
    """Held until a worker has signalled, or failed to."""
    sending: LockType = field(default_factory=allocate_lock)
    """Held while it is decided who sends the signal, and while whoever asked does."""
    ends: bool = False
    """It was signalled, and that is its end, as far as is known."""
    is_over: bool = False
    """It was signalled and reaped."""
    is_passed: bool = False
    """Another thread has gone on with what this one was at, which signals and reaps still, or has ended just now."""
    _unsent: bool = True

    def note_sent(self, sent_us: int) -> None:
        """It was signalled; whoever asked may go on."""
        self.sent.append(sent_us)
        self.let_go()

    def let_go(self) -> None:
        """Whoever asked has nothing more to wait for."""
        if self.taken.locked():
            self.taken.release()

    def pass_on(self, give: Callable[[], bool]) -> bool:
        """Whether that is settled: it is over, or ``give`` has somebody go on."""
        with self.sending:
            self.is_passed = self.is_passed or (not self.is_over and give())
            return self.is_over or self.is_passed

    def end(self) -> bool:
        """It is over; whether somebody has gone on."""
        with self.sending:
            self.is_over = True
            return self.is_passed

    def claim(self) -> bool:
        """Whether the caller, who holds :attr:`sending`, is the one who sends the signal: the first is."""
        ours, self._unsent = self._unsent, False
        return ours


def send(pidfd: int, number: int) -> int:
    """Signal it; the errno, 0 where that succeeded."""
    try:
        pidfd_send_signal(pidfd, number)
    except OSError as error:
        return error.errno or errno.EIO
    return 0


def make_lift(
    lifter: Lifter | None, warrant: Warrant, pidfd: int = -1, *, patient: bool = False, ahead: bool = False
) -> Lift | None:
    """Ready to be lifted as soon as ``let_go`` is called (:meth:`oomd.reap.hindrance.Lifter.prepare`); None where that
    is not the backend's to do, or no descriptor is left for it.
    """
    if lifter is None:
        return None
    try:
        return lifter.prepare(warrant.id.pid, warrant.pidfd if pidfd < 0 else pidfd, patient=patient, ahead=ahead)
    except OSError:
        return None

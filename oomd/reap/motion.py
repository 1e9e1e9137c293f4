"""One victim's last signal and its memory back, as a worker of the pool is given it."""

from __future__ import annotations

from _thread import allocate_lock

from oomd.model.values import dataclass, field

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _thread import LockType

    from oomd.model.decision import Warrant
    from oomd.reap.hindrance import Lift


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
    _unsent: bool = True

    def note_sent(self, sent_us: int) -> None:
        """It was signalled; whoever asked may go on."""
        self.sent.append(sent_us)
        self.let_go()

    def let_go(self) -> None:
        """Whoever asked has nothing more to wait for."""
        if self.taken.locked():
            self.taken.release()

    def claim(self) -> bool:
        """Whether the caller, who holds :attr:`sending`, is the one who sends the signal: the first is."""
        ours, self._unsent = self._unsent, False
        return ours

"""In which order the runs are made, and which of them count. Pure, and fixed before the first run.

The order: rounds, in each of which every victim meets every way to kill once, so that whatever the machine does
meanwhile happens to all of them. The reference is in every round, asked for or not.

The rule: a run is disturbed when the CPUs were more than a quarter busy in the quarter second after it (its own victims
are gone by then), when more memory came back than its victims had, or less than none, or when they were dead in time
and something is missing. A disturbed run is made again after all others. A pair of victim and way to kill gets at most
as many extra runs as it was to have runs; when those are used up, disturbed runs count like any other, and their number
is told.

Before a run the bench waits until the CPUs were less than 15 % busy for 200 ms; ten seconds at most, and over the whole
bench two seconds per run planned.
"""

from __future__ import annotations

from collections import Counter, deque

REFERENCE = ("running", "plain")
"""Victim and way to kill that the others are compared with: it is always run."""
MOST_BUSY = 0.25
"""Of all CPUs, just after a run."""
MOST_BACK = 1.06
"""More than this share of what the victims held never comes back: somebody else has let go of memory meanwhile…"""
LEAST_BACK = -0.06
"""… or has taken some…"""
LEAST_BACK_OF_DEAD = 0.94
"""… and what the dead held is free, if nobody has taken it."""
LONGEST_WAIT_S = 10.0
WAIT_PER_RUN_S = 2.0


def plan(victims: tuple[str, ...], backends: tuple[str, ...], repeat: int) -> list[tuple[str, str]]:
    """Every pair ``repeat`` times, interleaved."""
    pairs = [(victim, backend) for victim in victims for backend in backends]
    if REFERENCE not in pairs:
        pairs.insert(0, REFERENCE)
    return pairs * repeat


def is_disturbed(returned_share: float, busy_share: float, *, dead: bool) -> bool:
    """Whether somebody else did so much that the run says nothing."""
    least = LEAST_BACK_OF_DEAD if dead else LEAST_BACK
    return busy_share > MOST_BUSY or not least <= returned_share <= MOST_BACK


class Schedule:
    """The runs that are still to be made."""

    def __init__(self, victims: tuple[str, ...], backends: tuple[str, ...], repeat: int) -> None:
        self._queue = deque(plan(victims, backends, repeat))
        self._repeat = repeat
        self._extra: Counter[tuple[str, str]] = Counter()
        self._wait_s = WAIT_PER_RUN_S * len(self._queue)
        self.made_again = 0
        """Runs that were disturbed, and replaced."""
        self.kept = 0
        """Runs that were disturbed, and count all the same."""

    def take(self) -> tuple[str, str] | None:
        """Victim and way to kill of the next run; None when all were made."""
        return self._queue.popleft() if self._queue else None

    def skip(self, victim: str) -> None:
        """No more runs with this one."""
        self._queue = deque(pair for pair in self._queue if pair[0] != victim)

    def counts(self, pair: tuple[str, str], *, disturbed: bool) -> bool:
        """Whether this run counts; otherwise it is queued again."""
        if not disturbed:
            return True
        if self._extra[pair] >= self._repeat:
            self.kept += 1
            return True
        self._extra[pair] += 1
        self.made_again += 1
        self._queue.append(pair)
        return False

    def longest_wait_s(self) -> float:
        """How long the next run may wait for quiet."""
        return min(LONGEST_WAIT_S, self._wait_s)

    def note_wait(self, seconds: float) -> None:
        """How long it has waited."""
        self._wait_s = max(0.0, self._wait_s - seconds)

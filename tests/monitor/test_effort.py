"""What a look costs, by the real clock of this thread."""

from __future__ import annotations

import time

from oomd.monitor.effort import REMEMBERED, Effort


def work(effort: Effort, cpu_us: int) -> None:
    """A look that takes so much CPU time."""
    until = time.thread_time_ns() + 1000 * cpu_us
    while time.thread_time_ns() < until:
        pass
    effort.note()


def test_the_cheapest_of_the_last_looks() -> None:
    """Time spent waiting costs nothing; one dear look among cheap ones does not count, nothing but dear ones does."""
    effort = Effort()
    work(effort, 5000)
    assert effort.least_us == 0
    work(effort, 20_000)
    assert effort.least_us >= 20_000
    work(effort, 1000)
    assert 1000 <= effort.least_us < 20_000
    time.sleep(0.03)
    work(effort, 20_000)
    assert 1000 <= effort.least_us < 20_000
    for _ in range(REMEMBERED):
        work(effort, 20_000)
    assert effort.least_us >= 20_000


def test_what_is_no_look_does_not_count() -> None:
    """Nor does the first one after it."""
    effort = Effort()
    work(effort, 1000)
    work(effort, 20_000)
    assert effort.least_us >= 20_000
    effort.skip()
    work(effort, 100)
    assert effort.least_us >= 20_000
    work(effort, 1000)
    assert 1000 <= effort.least_us < 20_000

"""What the loop works with: built by the composition root, used by the loop and where its decisions are carried out."""

from __future__ import annotations

import time

from oomd.model.values import dataclass

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator

    from oomd.kill.executor import Aim, Executor
    from oomd.ladders import Ladders
    from oomd.model.report import Plain
    from oomd.monitor.facts import FactsReader
    from oomd.monitor.process_table import ProcessTable
    from oomd.monitor.sampler import Sampler
    from oomd.monitor.sharing import SharingMeter
    from oomd.monitor.tape import Tape
    from oomd.monitor.waiter import Waiter
    from oomd.monitor.watch import CgroupWatch


def clock_us() -> int:
    """CLOCK_MONOTONIC in microseconds."""
    return time.monotonic_ns() // 1000


UNLIMITED_US = 1 << 62


@dataclass(frozen=True, slots=True)
class Parts:
    """The loop's collaborators, built by the composition root."""

    waiter: Waiter
    sampler: Sampler
    table: ProcessTable
    sharing: SharingMeter
    executor: Executor
    on_event: Callable[[Hashable, bool], None]
    """Everything that wakes the loop and is not a victim, the reaper or memory pressure: signals, the outside,
    children.
    """
    report: Callable[[Plain], object]
    on_tick: Callable[[int], None]
    """Called at the end of every tick with its time: the watchdog is fed by real progress."""
    beside: Callable[[int], Iterator[Aim]] = lambda now_us: iter(())  # noqa: ARG005
    """Called before that: who else decides whom to kill, in the same thread (:mod:`oomd.android`)."""
    limit_bytes: int | None = None
    """The budget."""
    read_cgroup_usage: Callable[[], int] | None = None
    cgroup: str = ""
    triggers: bool = False
    """Whether pressure triggers wake the loop."""
    cgroups: CgroupWatch | None = None
    """None where no rule may look at cgroups."""
    longest_us: Callable[[], int] = lambda: UNLIMITED_US
    """How long the next full look may be put off as of now: requests to the outside have an end."""
    rhythm_us: int = UNLIMITED_US
    """The longest wait ever: the watchdog wants to be fed."""
    on_glance: Callable[[int], None] = lambda now_us: None  # noqa: ARG005
    """Called in the place of ``on_tick`` after a glance, where nothing was to be done."""
    floor_bytes: Callable[[], int | None] = lambda: None
    """With how much available memory nobody but the rules wants more than a glance; None: somebody does at any rate."""
    facts: FactsReader | None = None
    """Reads what only preferences ask for; None where nobody needs it."""
    ask: Callable[..., object] | None = None
    """Has the outside process do something (:meth:`oomd.companion.Companion.ask`); None where there is none."""
    ladders: Ladders | None = None
    """Carries gentle steps out; None where they are only told."""
    touches_lost: str = ""
    """Why not everybody's touches can be watched, should a rule ask for that; empty where they can."""
    tape: Tape | None = None
    """Where everything that was seen is kept for a recording; None where nobody records."""

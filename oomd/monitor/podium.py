"""Who leads: the largest processes that may be taken, and what is known of everybody behind them."""

from __future__ import annotations

from oomd.model.values import dataclass
from oomd.monitor.bound import Rise
from oomd.monitor.own_shmem import WORTH_BYTES as SHMEM_BYTES
from oomd.monitor.sharers import find_sharers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from oomd.monitor.bound import GrowthBound
    from oomd.monitor.census import Sizes
    from oomd.monitor.rows import Row

WORTH_BYTES = 1 << 20
"""Below this nobody's growth matters."""

LEADERS = 32
"""Processes with kept descriptors that may be taken: 6 KiB of kernel memory for each of two files, 0.4 MiB in all."""
SPARED = 16
"""Larger ones that may not, or only when nobody else is left: kept so that a report can name them."""
EXAMINED_SHARE = 20
"""Whoever is smaller than one part in so many of the largest goes first for no reason at all: a preferred process does
only from a tenth on."""
MOST_EXAMINED = 256
"""Of those behind the leaders, who are looked at for a preference at each scan."""

MOST_LEADING = 3 * LEADERS
"""So many are found one by one while somebody is sought; where there are more, who leads is chosen anew."""

SHARERS = 4
"""Beside them those with the most shared memory, which may be their own."""
MOST_MAPPING = 32
"""Of those who map much, who are asked how much of it is shared memory."""

PREFER, NORMAL = "prefer", "normal"
"""Who may stand first by size. Everybody else (avoided, omitted, protected) is spared as long as there are others."""


@dataclass(frozen=True, slots=True)
class Podium:
    """The outcome of one scan."""

    leaders: list[Row]
    """Largest first, those spared among them; preferred ones from behind last."""
    rest_bytes: int
    """The largest of everybody else."""
    unexamined_bytes: int
    """The largest of whom it is not known either that nothing prefers it."""


def judge_nothing(row: Row) -> str:  # noqa: ARG001 - where nothing is preferred
    """What is made of each process before there are rules."""
    return NORMAL


def choose_leaders(sizes: Sizes, admit: Callable[[int], Row | None], judge: Callable[[Row], str]) -> Podium:
    """The largest of everybody, and those with the most shared memory. ``admit`` reads the row (None: gone, or not to
    be taken ever), ``judge`` says what the preferences make of it.
    """
    podium = choose_largest(sizes.largest_first(), admit, judge)
    add_sharers(podium, sizes.sharers, admit)
    return podium


def choose_largest(
    sizes: Iterable[tuple[int, int]], admit: Callable[[int], Row | None], judge: Callable[[Row], str]
) -> Podium:
    """From pids and sizes, largest first. ``admit`` reads the row (None: gone, or not to be taken ever), ``judge`` says
    what the preferences make of it.
    """
    leaders: list[Row] = []
    able = spared = examined = preferred = best = rest = 0
    for pid, size in sizes:
        if able >= LEADERS:
            rest = rest or size
            if size * EXAMINED_SHARE < best or examined >= MOST_EXAMINED or preferred >= LEADERS:
                return Podium(leaders, rest, size)
            examined += 1
        row = admit(pid)
        if row is None:
            continue
        verdict = judge(row)
        if able >= LEADERS:
            if verdict == PREFER:
                leaders.append(row)
                preferred += 1
        elif verdict in (PREFER, NORMAL):
            leaders.append(row)
            able += 1
            best = max(best, row.size_bytes)
        elif spared < SPARED:
            leaders.append(row)
            spared += 1
    return Podium(leaders, rest, 0)


def add_sharers(podium: Podium, sharers: Iterable[tuple[int, int]], admit: Callable[[int], Row | None]) -> None:
    """Have those lead too who map the most shared memory (mapped bytes and pid of each)."""
    leading = {row.pid for row in podium.leaders}
    podium.leaders.extend(choose_sharers((each for each in sharers if each[1] not in leading), admit))


def choose_sharers(sharers: Iterable[tuple[int, int]], admit: Callable[[int], Row | None]) -> list[Row]:
    """Those with the most shared memory, of processes (mapped bytes and pid) that map much."""
    rows = (admit(pid) for _, pid in sorted(sharers, reverse=True)[:MOST_MAPPING])
    found = [row for row in rows if row is not None and row.shmem_bytes >= SHMEM_BYTES]
    return sorted(found, key=lambda row: -row.shmem_bytes)[:SHARERS]


def remember(rows: Iterable[Row], before: Mapping[int, int], read_us: int) -> None:
    """Have those of whom no past is known grow from what everybody's sizes of ``read_us`` say: who was not there then
    has grown from nothing.
    """
    for row in rows:
        if not row.history and row.exact and row.size_bytes >= WORTH_BYTES:
            size = before.get(row.pid, 0)
            row.history.begin(read_us, size, row.shmem_bytes if size else 0)


def lead(row: Row, leaders: list[Row], size_bytes: int, bound: GrowthBound) -> None:
    """One more leader. What it gains from this size on is its own, unless another leader has the same memory map: what
    two gain is gained once, and the second explains nothing.
    """
    row.rise = None if find_sharers(row, leaders) else Rise(size_bytes)
    bound.tell_apart((row,))
    leaders.append(row)


def begin_rises(leaders: list[Row], former: list[Row], bound: GrowthBound) -> None:
    """What each gains counts from here. Of those who led before it is known who shares its memory map."""
    for place, row in enumerate(leaders):
        if row not in former:
            row.rise = None if find_sharers(row, leaders[:place]) else Rise(row.size_bytes)
        elif row.rise is not None:
            row.rise = Rise(row.size_bytes)
    bound.leaders = leaders
    bound.tell_apart(leaders)


def largest_first(row: Row) -> tuple[int, int]:
    """The order of leaders."""
    return -row.size_bytes, row.pid

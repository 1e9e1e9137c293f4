"""Orders by one metric: a row each, of what is measured and how it is said."""

from __future__ import annotations

from oomd.model.ruleset import NOTHING, Wants
from oomd.model.values import dataclass
from oomd.policies.ranking import earlier_of, rank_by, total_bytes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from oomd.model.decision import Candidate
    from oomd.model.snapshot import Cgroup, Pressure, Snapshot
    from oomd.model.threshold import Threshold

RATE_WINDOW_US = 10_000_000
"""Over how long rates of cgroups are told."""


@dataclass(frozen=True, slots=True)
class Resident:
    """By memory in use, shared or not: what a list of processes shows. Of a cgroup: memory.current."""

    name = "resident"
    meaning = "by resident memory, shared or not (of a cgroup: memory.current)"
    by_size = False
    window_us = 0
    wants = NOTHING

    def rank(self, candidates: tuple[Candidate, ...], snapshot: Snapshot) -> tuple[Candidate, ...]:
        """Most resident first."""
        return rank_by(candidates, snapshot, _resident)

    def words(self) -> str:
        """The order as a sentence."""
        return "with the most resident memory"


@dataclass(frozen=True, slots=True)
class OomScore:
    """As the kernel chooses: resident memory, swap and page tables, and a thousandth of all memory and swap for each
    point of oom_score_adj (oom_badness() in mm/oom_kill.c). Of several processes the worst counts.
    """

    name = "oom_score"
    meaning = "as the kernel's own killer chooses (oom_badness())"
    by_size = False
    window_us = 0
    wants = NOTHING

    def rank(self, candidates: tuple[Candidate, ...], snapshot: Snapshot) -> tuple[Candidate, ...]:
        """Highest badness first."""
        total = total_bytes(snapshot.status)
        return rank_by(candidates, snapshot, lambda candidate: max(_badness(candidate, total)))

    def words(self) -> str:
        """The order as a sentence."""
        return "that the kernel's own killer would choose"


@dataclass(frozen=True, slots=True)
class Swap:
    """By swap in use. Whoever uses less than ``at_least`` comes after all that use as much, and is taken when nobody
    else is left.
    """

    at_least: Threshold | None = None
    name = "swap"
    meaning = "by swap in use"
    meanings = {"at_least": "who uses less than this share of all swap comes last"}
    by_size = False
    window_us = 0
    wants = NOTHING

    def rank(self, candidates: tuple[Candidate, ...], snapshot: Snapshot) -> tuple[Candidate, ...]:
        """Most swap first; below the floor by size."""
        floor = 1 if self.at_least is None else self.at_least.resolve_bytes(snapshot.status.swap_total_bytes)
        return rank_by(
            candidates, snapshot, lambda candidate: used if (used := swap_bytes(candidate)) >= floor else None
        )

    def words(self) -> str:
        """The order as a sentence."""
        return "with the most swap in use"


@dataclass(frozen=True, slots=True)
class PressureOrder:
    """By the stall of its cgroup: the mean of the kernel's averages over 10 s and 60 s."""

    resource: str = "memory"
    kind: str = "full"
    name = "pressure"
    meaning = "by the pressure in its cgroup (mean of avg10 and avg60)"
    meanings = {"resource": "what its tasks wait for", "kind": "full: all of them wait; some: at least one"}
    choices = {"resource": ("memory", "io", "cpu"), "kind": ("full", "some")}
    by_size = False
    window_us = 0

    @property
    def wants(self) -> Wants:
        """The pressure file of each cgroup."""
        return Wants(files=frozenset({f"{self.resource}.pressure"}))

    def rank(self, candidates: tuple[Candidate, ...], snapshot: Snapshot) -> tuple[Candidate, ...]:
        """Most stalled first, in hundredths of a per cent."""
        return rank_by(candidates, snapshot, self._stall)

    def words(self) -> str:
        """The order as a sentence."""
        return f"whose cgroup stalls most for {self.resource}"

    def _stall(self, candidate: Candidate) -> float | None:
        pressure: Pressure | None = getattr(candidate.cgroup, f"{self.resource}_pressure", None)
        line = None if pressure is None else pressure.full if self.kind == "full" else pressure.some
        return None if line is None else round((line.avg10 + line.avg60) / 2 * 10_000)


@dataclass(frozen=True, slots=True)
class PgscanRate:
    """By pages scanned for reclaim in its cgroup per second: who makes the kernel look hardest."""

    name = "pgscan"
    meaning = "by pages scanned for reclaim in its cgroup per second"
    by_size = False
    window_us = RATE_WINDOW_US
    wants = Wants(files=frozenset({"memory.stat"}))

    def rank(self, candidates: tuple[Candidate, ...], snapshot: Snapshot) -> tuple[Candidate, ...]:
        """Fastest first; who is seen for the first time has no rate, and its past is not held against it."""
        return rank_by(candidates, snapshot, lambda candidate: _rate(candidate, snapshot, lambda each: each.pgscan))

    def words(self) -> str:
        """The order as a sentence."""
        return "in whose cgroup the most pages are scanned for reclaim per second"


IO_COSTS = {
    "ssd": (1.21e-2, 6.25e-7, 1.07e-3, 2.61e-7, 2.37e-2, 9.10e-10),
    "hdd": (1.31e-3, 1.13e-7, 2.58e-1, 5.04e-7, 0.0, 0.0),
}
"""What a read, a byte read, a write, a byte written, a discard and a byte discarded cost: the models of Meta's oomd."""


@dataclass(frozen=True, slots=True)
class IoCost:
    """By what its cgroup's I/O costs the devices per second: operations and bytes of io.stat, weighed by a model."""

    device: str = "ssd"
    name = "io_cost"
    meaning = "by what the I/O of its cgroup costs per second"
    meanings = {"device": "the model of cost"}
    choices = {"device": ("ssd", "hdd")}
    by_size = False
    window_us = RATE_WINDOW_US
    wants = Wants(files=frozenset({"io.stat"}))

    def rank(self, candidates: tuple[Candidate, ...], snapshot: Snapshot) -> tuple[Candidate, ...]:
        """Dearest first, in thousandths."""
        return rank_by(candidates, snapshot, lambda candidate: _rate(candidate, snapshot, self._cost))

    def words(self) -> str:
        """The order as a sentence."""
        return f"whose cgroup's I/O costs most (as of {self.device})"

    def _cost(self, cgroup: Cgroup) -> float | None:
        if cgroup.io is None:
            return None
        read, read_byte, write, written_byte, discard, discarded_byte = IO_COSTS[self.device]
        return 1000 * sum(
            each.reads * read
            + each.read_bytes * read_byte
            + each.writes * write
            + each.written_bytes * written_byte
            + each.discards * discard
            + each.discarded_bytes * discarded_byte
            for each in cgroup.io
        )


@dataclass(frozen=True, slots=True)
class Youngest:
    """By start time: the least work is lost. Of several processes the oldest counts."""

    name = "youngest"
    meaning = "whoever started last; of what dies as one the oldest counts"
    by_size = False
    window_us = 0
    wants = NOTHING

    def rank(self, candidates: tuple[Candidate, ...], snapshot: Snapshot) -> tuple[Candidate, ...]:
        """Started last, first."""
        return rank_by(
            candidates, snapshot, lambda candidate: min(process.id.start_ticks for process in candidate.processes)
        )

    def words(self) -> str:
        """The order as a sentence."""
        return "that started last"


def _resident(candidate: Candidate) -> float:
    if candidate.kind == "cgroup" and candidate.cgroup is not None and candidate.cgroup.current_bytes is not None:
        return candidate.cgroup.current_bytes
    return sum(each.rss_anon_bytes + each.rss_file_bytes + each.rss_shmem_bytes for each in candidate.processes)


def _badness(candidate: Candidate, total: int) -> list[int]:
    return [
        each.size_bytes
        + each.rss_file_bytes
        + each.rss_shmem_bytes
        + each.page_tables_bytes
        + each.oom_score_adj * total // 1000
        for each in candidate.processes
    ]


def swap_bytes(candidate: Candidate) -> int:
    """The swap that it uses; of a cgroup what is charged to it."""
    if candidate.kind == "cgroup" and candidate.cgroup is not None and candidate.cgroup.swap_bytes is not None:
        return candidate.cgroup.swap_bytes
    return sum(process.swap_bytes for process in candidate.processes)


def _rate(candidate: Candidate, snapshot: Snapshot, measure: object) -> float | None:
    """How fast a counter of its cgroup rises, per second; None at the first look."""
    assert callable(measure)
    past = earlier_of(candidate.cgroup, snapshot)
    if past is None or candidate.cgroup is None or candidate.cgroup.time_us <= past.time_us:
        return None
    before, now = measure(past), measure(candidate.cgroup)
    if before is None or now is None:
        return None
    return float(max(0, now - before)) * 1_000_000 / (candidate.cgroup.time_us - past.time_us)

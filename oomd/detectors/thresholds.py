"""Detectors that compare one amount with a limit: a row each, of what they read and how they say it."""

from __future__ import annotations

from oomd.detectors.subjects import collect, present, unknown, verdict, words_of
from oomd.model.decision import Evidence
from oomd.model.globs import MACHINE, split_patterns
from oomd.model.ruleset import NOTHING, Wants
from oomd.model.units import SECOND_US, format_share, format_size, format_threshold
from oomd.model.values import dataclass

TYPE_CHECKING = False
if TYPE_CHECKING:
    from oomd.model.ruleset import View
    from oomd.model.snapshot import Cgroup, MemoryStatus
    from oomd.model.threshold import Threshold
    from oomd.model.units import Count, Percent, Rate, Share, Subject

MEMORY, HOLDS, NEVER = "memory", "holds", "never"
"""What ``swap_free`` says where there is no swap."""

LET_GO = 1.1
"""An alarm that holds ends only at this multiple of its limit: a little hysteresis, so that it does not flicker."""


@dataclass(frozen=True, slots=True)
class MemoryAvailable:
    """Available memory is below a limit. Shares are of MemAvailable + AnonPages, or of the budget."""

    below: Threshold
    name = "memory_available"
    meaning = "too little memory is available, counting what kills under way give back"
    meanings = {"below": "the limit; shares are of MemAvailable + AnonPages, or of the budget"}
    window_us = 0
    wants = NOTHING

    def detect(self, view: View, *, firing: bool) -> Evidence:
        """Compares what is available after credit."""
        limit = self.below.resolve_bytes(view.status.base_bytes)
        holds = view.available_bytes < (limit * LET_GO if firing else limit)
        text = f"{format_size(view.available_bytes)} available, {_limit(limit, self.below)}"
        return Evidence(self.name, holds, text, value=view.available_bytes, limit=limit, after_credit=True)

    def words(self) -> str:
        """The rule as a sentence."""
        return f"available memory is below {format_threshold(self.below)}"


@dataclass(frozen=True, slots=True)
class SwapFree:
    """Free swap is below a limit; with ``swapout_above`` only while the machine swaps out as fast as that. Without
    swap nothing delays the end, and available memory takes the place of free swap: a rule that asks for swap alone
    neither sleeps there for ever nor kills while there is plenty.
    """

    below: Threshold
    swapout_above: Rate | None = None
    over_us: int = 5 * SECOND_US
    swapless: str = MEMORY
    name = "swap_free"
    meaning = "too little swap is free"
    meanings = {
        "below": "the limit; shares are of all swap",
        "swapout_above": "and so much is swapped out per second",
        "over": "the window of that rate",
        "swapless": "without swap: memory (holds where available memory is below the limit), holds, or never",
    }
    choices = {"swapless": (MEMORY, HOLDS, NEVER)}
    ranges = {"over": (SECOND_US, 60 * SECOND_US)}

    @property
    def window_us(self) -> int:
        """How much history the rate needs."""
        return 0 if self.swapout_above is None else self.over_us

    @property
    def wants(self) -> Wants:
        """The counter of pages swapped out."""
        return NOTHING if self.swapout_above is None else Wants(details=frozenset({"counters"}))

    def detect(self, view: View, *, firing: bool) -> Evidence:
        """A budget counts swap as usage, so under it there is none."""
        if not view.status.has_swap:
            return self._swapless(view, firing=firing)
        limit = self.below.resolve_bytes(view.status.swap_total_bytes)
        holds = view.swap_free_bytes < (limit * LET_GO if firing else limit)
        text = f"{format_size(view.swap_free_bytes)} of swap free, {_limit(limit, self.below)}"
        if self.swapout_above is not None:
            rate = self._rate(view)
            holds = holds and rate is not None and rate >= self.swapout_above
            text += ", swapping out " + ("unknown" if rate is None else f"{format_size(int(rate))}/s")
        return Evidence(self.name, holds, text, value=view.swap_free_bytes, limit=limit, after_credit=True)

    def words(self) -> str:
        """The rule as a sentence."""
        instead = {MEMORY: ", or available memory where there is none", HOLDS: " (or there is none)", NEVER: ""}
        text = f"free swap is below {format_threshold(self.below)}{instead[self.swapless]}"
        if self.swapout_above is not None:
            text += f" and {format_size(self.swapout_above)}/s or more are swapped out"
        return text

    def _swapless(self, view: View, *, firing: bool) -> Evidence:
        if self.swapless != MEMORY:
            return Evidence(self.name, holds=self.swapless == HOLDS, text="no swap")
        limit = self.below.resolve_bytes(view.status.base_bytes)
        holds = view.available_bytes < (limit * LET_GO if firing else limit)
        text = "no swap" if holds else f"no swap, and {format_size(view.available_bytes)} of memory available instead"
        return Evidence(self.name, holds, text, value=view.available_bytes, limit=limit, after_credit=True)

    def _rate(self, view: View) -> float | None:
        """Bytes per second swapped out over the window; None at the first look."""
        found = collect(view, MACHINE, _swapped_out_bytes, unknown, self.over_us)
        if not found or not found[0].span_us:
            return None
        return found[0].rise * SECOND_US / max(found[0].span_us, SECOND_US)


@dataclass(frozen=True, slots=True)
class MemoryAbove:
    """Memory in use is above a limit."""

    above: Threshold
    kind: str = "total"
    of: Subject = MACHINE
    name = "memory_above"
    meaning = "a cgroup, or the machine, uses more memory than a limit"
    meanings = {
        "above": "the limit; shares are of all memory, or of the budget",
        "kind": "total: memory.current (of the machine: all but what is available); anon: anonymous memory",
        "of": "machine, or cgroups: /system.slice/*",
    }
    choices = {"kind": ("total", "anon")}
    window_us = 0

    @property
    def wants(self) -> Wants:
        """memory.current or memory.stat of its cgroups."""
        file = "memory.stat" if self.kind == "anon" else "memory.current"
        return Wants(cgroups=split_patterns(self.of), files=frozenset({file} if self.of != MACHINE else ()))

    def detect(self, view: View, *, firing: bool) -> Evidence:
        """Compares the largest with the limit."""
        budget = view.status.budget
        limit = self.above.resolve_bytes(view.status.mem_total_bytes if budget is None else budget.limit_bytes)
        return verdict(
            self.name,
            present(view, self.of, self._machine, self._cgroup),
            limit,
            lambda used: used > (limit / LET_GO if firing else limit),
            lambda used: f"{format_size(int(used))} of {self.kind} memory used, {_limit(limit, self.above)}",
            silence=f"{words_of(self.of)}: memory in use is not known",
        )

    def words(self) -> str:
        """The rule as a sentence."""
        return f"{self.kind} memory of {words_of(self.of)} is above {format_threshold(self.above)}"

    def _machine(self, status: MemoryStatus) -> float:
        if status.budget is not None:
            return status.budget.usage_bytes
        return status.anon_bytes if self.kind == "anon" else status.mem_total_bytes - status.available_bytes

    def _cgroup(self, cgroup: Cgroup) -> float | None:
        return cgroup.anon_bytes if self.kind == "anon" else cgroup.current_bytes


@dataclass(frozen=True, slots=True)
class Commit:
    """Promised memory is above a share of CommitLimit: with overcommit off, allocations are about to fail."""

    above: Percent = 0.95
    name = "commit"
    meaning = "more memory is promised to processes than a share of CommitLimit (proc_meminfo(5))"
    meanings = {"above": "Committed_AS as a share of CommitLimit; may exceed 100% where the kernel overcommits"}
    window_us = 0
    wants = NOTHING

    def detect(self, view: View, *, firing: bool) -> Evidence:
        """Compares Committed_AS."""
        limit = view.status.commit_limit_bytes
        if not limit:
            return Evidence(self.name, holds=False, text="CommitLimit is not known", limit=self.above)
        share = view.status.committed_bytes / limit
        text = f"{format_size(view.status.committed_bytes)} promised, {format_share(round(share, 3))} of CommitLimit"
        holds = share > (self.above / LET_GO if firing else self.above)
        return Evidence(self.name, holds, f"{text}, limit {format_share(self.above)}", value=share, limit=self.above)

    def words(self) -> str:
        """The rule as a sentence."""
        return f"promised memory (Committed_AS) is above {format_share(self.above)} of CommitLimit"


@dataclass(frozen=True, slots=True)
class SwapUtilisation:
    """Of all memory that could be swapped out, a share already is: what is left in memory is what is in use."""

    above: Share = 0.9
    name = "swap_utilisation"
    meaning = "most of what can be swapped out is swapped out"
    meanings = {"above": "swap in use as a share of anonymous memory, shared memory and swap in use"}
    window_us = 0
    wants = NOTHING

    def detect(self, view: View, *, firing: bool) -> Evidence:
        """Silent without swap."""
        status = view.status
        used = status.swap_total_bytes - status.swap_free_bytes
        whole = status.anon_bytes + status.shmem_bytes + used
        if not status.has_swap or not whole:
            return Evidence(self.name, holds=False, text="no swap", limit=self.above)
        share = used / whole
        text = f"{format_share(round(share, 3))} of what can be swapped out is, limit {format_share(self.above)}"
        holds = share > (self.above / LET_GO if firing else self.above)
        return Evidence(self.name, holds, text, value=share, limit=self.above)

    def words(self) -> str:
        """The rule as a sentence."""
        return f"more than {format_share(self.above)} of what can be swapped out is swapped out"


@dataclass(frozen=True, slots=True)
class ProcessCount:
    """There are more tasks than a limit: a fork bomb, or a cgroup near its pids.max."""

    above: Count
    of: Subject = MACHINE
    name = "process_count"
    meaning = "there are more processes and threads than a limit"
    meanings = {"above": "how many", "of": "machine (the kernel's own threads among them), or cgroups: pids.current"}
    window_us = 0

    @property
    def wants(self) -> Wants:
        """pids.current of its cgroups, or the machine's count of tasks."""
        if self.of == MACHINE:
            return Wants(details=frozenset({"tasks"}))
        return Wants(cgroups=split_patterns(self.of), files=frozenset({"pids.current"}))

    def detect(self, view: View, *, firing: bool) -> Evidence:
        """Compares the largest with the limit."""
        return verdict(
            self.name,
            present(view, self.of, lambda status: status.details.tasks, lambda cgroup: cgroup.pids),
            self.above,
            lambda count: count > (self.above / LET_GO if firing else self.above),
            lambda count: f"{count:.0f} tasks, limit {self.above}",
            silence=f"{words_of(self.of)}: the number of tasks is not known",
        )

    def words(self) -> str:
        """The rule as a sentence."""
        return f"{words_of(self.of)} has more than {self.above} tasks"


@dataclass(frozen=True, slots=True)
class DyingDescendants:
    """Removed cgroups that still hold memory are many, or few."""

    of: Subject = "/"
    above: Count | None = None
    at_most: Count | None = None
    name = "dying_descendants"
    meaning = "many (or few) cgroups below were removed and still hold memory"
    meanings = {
        "of": "cgroups: / counts the whole machine's",
        "above": "holds where there are more",
        "at_most": "holds where there are no more than this",
    }
    one_of = ("above", "at_most")
    window_us = 0

    @property
    def wants(self) -> Wants:
        """cgroup.stat of its cgroups."""
        return Wants(cgroups=split_patterns(self.of), files=frozenset({"cgroup.stat"}))

    def detect(self, view: View, *, firing: bool) -> Evidence:
        """Any of the cgroups suffices."""
        limit = self.above if self.above is not None else self.at_most or 0
        return verdict(
            self.name,
            present(view, self.of, unknown, lambda cgroup: cgroup.dying_descendants),
            limit,
            lambda count: count > limit if self.above is not None else count <= limit,
            lambda count: (
                f"{count:.0f} dying cgroups below, {'limit' if self.above is not None else 'at most'} {limit}"
            ),
            silence=f"{self.of}: dying cgroups are not known",
            least=self.above is None,
        )

    def words(self) -> str:
        """The rule as a sentence."""
        amount = f"more than {self.above}" if self.above is not None else f"at most {self.at_most}"
        return f"{amount} removed cgroups below {self.of} still hold memory"


def _swapped_out_bytes(status: MemoryStatus) -> float | None:
    counters = status.details.counters
    return None if counters is None else counters.pswpout * status.details.page_bytes


def _limit(limit_bytes: int, threshold: Threshold) -> str:
    return f"limit {format_size(limit_bytes)} ({format_threshold(threshold)})"

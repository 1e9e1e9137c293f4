"""Pressure: the share of time in which tasks stalled, over a window of our own or as the kernel averages it."""

from __future__ import annotations

from oomd.detectors.subjects import Series, collect, present, unknown, verdict, words_of
from oomd.model.decision import Evidence
from oomd.model.globs import MACHINE, split_patterns
from oomd.model.ruleset import Wants
from oomd.model.units import SECOND_US, format_duration, format_share
from oomd.model.values import dataclass

TYPE_CHECKING = False
if TYPE_CHECKING:
    from oomd.model.ruleset import View
    from oomd.model.snapshot import Cgroup, MemoryStatus, Pressure, PressureLine
    from oomd.model.units import NoCgroups, Share, Subject

LET_GO = 0.8
"""An alarm that holds ends only below this share of its limit."""

FULL_ENOUGH = 0.9
"""A history this close to the window's length counts as the whole window: ticks do not come to the microsecond."""

AT_ITS_LIMIT = 0.95
"""A cgroup that uses this share of its own memory.max reclaims from itself."""

_AVERAGES = {"10s": "avg10", "60s": "avg60", "300s": "avg300"}


@dataclass(frozen=True, slots=True)
class PressureShare:
    """Stall over the last ``over_us`` reached the share ``above``. From ``total=`` of the pressure file, which every
    read brings up to date; the averages beside it move every 2 s and lag by ten. Of several cgroups each has a window
    of its own.
    """

    above: Share
    over_us: int = 2 * SECOND_US
    kind: str = "full"
    """``full``: everything that could run stalled. ``some``: at least one task did."""
    resource: str = "memory"
    of: Subject = MACHINE
    avg: str = ""
    """``10s``, ``60s``, ``300s``: the kernel's own average instead of the window."""
    limited: NoCgroups = ""
    """Cgroups whose stall does not count as the machine's while they are at their own memory.max."""
    name = "pressure"
    meaning = "tasks stall for a resource for a share of the time (PSI)"
    meanings = {
        "above": "the share of time, reached or exceeded",
        "over": "the window, from the counter of stall; begins anew after a kill",
        "kind": "full: everything that could run stalls; some: at least one task does",
        "resource": "what tasks wait for",
        "of": "machine, or cgroups: /system.slice/*",
        "avg": "the kernel's average in the place of the window",
        "limited": "cgroups whose stall does not count while they are at their own memory.max",
    }
    choices = {"kind": ("full", "some"), "resource": ("memory", "io", "cpu"), "avg": ("10s", "60s", "300s")}
    ranges = {"over": (SECOND_US // 2, 10 * SECOND_US), "above": (0.01, 1.0)}
    """A share of nothing would always hold."""

    @property
    def window_us(self) -> int:
        """How much history it looks at."""
        return 0 if self.avg else self.over_us

    @property
    def wants(self) -> Wants:
        """The pressure files of its subject; the machine's memory stall is read at every tick anyway."""
        if self.of != MACHINE:
            return Wants(cgroups=split_patterns(self.of), files=frozenset({f"{self.resource}.pressure"}))
        plain = self.resource == "memory" and not self.avg
        details = frozenset() if plain else frozenset({f"{self.resource}_pressure"})
        if not self.limited:
            return Wants(details=details)
        files = frozenset({"memory.current", "memory.max", f"{self.resource}.pressure"})
        return Wants(details=details, cgroups=split_patterns(self.limited), files=files)

    def detect(self, view: View, *, firing: bool) -> Evidence:
        """Holds as soon as the stall collected suffices for the whole window, even if none followed."""
        if view.status.budget is not None and self.of == MACHINE:
            return self._silent("the machine's pressure does not count against a budget")
        if self.avg:
            return self._average(view, firing=firing)
        series = self._series(view)
        if not series:
            return self._silent(f"{self.resource} pressure is not known")
        if not view.history:
            return self._silent("no window yet")
        own_us, who = self._explained(view) if self.of == MACHINE and self.limited else (0.0, "")
        judged = [self._judge(each, firing=firing, own_us=own_us) for each in series]
        worst = max(judged, key=lambda each: each[1])
        cgroups = tuple(subject for subject, _, holds, _ in judged if holds and subject)
        text = self._say(worst[1], worst[3])
        if worst[0]:
            text = f"{worst[0]}: {text}"
        if who:
            text += f" without that of {who}, at its own memory.max,"
        return Evidence(
            self.name,
            any(holds for _, _, holds, _ in judged),
            f"{text}, limit {format_share(self.above)}",
            worst[1],
            self.above,
            worst[3],
            cgroups,
            after_credit=True,
        )

    def words(self) -> str:
        """The rule as a sentence."""
        subject = "" if self.of == MACHINE else f" of {words_of(self.of)}"
        window = f"on average of {self.avg}" if self.avg else f"over {format_duration(self.over_us)}"
        spared = f", without what {words_of(self.limited)} make at their own limits" if self.limited else ""
        return f"{self.resource} pressure ({self.kind}){subject} is {format_share(self.above)} or more {window}{spared}"

    def _explained(self, view: View) -> tuple[float, str]:
        """How long, in microseconds, cgroups stalled that were at their own limit, and the worst of them. At most so
        much of the machine's stall is theirs; what is nested counts once.
        """

        def stall(cgroup: Cgroup) -> float | None:
            used, most = cgroup.current_bytes, cgroup.max_bytes
            if used is None or not most or used < AT_ITS_LIMIT * most:
                return None
            pressure = pressure_of(cgroup, self.resource)
            return _of_line(None if pressure is None else pressure.some, "total_us")

        found = collect(view, self.limited, unknown, stall, self.over_us)
        paths = {each.subject for each in found}
        outermost = [each for each in found if not _lies_below_any(each.subject, paths)]
        stalled = [each for each in outermost if each.rise > 0]
        worst = max(stalled, key=lambda each: each.rise, default=None)
        return sum(each.rise for each in stalled), "" if worst is None else worst.subject

    def _judge(self, series: Series, *, firing: bool, own_us: float) -> tuple[str, float, bool, int]:
        span_us = series.span_us
        full = span_us >= FULL_ENOUGH * self.over_us
        share = max(0.0, series.rise - own_us) / max(span_us if full else self.over_us, 1)
        holds = share >= (self.above * LET_GO if firing and full else self.above)
        return series.subject, share, holds, span_us

    def _say(self, share: float, span_us: int) -> str:
        text = (
            f"{self.resource} pressure {self.kind} {format_share(round(share, 3))} over {format_duration(self.over_us)}"
        )
        if span_us < FULL_ENOUGH * self.over_us:
            text += f" (window not full yet: {format_duration(span_us)})"
        elif span_us > 2 * self.over_us:
            text += f" (no look for {format_duration(span_us)})"
        return text

    def _series(self, view: View) -> list[Series]:
        if self.of != MACHINE or self.resource != "memory":
            return collect(view, self.of, self._machine_total, self._cgroup_total, self.over_us)
        if not view.history:
            now = self._machine_total(view.status)
            return [] if now is None else [Series("", ((view.status.time_us, now),))]
        full = self.kind == "full"
        totals = [(sample.time_us, sample.full_us if full else sample.some_us) for sample in view.history]
        points = tuple((time, total) for time, total in totals if total is not None)
        return [Series("", points).since(self.over_us)] if points else []

    def _average(self, view: View, *, firing: bool) -> Evidence:
        field = _AVERAGES[self.avg]
        figures = present(
            view,
            self.of,
            lambda status: _of_line(self._line(self._machine(status)), field),
            lambda cgroup: _of_line(self._line(self._cgroup(cgroup)), field),
        )
        limit = self.above * LET_GO if firing else self.above
        return verdict(
            self.name,
            figures,
            self.above,
            lambda share: share >= limit,
            lambda share: (
                f"{self.resource} pressure {self.kind} {format_share(round(share, 4))} on average of {self.avg},"
                f" limit {format_share(self.above)}"
            ),
            silence=f"{self.resource} pressure is not known",
        )

    def _machine_total(self, status: MemoryStatus) -> float | None:
        if self.resource == "memory":
            return status.psi_full_us if self.kind == "full" else status.psi_some_us
        return _of_line(self._line(self._machine(status)), "total_us")

    def _cgroup_total(self, cgroup: Cgroup) -> float | None:
        return _of_line(self._line(self._cgroup(cgroup)), "total_us")

    def _machine(self, status: MemoryStatus) -> Pressure | None:
        return pressure_of(status.details, self.resource)

    def _cgroup(self, cgroup: Cgroup) -> Pressure | None:
        return pressure_of(cgroup, self.resource)

    def _line(self, pressure: Pressure | None) -> PressureLine | None:
        if pressure is None:
            return None
        return pressure.full if self.kind == "full" else pressure.some

    def _silent(self, text: str) -> Evidence:
        return Evidence(self.name, holds=False, text=text, limit=self.above, after_credit=True)


def _lies_below_any(path: str, paths: set[str]) -> bool:
    parts = path.split("/")
    return any("/".join(parts[:count]) in paths for count in range(2, len(parts)))


def pressure_of(source: object, resource: str) -> Pressure | None:
    """``memory_pressure``, ``io_pressure`` or ``cpu_pressure`` of details or of a cgroup."""
    pressure: Pressure | None = getattr(source, f"{resource}_pressure")
    return pressure


def _of_line(line: PressureLine | None, field: str) -> float | None:
    return None if line is None else float(getattr(line, field))

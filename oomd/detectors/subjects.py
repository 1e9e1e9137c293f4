"""What a detector looks at, the machine or each cgroup of a pattern, as figures over time."""

from __future__ import annotations

from oomd.model.decision import Evidence
from oomd.model.globs import MACHINE, matches_any, split_patterns
from oomd.model.values import dataclass

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from oomd.model.ruleset import Sample, View
    from oomd.model.snapshot import Cgroup, MemoryStatus

MOST_TOLD = 3
"""Cgroups that an evidence's text names."""


@dataclass(frozen=True, slots=True)
class Series:
    """One figure of one subject over time, oldest first, the present one last."""

    subject: str
    """The cgroup's path; empty for the machine."""
    points: tuple[tuple[int, float], ...]
    """Time in microseconds, and the figure."""

    def since(self, window_us: int) -> Series:
        """What lies in the last ``window_us``: from the newest point that is a whole window old, or the oldest."""
        begin = self.points[-1][0] - window_us
        for index in range(len(self.points) - 1, -1, -1):
            if self.points[index][0] <= begin:
                return Series(self.subject, self.points[index:])
        return self

    @property
    def span_us(self) -> int:
        """How much time it covers."""
        return self.points[-1][0] - self.points[0][0]

    @property
    def rise(self) -> float:
        """The last figure less the first."""
        return self.points[-1][1] - self.points[0][1]


def present(
    view: View,
    of: str,
    of_machine: Callable[[MemoryStatus], float | None],
    of_cgroup: Callable[[Cgroup], float | None],
) -> list[tuple[str, float]]:
    """The figure now, of each subject that has one."""
    return [(series.subject, series.points[-1][1]) for series in collect(view, of, of_machine, of_cgroup, 0)]


def collect(
    view: View,
    of: str,
    of_machine: Callable[[MemoryStatus], float | None],
    of_cgroup: Callable[[Cgroup], float | None],
    window_us: int,
) -> list[Series]:
    """The figure over the last ``window_us``, of each subject that has one now: from the newest point that is a whole
    window old, or the oldest. A cgroup made anew begins anew.
    """
    past = _window(view, window_us) if window_us else []
    if of == MACHINE:
        now = of_machine(view.status)
        points = [
            (sample.time_us, figure)
            for sample in past
            if sample.status is not None and (figure := of_machine(sample.status)) is not None
        ]
        return [] if now is None else [Series("", _ending_now(points, view.status.time_us, now))]
    patterns = split_patterns(of)
    figures: dict[tuple[str, int], list[tuple[int, float]]] = {}
    current = {}
    for cgroup in view.cgroups:
        figure = of_cgroup(cgroup) if matches_any(patterns, cgroup.path) else None
        if figure is not None:
            figures[cgroup.path, cgroup.inode] = []
            current[cgroup.path, cgroup.inode] = (cgroup.time_us, figure)
    looked: tuple[Cgroup, ...] = ()
    for sample in past:
        if sample.cgroups is looked:  # cgroups are read more seldom than the machine: nothing new
            continue
        looked = sample.cgroups
        for cgroup in looked:
            known = figures.get((cgroup.path, cgroup.inode))
            figure = None if known is None else of_cgroup(cgroup)
            if known is not None and figure is not None and (not known or known[-1][0] < cgroup.time_us):
                known.append((cgroup.time_us, figure))
    return [Series(key[0], _ending_now(figures[key], *current[key])) for key in figures]


def unknown(source: object) -> None:
    """The figure of a subject that a detector does not look at."""


def _window(view: View, window_us: int) -> list[Sample]:
    """The samples of the last ``window_us``, oldest first, with the one before them."""
    begin = view.status.time_us - window_us
    samples = []
    for sample in reversed(view.history):
        samples.append(sample)
        if sample.time_us <= begin:
            break
    return samples[::-1]


def verdict(
    name: str,
    figures: list[tuple[str, float]],
    limit: float,
    holds: Callable[[float], bool],
    say: Callable[[float], str],
    *,
    silence: str,
    least: bool = False,
    window_us: int | None = None,
) -> Evidence:
    """The evidence of the worst subject (the largest figure, or with ``least`` the smallest), and for which cgroups it
    holds. ``silence`` is the text where nothing has a figure.
    """
    if not figures:
        return Evidence(name, holds=False, text=silence, limit=limit)
    worst = (min if least else max)(figures, key=lambda each: each[1])
    held = tuple(subject for subject, figure in figures if holds(figure))
    text = say(worst[1])
    cgroups = tuple(subject for subject in held if subject)
    if worst[0]:
        text = f"{worst[0]}: {text}"
        if len(cgroups) > 1:
            text += f" (and {len(cgroups) - 1} more)"
    return Evidence(name, bool(held), text, value=worst[1], limit=limit, window_us=window_us, cgroups=cgroups)


def words_of(of: str) -> str:
    """The subject in a sentence."""
    return "the machine" if of == MACHINE else of.replace(",", " or ")


def _ending_now(points: list[tuple[int, float]], now_us: int, figure: float) -> tuple[tuple[int, float], ...]:
    if points and points[-1][0] >= now_us:
        points = points[:-1]
    return (*points, (now_us, figure))

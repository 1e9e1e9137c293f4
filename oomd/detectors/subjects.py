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
_Key = tuple[str, int]
_known: dict[int, tuple[tuple[Cgroup, ...], dict[str, dict[_Key, Cgroup]]]] = {}
"""Looks at cgroups by their identity, each with those that fit an option's text."""


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
    looked: list[dict[_Key, Cgroup]] = []
    last: tuple[Cgroup, ...] = ()
    for sample in past:
        if sample.cgroups is not last:  # cgroups are read more seldom than the machine
            last = sample.cgroups
            looked.append(_fitting(view, last, of))
    found = []
    for key, cgroup in _fitting(view, view.cgroups, of).items():
        figure = of_cgroup(cgroup)
        if figure is not None:
            points = _figures([each[key] for each in looked if key in each], of_cgroup)
            found.append(Series(cgroup.path, _ending_now(points, cgroup.time_us, figure)))
    return found


def _figures(past: list[Cgroup], of_cgroup: Callable[[Cgroup], float | None]) -> list[tuple[int, float]]:
    points: list[tuple[int, float]] = []
    for cgroup in past:
        if not points or points[-1][0] < cgroup.time_us:
            figure = of_cgroup(cgroup)
            if figure is not None:
                points.append((cgroup.time_us, figure))
    return points


def _fitting(view: View, cgroups: tuple[Cgroup, ...], of: str) -> dict[_Key, Cgroup]:
    """Those of one look that fit the patterns, by path and inode. The same look is asked about at many ticks and by
    many detectors: the answer is kept as long as the engine remembers the look.
    """
    known = _known.get(id(cgroups))
    if known is None or known[0] is not cgroups:
        remembered = {id(view.cgroups), *(id(sample.cgroups) for sample in view.history)}
        for each in [each for each in _known if each not in remembered]:
            del _known[each]
        known = _known[id(cgroups)] = (cgroups, {})
    found = known[1].get(of)
    if found is None:
        patterns = split_patterns(of)
        found = {(each.path, each.inode): each for each in cgroups if matches_any(patterns, each.path)}
        known[1][of] = found
    return found


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

"""Pressure that has been high for a while and does not fall."""

from __future__ import annotations

from oomd.detectors.pressure import pressure_of
from oomd.detectors.subjects import Series, collect, words_of
from oomd.model.decision import Evidence
from oomd.model.globs import MACHINE, split_patterns
from oomd.model.ruleset import Wants
from oomd.model.units import SECOND_US, format_share
from oomd.model.values import dataclass

TYPE_CHECKING = False
if TYPE_CHECKING:
    from oomd.model.ruleset import View
    from oomd.model.snapshot import Pressure
    from oomd.model.units import Share, Subject

STEP_US = 2 * SECOND_US
"""The kernel brings its averages up to date every 2 s (psi.rst): nearer together they say the same."""


@dataclass(frozen=True, slots=True)
class PressureRising:
    """The averages over 60 s and over 10 s are above a limit, and the shorter does not fall fast: the trouble is not
    over already. Each cgroup is compared with itself.
    """

    above: Share
    kind: str = "full"
    resource: str = "memory"
    of: Subject = MACHINE
    fall: Share = 0.85
    name = "pressure_rising"
    meaning = "pressure was high for a minute, is high now, and does not fall fast (PSI averages)"
    meanings = {
        "above": "what the averages over 60 s and over 10 s must exceed",
        "kind": "full: everything that could run stalls; some: at least one task does",
        "resource": "what tasks wait for",
        "of": "machine, or cgroups: /system.slice/*",
        "fall": "avg10 below this share of what it was 2 s before is a fast fall",
    }
    choices = {"kind": ("full", "some"), "resource": ("memory", "io", "cpu")}
    window_us = STEP_US

    @property
    def wants(self) -> Wants:
        """The pressure files of its subject."""
        if self.of == MACHINE:
            return Wants(details=frozenset({f"{self.resource}_pressure"}))
        return Wants(cgroups=split_patterns(self.of), files=frozenset({f"{self.resource}.pressure"}))

    def detect(self, view: View, *, firing: bool) -> Evidence:
        """Needs two looks, 2 s apart: the first tells no direction."""
        if view.status.budget is not None and self.of == MACHINE:
            return self._answer((), "the machine's pressure does not count against a budget")
        slow = {series.subject: series.points[-1][1] for series in self._collect(view, "avg60")}
        found = self._collect(view, "avg10")
        if not found:
            return self._answer((), f"{self.resource} pressure is not known")
        held = tuple(series.subject for series in found if self._holds(series, slow.get(series.subject, 0.0)))
        worst = max(found, key=lambda series: (series.subject in held, series.points[-1][1]))
        now = worst.points[-1][1]
        text = (
            f"{self.resource} pressure {self.kind} {format_share(now)} over 10s and"
            f" {format_share(slow.get(worst.subject, 0.0))} over 60s, limit {format_share(self.above)}"
        )
        if worst.span_us < STEP_US:
            text += " (not known yet whether it falls)"
        return self._answer(held, f"{worst.subject}: {text}" if worst.subject else text, now)

    def words(self) -> str:
        """The rule as a sentence."""
        subject = "" if self.of == MACHINE else f" of {words_of(self.of)}"
        return f"{self.resource} pressure ({self.kind}){subject} is above {format_share(self.above)} and does not fall"

    def _holds(self, series: Series, slow: float) -> bool:
        now, before = series.points[-1][1], series.points[0][1]
        known = series.span_us >= STEP_US
        return known and slow > self.above and now > self.above and now >= before * self.fall

    def _collect(self, view: View, field: str) -> list[Series]:
        def figure(source: object) -> float | None:
            return _average(pressure_of(source, self.resource), self.kind, field)

        return collect(view, self.of, lambda status: figure(status.details), figure, STEP_US)

    def _answer(self, held: tuple[str, ...], text: str, value: float | None = None) -> Evidence:
        cgroups = tuple(subject for subject in held if subject)
        return Evidence(self.name, bool(held), text, value=value, limit=self.above, cgroups=cgroups)


def _average(pressure: Pressure | None, kind: str, field: str) -> float | None:
    line = None if pressure is None else pressure.full if kind == "full" else pressure.some
    return None if line is None else float(getattr(line, field))

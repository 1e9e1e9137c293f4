"""Figures as plain values: a number or the buckets of a histogram for each set of labels of each metric."""

from __future__ import annotations

from oomd.outside.metrics.catalogue import BY_NAME

Labels = tuple[str, ...]
Buckets = list[float]
"""How many in each bucket (not summed up), the last above every bound; then their sum."""

OTHER = "other"
MOST_SERIES = 256
"""Sets of labels of one metric; whatever comes after them counts as ``other``."""
MOST_LABEL = 128
"""Characters of a label's text."""


class Samples:
    """All series; not for several threads at once."""

    def __init__(self) -> None:
        self.numbers: dict[str, dict[Labels, float]] = {}
        self.buckets: dict[str, dict[Labels, Buckets]] = {}

    def put(self, name: str, value: float, *labels: str) -> None:
        """Set a series."""
        series = self.numbers.setdefault(name, {})
        series[_bounded(series, labels)] = value

    def add(self, name: str, by: float, *labels: str) -> None:
        """Add to a series, which begins at 0."""
        series = self.numbers.setdefault(name, {})
        key = _bounded(series, labels)
        series[key] = series.get(key, 0) + by

    def observe(self, name: str, value: float, *labels: str) -> None:
        """Count a value in the first bucket whose bound it does not exceed."""
        bounds = BY_NAME[name].bounds
        series = self.buckets.setdefault(name, {})
        key = _bounded(series, labels)
        counts = series.setdefault(key, [0] * (len(bounds) + 1) + [0.0])
        counts[next((place for place, bound in enumerate(bounds) if value <= bound), len(bounds))] += 1
        counts[-1] += value

    def begin(self, name: str, *labels: str) -> None:
        """A histogram that has seen nothing yet."""
        self.buckets.setdefault(name, {})[labels] = [0] * (len(BY_NAME[name].bounds) + 1) + [0.0]

    def update(self, other: Samples) -> None:
        """Take all of another's series in the place of ours under the same names."""
        for name, series in other.numbers.items():
            self.numbers[name] = dict(series)
        for name, counts in other.buckets.items():
            self.buckets[name] = {labels: list(each) for labels, each in counts.items()}


def clean(text: object) -> str:
    """A label's text: never without a bound, always UTF-8."""
    words = str(text)[:MOST_LABEL]
    return words.encode("utf-8", "backslashreplace").decode("utf-8")


def _bounded(series: dict[Labels, float] | dict[Labels, Buckets], labels: Labels) -> Labels:
    key = tuple(clean(each) for each in labels)
    return key if key in series or len(series) < MOST_SERIES else (OTHER,) * len(key)

"""The figures in Prometheus' formats. The only module that knows prometheus_client."""

from __future__ import annotations

import gzip
import itertools
import threading
import time
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import choose_encoder, generate_latest, gzip_accepted

from oomd.outside.metrics.catalogue import COUNTER, FAMILIES, HISTOGRAM

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from prometheus_client.core import Metric

    from oomd.outside.metrics.catalogue import Family
    from oomd.outside.metrics.samples import Samples

FRESH_S = 0.5
"""How long an answer is given again as it was: a flood of requests costs no more than a few scrapes."""


class Exposition:
    """Renders what ``take`` gives. Any thread may use it."""

    def __init__(self, take: Callable[[], Samples]) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(_Source(take))
        self._lock = threading.Lock()
        self._made: dict[tuple[str, bool], tuple[float, bytes]] = {}

    def render(self, accept: str = "", accept_encoding: str = "") -> tuple[bytes, str, bool]:
        """The body, its content type, and whether it is compressed; as two headers of the request ask for it."""
        try:
            encode, content_type = choose_encoder(accept)
        except (ValueError, TypeError, LookupError):  # a version that is no number, or worse
            encode, content_type = choose_encoder("")
        key = (content_type, bool(gzip_accepted(accept_encoding)))
        with self._lock:
            now_s = time.monotonic()
            # The formats are few, whatever a client says; old answers go all the same.
            self._made = {each: made for each, made in self._made.items() if now_s - made[0] < FRESH_S}
            if key not in self._made:
                body = encode(self._registry)
                self._made[key] = (time.monotonic(), gzip.compress(body, 5) if key[1] else body)
            return self._made[key][1], content_type, key[1]

    def text(self) -> bytes:
        """The text format that every reader of files knows, as of now."""
        return generate_latest(self._registry)


class _Source:
    """What the registry asks."""

    def __init__(self, take: Callable[[], Samples]) -> None:
        self._take = take

    def describe(self) -> Iterable[Metric]:
        """Every family, without series."""
        return [_empty(family) for family in FAMILIES]

    def collect(self) -> Iterable[Metric]:
        """Every family that has series now."""
        samples = self._take()
        for family in FAMILIES:
            metric = _empty(family)
            if isinstance(metric, HistogramMetricFamily):
                for labels, counts in sorted(samples.buckets.get(family.name, {}).items()):
                    metric.add_metric(labels, _summed_up(family, counts), counts[-1])
            else:
                for labels, value in sorted(samples.numbers.get(family.name, {}).items()):
                    metric.add_metric(labels, float(value))
            if metric.samples:
                yield metric


def _empty(family: Family) -> CounterMetricFamily | GaugeMetricFamily | HistogramMetricFamily:
    if family.kind == HISTOGRAM:
        return HistogramMetricFamily(family.name, family.meaning, labels=family.labels)
    if family.kind == COUNTER:
        return CounterMetricFamily(family.name, family.meaning, labels=family.labels)
    return GaugeMetricFamily(family.name, family.meaning, labels=family.labels)


def _summed_up(family: Family, counts: list[float]) -> list[tuple[str, float]]:
    bounds = [*map(str, family.bounds), "+Inf"]
    return list(zip(bounds, itertools.accumulate(counts[:-1]), strict=True))

"""Everything that is told at one moment: what was counted, and what is read when somebody asks."""

from __future__ import annotations

import platform
import threading
import time
from typing import TYPE_CHECKING

from oomd import __version__
from oomd.outside.metrics.counts import KILLED, Counts
from oomd.outside.metrics.processes import Processes
from oomd.outside.metrics.samples import Samples, clean
from oomd.outside.metrics.standing import ruleset_names, standing_samples

if TYPE_CHECKING:
    from collections.abc import Callable

    from oomd.model.report import Plain

FRESH_S = 1.0
"""The killer is asked at most once in so long, however often somebody scrapes."""
ANSWER_S = 0.5
"""It answers after its next look at memory, within milliseconds; a scrape must not wait for one that hangs."""
_NEVER = -FRESH_S


class Figures:
    """Any thread may use it."""

    def __init__(
        self, ask: Callable[[], Plain | None], page: Plain | None = None, dropped: Callable[[], int] = lambda: 0
    ) -> None:
        """``ask``: the killer's answer to ``status``, or None where none came in time. ``page``: what the last outside
        process left. ``dropped``: reports that our own sink did not take.
        """
        self._ask = ask
        self._dropped = dropped
        self._lock = threading.Lock()
        self._asking = threading.Lock()
        self._counts = Counts(page)
        self._counts.samples.add("oomd_outside_starts_total", 1)
        self._dropped_before = self._counts.samples.numbers.get("oomd_reports_dropped_total", {}).get(("sink",), 0)
        self._processes = Processes()
        self._standing = Samples()
        self._rulesets: tuple[str, ...] = ()
        self._asked_s = _NEVER

    def note(self, event: Plain) -> bool:
        """Count a report; whether it was one that counts."""
        with self._lock:
            return self._counts.note(event)

    def add(self, name: str, by: float, *labels: str) -> None:
        """Count something of our own."""
        with self._lock:
            self._counts.samples.add(name, by, *labels)

    def name_pods(self, names: Callable[[str, str], Plain]) -> None:
        """Find the names of those that have none yet; it may read folders, so not for the thread of the link."""
        with self._lock:
            nameless = [key for key in self._counts.containers if key[0] and key not in self._counts.names]
        for key in nameless:
            found = names(key[0], key[1])
            if "pod_name" not in found:
                continue
            labels = tuple(clean(found.get(name, "")) for name in ("namespace", "pod_name", "container_name"))
            with self._lock:
                if key in self._counts.containers:
                    self._counts.names[key] = labels

    def page(self) -> Plain:
        """What the next outside process goes on with; plain values of its own."""
        with self._lock:
            self._count_dropped()
            copied = Samples()
            copied.update(self._counts.samples)
            return {
                **self._counts.page(),
                "numbers": copied.numbers,
                "buckets": copied.buckets,
                "containers": dict(self._counts.containers),
                "names": dict(self._counts.names),
            }

    def take(self, *, last: bool = False) -> Samples:
        """All figures as of now. ``last``: the killer has ended, and is not asked any more."""
        with self._asking:
            if last:
                self._standing, self._asked_s = _absent(), time.monotonic()
            elif time.monotonic() - self._asked_s >= FRESH_S:
                self._look()
        samples = self._processes.samples()
        with self._lock:
            self._count_dropped()
            samples.update(self._zeros())
            for name, series in self._counts.samples.numbers.items():
                samples.numbers.setdefault(name, {}).update(series)
            for name, counts in self._counts.samples.buckets.items():
                samples.buckets.setdefault(name, {}).update({labels: [*each] for labels, each in counts.items()})
            if self._counts.containers:
                samples.numbers["oomd_pod_kills_total"] = self._counts.container_series()
            _facts(samples, self._counts.facts)
        for name, series in self._standing.numbers.items():
            samples.numbers.setdefault(name, {}).update(series)
        samples.buckets.update(self._standing.buckets)
        return samples

    def _look(self) -> None:
        answer = self._ask()
        self._asked_s = time.monotonic()
        if answer is None:
            self._standing = _absent()
            return
        self._standing = standing_samples(answer, time.time())
        self._standing.put("oomd_killer_up", 1)
        self._rulesets = ruleset_names(answer)

    def _count_dropped(self) -> None:
        self._counts.samples.put("oomd_reports_dropped_total", self._dropped_before + self._dropped(), "sink")

    def _zeros(self) -> Samples:
        """Series of what has not happened yet: a rate sees the first of something only where there was a 0 before."""
        zeros = Samples()
        for ruleset in self._rulesets:
            for outcome, signal in KILLED:
                zeros.put("oomd_kills_total", 0, ruleset, outcome, signal)
            for action in ("term", "kill"):
                zeros.put("oomd_decisions_total", 0, ruleset, action)
            zeros.put("oomd_kill_expected_bytes_total", 0, ruleset)
            zeros.put("oomd_kill_returned_bytes_total", 0, ruleset)
        for name in ("refusals", "escalations", "kills_by_others", "hastened_exits", "degradations"):
            zeros.put(f"oomd_{name}_total", 0)
        for verdict in ("ranked", "rejected"):
            zeros.put("oomd_candidates_total", 0, verdict)
        for result in ("taken", "refused"):
            zeros.put("oomd_config_reloads_total", 0, result)
        for why in ("too_slow", "too_many"):
            zeros.put("oomd_metrics_connections_dropped_total", 0, why)
        zeros.begin("oomd_detection_to_signal_seconds")
        for signal in ("SIGTERM", "SIGKILL"):
            zeros.begin("oomd_signal_to_death_seconds", signal)
            zeros.begin("oomd_signal_to_memory_seconds", signal)
        if self._counts.facts:
            zeros.begin("oomd_reap_duration_seconds", _reaper(self._counts.facts), "reaped")
        return zeros


def _absent() -> Samples:
    samples = Samples()
    samples.put("oomd_killer_up", 0)
    return samples


def _reaper(facts: Plain) -> str:
    """The backend's name; in a dry run the killer tells ``none (dry run)``."""
    return str(facts["reaper"]).partition(" ")[0]


def _facts(samples: Samples, facts: Plain) -> None:
    """What the killer told at its start."""
    samples.put("oomd_build_info", 1, __version__, platform.python_version(), facts.get("kernel", ""))
    if not facts:
        return
    samples.put("oomd_pressure_supported", facts["psi"])
    reaper = _reaper(facts)
    samples.put("oomd_reaping_supported", facts["mrelease"] and (facts["dry_run"] or reaper != "none"))
    samples.put("oomd_reaper_info", 1, reaper)
    for kind, there in facts["shield"].items():
        samples.put("oomd_shield", there, kind)
    numbers = samples.numbers
    numbers.setdefault("oomd_config_last_reload_successful", {(): 1})
    numbers.setdefault("oomd_config_last_reload_success_timestamp_seconds", {(): facts["time"]})

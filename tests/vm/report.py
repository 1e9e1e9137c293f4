"""Figures as text: a line per run, a table per scenario."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

TIE_MS = 150
"""Stalls of 80–140 ms occur in an emulated guest with no leak at all."""
COLUMNS = (
    ("low_to_signal_ms", "below 10 % → signal ms"),
    ("low_to_death_ms", "→ death ms"),
    ("low_to_memory_ms", "→ memory back ms"),
    ("lowest_available_mib", "lowest MemAvailable MiB"),
    ("stalled_ms", "database stalled ms"),
    ("worst_stall_ms", "worst ms"),
    ("psi_full_ms", "PSI full ms"),
    ("kernel_kills", "kernel kills"),
    ("false_kills", "false kills"),
    ("rss_kib", "RSS KiB"),
    ("cpu_ms", "CPU ms"),
    ("major_faults", "major faults"),
)


def describe_run(run: dict[str, Any]) -> str:
    """One line for the terminal."""
    names = [f"{kill['comm']} by {kill['by']}" for kill in run["kills"]]
    dead = ", ".join(f"{names.count(name)}× {name}" for name in dict.fromkeys(names)) or "nobody"
    return (
        f"{run['scenario']:13} {run['swap']:4} {run['killer']:12} {run['verdict']:40} died: {dead}; "
        f"low→death {run['low_to_death_ms']} ms, →memory {run['low_to_memory_ms']} ms, "
        f"database stalled {run['stalled_ms']} ms (worst {run['worst_stall_ms']}); {run['seconds']:.0f} s"
    )


def spread(values: Sequence[float | None]) -> str:
    """Median and range; a dash where it did not happen, with a count where it happened in some runs only."""
    numbers = [value for value in values if value is not None]
    if not numbers:
        return "–"
    low, middle, high = min(numbers), statistics.median(numbers), max(numbers)
    text = f"{middle:.0f}" if low == high else f"{middle:.0f} ({low:.0f}..{high:.0f})"
    return text if len(numbers) == len(values) else f"{text}, {len(numbers)} of {len(values)}"


def describe_killed_by(runs: Sequence[dict[str, Any]]) -> str:
    """By whose hand, per run when they differ."""
    hands = ["nobody" if run["killed_by"] == "-" else str(run["killed_by"]) for run in runs]
    return " / ".join(dict.fromkeys(hands))


def describe_verdict(runs: Sequence[dict[str, Any]]) -> str:
    """``ok``, or each kind of trouble with its count."""
    verdicts = [str(run["verdict"]) for run in runs]
    counted = {verdict: verdicts.count(verdict) for verdict in dict.fromkeys(verdicts)}
    if len(counted) == 1:
        return verdicts[0]
    return "; ".join(f"{count}×: {verdict}" for verdict, count in counted.items())


def table(rows: Sequence[tuple[str, Sequence[dict[str, Any]]]]) -> str:
    """A Markdown table: one row per killer, each with its runs."""
    heads = ["killer", "verdict", "killed by", *(head for _, head in COLUMNS)]
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    for killer, runs in rows:
        cells = [killer, describe_verdict(runs), describe_killed_by(runs)]
        cells += [spread([run[name] for run in runs]) for name, _ in COLUMNS]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def compare(ours: Sequence[dict[str, Any]], others: Mapping[str, Sequence[dict[str, Any]]], name: str) -> str:
    """``better``, ``tie`` or ``worse`` than the best of the others whose every run was right; lower is better."""
    mine = [run[name] for run in ours if run[name] is not None]
    medians: dict[str, tuple[float, float]] = {}
    for killer, runs in others.items():
        values = [run[name] for run in runs if run[name] is not None]
        if values and all(run["verdict"] == "ok" for run in runs):
            medians[killer] = (statistics.median(values), max(values) - min(values))
    if not mine:
        return "no figure of ours"
    if not medians:
        return "no other was right"
    best = min(medians, key=lambda killer: medians[killer][0])
    value, width = medians[best]
    difference = statistics.median(mine) - value
    if abs(difference) <= max(TIE_MS, width):
        return f"tie with {best}"
    return f"{'worse' if difference > 0 else 'better'} than {best} by {abs(difference):.0f} ms"

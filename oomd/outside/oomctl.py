"""What ``oomctl`` prints: our state in the form of systemd-oomd's, and below it what systemd-oomd has not."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

from oomd.kernel.cgroup_files import NO_LIMIT, parse_memory_stat, parse_protection
from oomd.kernel.files import KernelFormatError
from oomd.kernel.psi import parse_pressure
from oomd.model.units import SECOND_US
from oomd.model.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Mapping

    from oomd.model.report import Plain
    from oomd.model.snapshot import PressureLine

_SPANS = (("w", 604_800), ("d", 86_400), ("h", 3600), ("min", 60), ("s", 1))
_SIZES = "BKMGTPE"


@dataclass(frozen=True, slots=True)
class Group:
    """A cgroup whose unit has settings of its own, as its files show it now; what cannot be read is 0."""

    path: str
    full: PressureLine | None = None
    current_bytes: int = 0
    swap_bytes: int = 0
    min_bytes: int = 0
    low_bytes: int = 0
    pgscan: int = 0
    last_pgscan: int = 0
    """As of the dump before."""


def read_group(root: str, path: str, last_pgscan: Mapping[str, int]) -> Group:
    """The cgroup at ``path`` below ``root``."""

    def text(name: str) -> bytes:
        with contextlib.suppress(OSError), open(os.path.join(root + path, name), "rb") as file:
            return file.read()
        return b""

    def size(name: str) -> int:
        with contextlib.suppress(KernelFormatError):
            return parse_protection(text(name), name)
        return 0

    full, pgscan = None, 0
    with contextlib.suppress(KernelFormatError):
        full = parse_pressure(text("memory.pressure")).full
    with contextlib.suppress(KernelFormatError):
        pgscan = parse_memory_stat(text("memory.stat")).get("pgscan", 0)
    sizes = tuple(size(f"memory.{name}") for name in ("current", "swap.current", "min", "low"))
    current, swap, least, low = sizes
    return Group(path, full, current, swap, least, low, pgscan, last_pgscan.get(path, 0))


def render_dump(answer: Plain, groups: Mapping[str, Group]) -> str:
    """The text. ``answer``: the killer's to ``status``; ``groups``: of its units, by path."""
    status, managed = answer["status"], answer["managed"]
    units = managed["units"]
    limit, duration_us = managed["pressure_limit"], managed["pressure_duration_us"]
    lines = [
        f"Dry Run: {'yes' if status['dry_run'] else 'no'}",
        f"Swap Used Limit: {_share(managed['swap_limit'])}",
        f"Default Memory Pressure Limit: {_share(limit)}",
        f"Default Memory Pressure Duration: {format_span(duration_us)}",
        "System Context:",
        *_context(status["status"]),
        "Swap Monitored CGroups:",
        *(line for path, swap, *_ in units if swap for line in _watched_swap(groups[path])),
        "Memory Pressure Monitored CGroups:",
    ]
    for path, _, pressure, own_limit, own_duration_us in units:
        if pressure:
            lines += _watched_pressure(groups[path], own_limit or limit, own_duration_us or duration_us)
    return "".join(f"{line}\n" for line in (*lines, *_beyond(status)))


def format_span(span_us: int) -> str:
    """``1min 30s``, as systemd.time(7) writes spans of whole seconds; what is shorter, in milliseconds."""
    if span_us < SECOND_US:
        return f"{span_us // 1000}ms"
    words, left = [], span_us // SECOND_US
    for name, seconds in _SPANS:
        if left >= seconds:
            words.append(f"{left // seconds}{name}")
            left %= seconds
    return " ".join(words)


def format_bytes(size: int) -> str:
    """``1.5G``: one place, in powers of 1024; a limit that is none is ``infinity``."""
    if size >= NO_LIMIT:
        return "infinity"
    place = max(0, (size.bit_length() - 1) // 10)
    if place == 0:
        return f"{size}B"
    tenths = size * 10 >> 10 * place
    return f"{tenths // 10}.{tenths % 10}{_SIZES[place]}"


def _share(share: float) -> str:
    return f"{share * 100:.2f}%"


def _context(status: Plain | None) -> list[str]:
    if status is None:
        return []
    total, swap = status["mem_total_bytes"], status["swap_total_bytes"]
    used, swapped = total - status["mem_available_bytes"], swap - status["swap_free_bytes"]
    return [
        f"\tMemory: Used: {format_bytes(used)} Total: {format_bytes(total)}",
        f"\tSwap: Used: {format_bytes(swapped)} Total: {format_bytes(swap)}",
    ]


def _watched_swap(group: Group) -> list[str]:
    usage = "(see System Context)" if group.path == "/" else format_bytes(group.swap_bytes)
    return [f"\tPath: {group.path}", f"\t\tSwap Usage: {usage}"]


def _watched_pressure(group: Group, limit: float, duration_us: int) -> list[str]:
    full = group.full
    pressure = "not there"
    if full is not None:
        shares = (f"{name}: {share * 100:.2f}" for name, share in _averages(full))
        pressure = f"{' '.join(shares)} Total: {format_span(full.total_us)}"
    return [
        f"\tPath: {group.path}",
        f"\t\tMemory Pressure Limit: {_share(limit)}",
        f"\t\tMemory Pressure Duration: {format_span(duration_us)}",
        f"\t\tPressure: {pressure}",
        f"\t\tCurrent Memory Usage: {format_bytes(group.current_bytes)}",
        f"\t\tMemory Min: {format_bytes(group.min_bytes)}",
        f"\t\tMemory Low: {format_bytes(group.low_bytes)}",
        f"\t\tPgscan: {group.pgscan}",
        f"\t\tLast Pgscan: {group.last_pgscan}",
    ]


def _averages(line: PressureLine) -> tuple[tuple[str, float], ...]:
    return ("Avg10", line.avg10), ("Avg60", line.avg60), ("Avg300", line.avg300)


def _beyond(status: Plain) -> list[str]:
    """Every rule with what it sees, and kills under way."""
    lines = ["Rules:"]
    for rule in status["rulesets"]:
        lines.append(f"\t{rule['ruleset']}: {'fires' if rule.get('fired') else 'does not fire'}")
        lines += [f"\t\t{evidence['text']}" for evidence in rule.get("evidence", ())]
    lines.append("Kills Under Way:")
    for kill in status["kills"]:
        sizes = f"{format_bytes(kill['returned_bytes'])} of {format_bytes(kill['expected_bytes'])} back"
        lines.append(f"\t{kill['comm']} ({kill['pid']}): {kill['phase']}, {sizes}")
    return lines

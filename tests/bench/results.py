"""What is promised (issue and README), which figures say whether it holds, and how they are shown. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

COMMAND = "make bench"

WORST_US_PER_PROCESS, SLOWEST_LEAP = 15, 2
"""Of a leap that nobody watched; and how many times as long one of them may take, whom an interrupt or a cold cache
met.
"""
LOADED = (1000, 10_000)


@dataclass(frozen=True, slots=True)
class Goal:
    """At most so much."""

    what: str
    figure: str
    most: float
    unit: str = "µs"
    over: str = ""
    """The figure of which ``most`` is a multiple; none: it is a number."""


def leaps(what: str, figure: str, size: int) -> tuple[Goal, Goal]:
    """What is promised of the worst case: how long it takes, and that no single one takes much longer than that."""
    most = WORST_US_PER_PROCESS * size
    slowest = Goal(f"{what}, slowest", f"{figure}.max_us", SLOWEST_LEAP * most)
    return Goal(f"{what}, median", f"{figure}.median_us", most), slowest


def goals(sizes: tuple[int, ...]) -> list[Goal]:
    """Everything that is promised for these numbers of processes."""
    largest = sizes[-1]
    found = []
    for size in sizes:
        found += [
            Goal(f"wake → signal, {size} processes, median", f"plain.{size}.total.median_us", 400),
            Goal(f"a wrong victim, {size} processes", f"plain.{size}.wrong", 0, ""),
            *leaps(f"an unwatched process leaps, {size} processes", f"worst.{size}.total", size),
            *leaps(f"one leaps that was there before the others, {size}", f"worst_old.{size}.total", size),
            *leaps(f"the same, and it was as small as any, {size}", f"worst_small.{size}.total", size),
            Goal(f"a wrong victim where an unwatched process leaps, {size} processes", f"worst.{size}.wrong", 0, ""),
        ]
    for size in (each for each in LOADED if each in sizes):
        found += [
            Goal(f"beside two hogs, {size} processes, p99", f"hogs.{size}.total.p99_us", 1500),
            Goal(f"the same without real-time, p99, {size}", f"hogs_not_realtime.{size}.total.p99_us", 10_000),
            Goal(
                f"with 20 rules, {size} processes, median",
                f"lists.{size}.total.median_us",
                1.3,
                over=f"plain.{size}.total.median_us",
            ),
            *(
                Goal(f"a wrong victim beside {each} forks a second, {size}", f"forks_{each}.{size}.wrong", 0, "")
                for each in (100, 1000)
            ),
        ]
    found += [Goal(f"CPU far from danger, {size} processes", f"far.{size}.oomd_share", 0.0001, "%") for size in sizes]
    return [
        *found,
        Goal("decisions that read everybody, where nobody leaps from behind", "scans.share", 0.02, "%"),
        Goal(f"CPU near danger, {largest} processes", f"near.{largest}.oomd_share", 0.005, "%"),
        Goal(f"RSS, {sizes[0]} processes", f"far.{sizes[0]}.oomd_rss_kib", 13 * 1024, "KiB"),
        Goal(f"PSS, {sizes[0]} processes", f"far.{sizes[0]}.oomd_pss_kib", 11.5 * 1024, "KiB"),
        Goal(f"RSS near danger, {largest} processes", f"memory.{largest}.rss_kib", 14.5 * 1024, "KiB"),
        Goal(f"PSS near danger, {largest} processes", f"memory.{largest}.pss_kib", 13 * 1024, "KiB"),
        *(
            Goal(f"exec → READY, {size} processes, median", f"ready.{size}.median_us", 150_000)
            for size in dict.fromkeys((sizes[0], largest))
        ),
    ]


def verdict(goal: Goal, figures: Mapping[str, float | str]) -> tuple[bool | None, float, float]:
    """Whether it is met (None: not measured), what was measured, and what was promised."""
    measured, most = figures.get(goal.figure), goal.most
    if measured is None:
        return None, 0, most
    if goal.over:
        most *= float(figures[goal.over])
    return float(measured) <= most, float(measured), most


def shown(value: float, unit: str) -> str:
    """For people."""
    if unit == "%":
        return f"{value:.4%}"
    if unit == "µs" and value >= 10_000:
        return f"{value / 1000:.1f} ms"
    return f"{value:.0f} {unit}".strip()


def render(figures: Mapping[str, float | str], sizes: tuple[int, ...]) -> str:
    """RESULTS.md."""
    rivals = ", ".join(f"{name} {figures.get(f'version.{name}', 'absent')}" for name in ("earlyoom", "nohang"))
    machine = f"Linux {figures['kernel']}, {figures['cpus']} CPUs, Python {figures['python']}"
    dearer = f"{float(figures['meminfo_dearer_us']):.0f} µs"
    settings = f"OOMD_BENCH_SIZES={','.join(map(str, sizes))} OOMD_BENCH_KILLS={figures['kills']}"
    lines = [
        "# How fast, how small: what was measured",
        "",
        f"By `{settings} {COMMAND}`, in {figures['seconds']} s: {machine}, {rivals};",
        f"load average at first: {figures['load']}.",
        "",
        f"Every row is {figures['kills']} real kills (of leaps that nobody watched, 8); of fewer than 100 kills",
        "p99 is the slowest one. All contestants look at the same processes, in a PID namespace of their own. What",
        f"is available is made up; what the real /proc/meminfo costs more to read ({dearer}, cold) is added.",
        "",
        "## Promised, measured",
        "",
        "| what | at most | measured | |",
        "|---|---|---|---|",
    ]
    for goal in goals(sizes):
        met, measured, most = verdict(goal, figures)
        word = {None: "not measured", True: "met", False: "**missed**"}[met]
        lines.append(f"| {goal.what} | {shown(most, goal.unit)} | {shown(measured, goal.unit)} | {word} |")
    return "\n".join([*lines, "", *_kills(figures, sizes), *_rivals(figures, sizes)])


def _kills(figures: Mapping[str, float | str], sizes: tuple[int, ...]) -> list[str]:
    lines = [
        "## From the return of the wait to the sent signal, µs",
        "",
        "| row | processes | median | p99 | slowest | reading memory | choosing | identity, signal | wrong | scans |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    leaps = ("jump", "worst", "worst_old", "worst_small")
    for row in ("plain", *leaps, "lists", "hogs", "hogs_not_realtime", "forks_100", "forks_1000"):
        for size in sizes:
            if f"{row}.{size}.n" in figures:
                names = ("total.median", "total.p99", "total.max", "read.median", "choose.median", "send.median")
                cells = [f"{float(figures[f'{row}.{size}.{name}_us']):.0f}" for name in names]
                cells += [str(figures.get(f"{row}.{size}.{name}", "–")) for name in ("wrong", "scans")]
                lines.append(f"| {row} | {size} | {' | '.join(cells)} |")
    return [*lines, ""]


def _rivals(figures: Mapping[str, float | str], sizes: tuple[int, ...]) -> list[str]:
    lines = [
        "## Beside the others",
        "",
        "Theirs is the search for a victim alone, by their own word; ours is all from the wake-up to the signal.",
        "",
        "| processes | oomd | earlyoom | nohang | nohang with its desktop's rules |",
        "|---|---|---|---|---|",
    ]
    for size in sizes:
        ours = float(figures[f"plain.{size}.total.median_us"])
        cells = [f"{ours / 1000:.2f} ms"]
        for name in ("earlyoom", "nohang", "nohang-desktop"):
            theirs = figures.get(f"rival.{size}.{name}.median_us")
            cells.append("–" if theirs is None else f"{float(theirs) / 1000:.2f} ms ({float(theirs) / ours:.1f} ×)")
        lines.append(f"| {size} | {' | '.join(cells)} |")
    lines += ["", "| far from danger | CPU | wake-ups a second | RSS, MiB | PSS, MiB |", "|---|---|---|---|---|"]
    for size in sizes:
        for name in ("oomd", "earlyoom", "nohang"):
            key = f"far.{size}.{name}"
            if f"{key}_share" in figures:
                rss, pss = (float(figures[f"{key}_{each}_kib"]) / 1024 for each in ("rss", "pss"))
                share, rate = float(figures[f"{key}_share"]), float(figures[f"{key}_wakes_per_second"])
                lines.append(f"| {name}, {size} processes | {share:.4%} | {rate:.1f} | {rss:.1f} | {pss:.1f} |")
    return [*lines, ""]

"""``python -m tests.prometheus.draw FILE.png [MINUTES]``: a picture of the dashboard with real figures.

A daemon guards a tree of its own with a budget of 512 MiB, in which something leaks now and then; Debian's Prometheus
scrapes it; afterwards every panel's own queries are asked for that stretch of time and drawn where Grafana would put
them, in its colours. Needs matplotlib (the extra ``pictures``) and what ``make test`` unpacks.
"""

from __future__ import annotations

import datetime as dt
import math
import random
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
from matplotlib import dates
from matplotlib.ticker import FuncFormatter

from oomd.config.addresses import Address
from tests.integration.test_run import daemon, tell, tree
from tests.outside.metrics.serving import free_port
from tests.prometheus.dashboard import Query, legend_of, load, queries_of
from tests.prometheus.server import Prometheus

STEP_S = 2
WIDTH_IN, UNIT_IN = 16.0, 0.36
BACK, PANEL, TEXT, DIM, GRID = "#111217", "#181b1f", "#ccccdc", "#8e8e9b", "#2b2e34"
COLOURS = ("#73bf69", "#f2cc0c", "#5794f2", "#ff780a", "#f2495c", "#b877d9", "#8ab8ff", "#ffa6b0", "#96d98d", "#fade2a")
NAMED = {"red": "#c4162a", "orange": "#ff780a", "green": "#37872d", "blue": "#1f60c4"}


def main() -> None:
    """Make the figures, ask for them, draw them."""
    path, minutes = sys.argv[1], float(sys.argv[2]) if len(sys.argv) > 2 else 10.0
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        address = Address("127.0.0.1", free_port())
        with (
            tree() as root,
            daemon(root, folder, "--metrics-listen", str(address), budget="512MiB") as run,
            Prometheus(folder, str(address)) as prometheus,
        ):
            prometheus.wait_value("oomd_killer_up", 1)
            began_s = time.time()
            _play(root, run, began_s + 60 * minutes)
            draw(prometheus, began_s, time.time(), path)


def _play(root: Any, run: Any, until_s: float) -> None:
    """Some that hold what they have, and end after a minute; leaks of different speed, some of which do not listen to
    SIGTERM.
    """
    dice = random.Random(4)
    held_s, seen = 0.0, 0
    while time.time() < until_s:
        if time.time() - held_s > 62:
            held_s = time.time()
            for name, mib in (("web", 60), ("database", 90)):
                tell(root, f"hold {name} {mib}")
        time.sleep(dice.uniform(5, 25))
        kind = dice.choice(("leak importer 900 2 0.1", "leak browser 900 6", "leak build 900 20", "stubborn job 900"))
        tell(root, kind)
        run.wait_event("outcome", lambda event, seen=seen: int(event["id"]) > seen)
        seen = max(int(event["id"]) for event in run.of("outcome"))


def draw(prometheus: Prometheus, start_s: float, end_s: float, path: str) -> None:
    """All panels of the dashboard, where and as they are."""
    mpl.rcParams.update({"font.size": 7, "font.family": "DejaVu Sans", "text.color": TEXT, "axes.edgecolor": GRID})
    everything = load()["panels"]
    height = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in everything)
    figure = plt.figure(figsize=(WIDTH_IN, UNIT_IN * (height + 1)), facecolor=BACK)
    for panel in everything:
        place = panel["gridPos"]
        x, width = place["x"] / 24, place["w"] / 24
        y, tall = 1 - (place["y"] + place["h"]) / height, place["h"] / height
        if panel["type"] == "row":
            figure.text(x + 0.006, y + tall / 2, f"⌄ {panel['title']}", va="center", fontsize=9, weight="bold")
            continue
        frame = figure.add_axes((x + 0.003, y + 0.003, width - 0.006, tall - 0.006))
        frame.set(facecolor=PANEL, xticks=(), yticks=())
        frame.text(0.015, 1 - 0.3 / place["h"], panel["title"], va="top", weight="bold", transform=frame.transAxes)
        queries = list(queries_of(panel, rate_interval="20s", span=f"{int(end_s - start_s)}s"))
        if panel["type"] == "timeseries":
            inner = (x + 0.036, y + tall * 0.24, width - 0.046, tall * 0.58)
            _series(figure.add_axes(inner), panel, prometheus, queries, start_s, end_s)
        else:
            _single(frame, panel, prometheus, queries[0], end_s)
    figure.savefig(path, dpi=100, facecolor=BACK)


def _series(axes: Any, panel: dict[str, Any], prometheus: Prometheus, queries: list[Query], *span: float) -> None:
    defaults = panel["fieldConfig"]["defaults"]
    custom = defaults["custom"]
    axes.set_facecolor(PANEL)
    drawn = 0
    stacked: dict[float, float] = {}
    for query in queries:
        times = {"start": str(span[0]), "end": str(span[1]), "step": str(STEP_S)}
        for series in prometheus.ask("query_range", query=query.expression, **times)["result"]:
            points = [(float(at), float(value)) for at, value in series["values"]]
            points = [(at, value if math.isfinite(value) else math.nan) for at, value in points]  # a gap
            label = legend_of(query, series["metric"]).replace(series["metric"].get("instance", "\0"), "").strip()
            colour = COLOURS[drawn % len(COLOURS)]
            drawn += 1
            moments = [dt.datetime.fromtimestamp(at, dt.UTC) for at, _ in points]
            values = [value for _, value in points]
            if custom["drawStyle"] == "bars":
                below = [stacked.get(at, 0.0) for at, _ in points] if "stacking" in custom else 0
                axes.bar(moments, values, STEP_S / 86400, bottom=below, color=colour, alpha=0.8, label=label)
                stacked |= {at: stacked.get(at, 0.0) + value for at, value in points}
            else:
                style = "steps-post" if custom.get("lineInterpolation") == "stepAfter" else "default"
                marker = "o" if custom["showPoints"] == "always" else ""
                axes.plot(moments, values, color=colour, lw=1, ds=style, marker=marker, ms=1.5, label=label)
                axes.fill_between(moments, values, color=colour, alpha=0.08, lw=0)
    _dress(axes, defaults, *span)


def _dress(axes: Any, defaults: dict[str, Any], start_s: float, end_s: float) -> None:
    unit = defaults["unit"]
    axes.set_xlim(*(dt.datetime.fromtimestamp(each, dt.UTC) for each in (start_s, end_s)))
    low, high = axes.get_ylim()
    axes.set_ylim(defaults.get("min", min(low, 0)), defaults.get("max", high if high > low else low + 1) * 1.02)
    clock: Any = dates.DateFormatter  # which is not typed
    axes.xaxis.set_major_formatter(clock("%H:%M"))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: words(value, unit)))
    axes.tick_params(colors=DIM, length=0, labelsize=6)
    axes.set_axisbelow(True)
    axes.grid(color=GRID, lw=0.5)
    for spine in axes.spines.values():
        spine.set_visible(False)
    shown = axes.legend(
        loc="upper left", bbox_to_anchor=(-0.06, -0.14), ncols=3, frameon=False, fontsize=5.5, columnspacing=1
    )
    for text in shown.get_texts():
        text.set_color(TEXT)


def _single(frame: Any, panel: dict[str, Any], prometheus: Prometheus, query: Query, end_s: float) -> None:
    """One number on its colour, or a table that is empty here."""
    result = prometheus.query(query.expression, time=str(end_s))
    if panel["type"] == "table" or not result:
        frame.text(0.5, 0.5, "No data", ha="center", va="center", color=DIM, transform=frame.transAxes)
        return
    defaults = panel["fieldConfig"]["defaults"]
    value = float(result[0]["value"][1])
    text = words(value, defaults["unit"]) if "decimals" not in defaults else f"{value:.{defaults['decimals']}f}"
    for mapping in defaults.get("mappings", ()):
        text = mapping["options"].get(f"{value:.0f}", {"text": text})["text"]
    steps = [step for step in defaults["thresholds"]["steps"] if step["value"] is None or value >= step["value"]]
    frame.set_facecolor(NAMED[steps[-1]["color"]])
    frame.text(0.5, 0.42, text, ha="center", va="center", fontsize=20, weight="bold", transform=frame.transAxes)


def words(value: float, unit: str) -> str:
    """A number as Grafana would write it."""
    if unit == "percentunit":
        return f"{100 * value:.3g}%"
    if unit == "bytes":
        for name in ("B", "KiB", "MiB", "GiB"):
            if abs(value) < 1024 or name == "GiB":
                return f"{value:.3g} {name}"
            value /= 1024
    if unit == "s":
        for factor, name in ((1, "s"), (1e3, "ms"), (1e6, "µs")):
            if abs(value) * factor >= 1 or name == "µs":
                return f"{value * factor:.3g} {name}" if value else "0 s"
    return f"{value:.3g}"


if __name__ == "__main__":
    main()

"""The catalogue: Prometheus' conventions, and README's table, which is made of it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from oomd.outside.metrics.catalogue import BY_NAME, COUNTER, FAMILIES, GAUGE, HISTOGRAM, Family
from oomd.outside.metrics.exposition import Exposition
from oomd.outside.metrics.figures import Figures
from tests.outside.metrics.reports import DECISION, answer, outcome, start

README = Path(__file__).parents[3] / "README.md"
BEGIN, END = "<!-- metrics: made by tests/outside/metrics/test_catalogue.py -->\n", "<!-- end of metrics -->\n"
FORBIDDEN = {"pid", "comm", "cmdline", "name", "user", "uid", "cgroup", "exe"}
SELDOM = {
    "oomd_budget_limit_bytes",
    "oomd_budget_usage_bytes",
    "oomd_kill_last_timestamp_seconds",
    "oomd_metrics_requests_total",
    "oomd_ruleset_firing_since_timestamp_seconds",
    "oomd_pod_kills_total",
    "oomd_step_taken_bytes_total",
    "oomd_steps_total",
}
"""Those of which there are series only sometimes."""


def table() -> str:
    """README's table."""
    lines = ["| metric | type | labels | meaning |", "|---|---|---|---|"]
    for family in FAMILIES:
        labels = ", ".join(f"`{label}`" for label in family.labels) or "–"
        lines.append(f"| `{family.name}` | {family.kind} | {labels} | {family.meaning} |")
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_names_are_prometheus(family: Family) -> None:
    """A prefix, base units, ``_total`` for counters and for nothing else; no label without a bound."""
    assert re.fullmatch(r"oomd_[a-z]+(_[a-z]+)*", family.name)
    assert family.name.endswith("_total") == (family.kind == COUNTER)
    assert not re.search(r"_(ms|us|milliseconds|microseconds|kb|mb|kib|mib|percent)(_|$)", family.name)
    assert family.kind in (COUNTER, GAUGE, HISTOGRAM)
    assert bool(family.bounds) == (family.kind == HISTOGRAM)
    assert sorted(family.bounds) == list(family.bounds)
    assert not FORBIDDEN & set(family.labels)
    assert family.meaning.endswith(".") or ":" in family.meaning
    assert "|" not in family.meaning
    assert BY_NAME[family.name] is family


def test_each_is_exposed() -> None:
    """None is declared and never told."""
    figures = Figures(answer)
    for event in (start(), DECISION, outcome()):
        figures.note(event)
    text = Exposition(figures.take).text().decode()
    exposed = set(re.findall(r"(?m)^# TYPE (\S+) ", text))
    assert exposed | SELDOM == set(BY_NAME)


def test_readme_has_the_table() -> None:
    """As it would be made now: run this file to write it."""
    text = README.read_text(encoding="utf-8")
    assert text.partition(BEGIN)[2].partition(END)[0] == table()


if __name__ == "__main__":
    content = README.read_text(encoding="utf-8")
    before, _, rest = content.partition(BEGIN)
    README.write_text(before + BEGIN + table() + END + rest.partition(END)[2], encoding="utf-8")

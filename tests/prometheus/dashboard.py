"""The dashboard as Grafana would take it: panels, and the queries that they send for a stretch of time."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tests.prometheus.server import CONFIGS

if TYPE_CHECKING:
    from collections.abc import Iterator

PATH = CONFIGS / "grafana" / "oomd.json"


@dataclass(frozen=True)
class Query:
    """One target of a panel."""

    panel: str
    expression: str
    legend: str
    instant: bool


def load() -> dict[str, Any]:
    """The whole of it."""
    loaded: dict[str, Any] = json.loads(PATH.read_text(encoding="utf-8"))
    return loaded


def panels() -> list[dict[str, Any]]:
    """All but the headings of rows."""
    return [panel for panel in load()["panels"] if panel["type"] != "row"]


def queries_of(panel: dict[str, Any], *, rate_interval: str, span: str) -> Iterator[Query]:
    """What a panel asks, with Grafana's variables filled in: every machine is chosen."""
    for target in panel["targets"]:
        text = target["expr"].replace("$__rate_interval", rate_interval).replace("$__range", span)
        yield Query(
            panel["title"], text.replace("$instance", ".*"), target["legendFormat"], target.get("instant", False)
        )


def legend_of(query: Query, labels: dict[str, str]) -> str:
    """The name of a series, as its legend says."""
    text = query.legend
    for name, value in labels.items():
        text = text.replace("{{" + name + "}}", value)
    return text

"""The dashboard: well formed, and every query of it answered by a real Prometheus with figures of a real daemon."""

from __future__ import annotations

import itertools
import time
from typing import TYPE_CHECKING

import pytest

from oomd.config.addresses import Address
from oomd.outside.metrics.catalogue import FAMILIES
from tests.integration.test_run import daemon, tell, tree
from tests.outside.metrics.serving import free_port
from tests.prometheus.dashboard import load, panels, queries_of
from tests.prometheus.server import Prometheus, program
from tests.prometheus.test_rules import known_names, names_in

if TYPE_CHECKING:
    from pathlib import Path

EMPTY = {"oomd_pod_kills_total", "oomd_steps_total"}
"""Nobody in a container is killed here, and no rule has gentle steps."""
NOT_SHOWN = {
    "oomd_build_info",  # the variable of machines
    "oomd_pressure_supported",
    "oomd_reaping_supported",  # an alert
    "oomd_reaper_info",
    "oomd_shield",
    "oomd_dry_run",
    "oomd_paused",  # an alert
    "oomd_step_taken_bytes_total",
}


def test_it_is_well_formed() -> None:
    """Ids are unique, panels do not overlap and fit the grid, each says what it shows, and asks the chosen source."""
    everything = load()["panels"]
    assert len({panel["id"] for panel in everything}) == len(everything)
    for panel in panels():
        place = panel["gridPos"]
        assert place["x"] >= 0
        assert place["x"] + place["w"] <= 24
        assert panel["description"].endswith(".")
        assert {target["datasource"]["uid"] for target in panel["targets"]} == {"${datasource}"}
        assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"])
    for one, other in itertools.combinations([panel["gridPos"] for panel in everything], 2):
        apart = (
            one["x"] + one["w"] <= other["x"]
            or other["x"] + other["w"] <= one["x"]
            or one["y"] + one["h"] <= other["y"]
            or other["y"] + other["h"] <= one["y"]
        )
        assert apart, (one, other)
    assert [each["name"] for each in load()["templating"]["list"]] == ["datasource", "instance"]


def test_it_names_metrics_that_exist_and_the_machine() -> None:
    """No query asks for a name that is not exposed, or forgets which machines were chosen."""
    for panel in panels():
        for target in panel["targets"]:
            names = list(names_in(target["expr"]))
            assert set(names) <= known_names(), panel["title"]
            assert target["expr"].count('instance=~"$instance"') == len(names), panel["title"]


def test_most_of_what_is_told_is_shown() -> None:
    """What is not has its reason."""
    shown = {name for panel in panels() for target in panel["targets"] for name in names_in(target["expr"])}
    shown = {name.removesuffix("_bucket") for name in shown}
    states = ("_armed", "_timestamp_seconds", "_threads", "_leaders", "_warm", "_resting", "_ticks_total", "_progress")
    rest = {family.name for family in FAMILIES} - shown - NOT_SHOWN
    assert {
        name
        for name in rest
        if not name.endswith(states)
        and not name.startswith(("oomd_memory_", "oomd_budget_", "oomd_config_", "oomd_metrics_", "oomd_outside_"))
        and not name.endswith(("start_time_seconds", "_last_reload_successful"))
    } == set()


@pytest.mark.integration
def test_every_query_is_answered(tmp_path: Path) -> None:
    """After a kill none is empty: what a person sees at his first look is not "No data"."""
    program("prometheus")
    address = Address("127.0.0.1", free_port())
    with (
        tree() as root,
        daemon(root, tmp_path, "--metrics-listen", str(address)) as run,
        Prometheus(tmp_path, str(address)) as prometheus,
    ):
        began_s = time.time()
        prometheus.wait_value("oomd_killer_up", 1)
        tell(root, "leak leaker 400")
        run.wait_event("outcome")
        prometheus.wait_value('sum(changes(oomd_kills_total{outcome=~"killed|exited"}[1m]))', 1)
        for panel in panels():
            for query in queries_of(panel, rate_interval="1m", span="1m"):
                if query.instant:
                    series = prometheus.query(query.expression)
                else:
                    times = {"start": f"{began_s}", "end": f"{time.time()}", "step": "0.5"}
                    series = prometheus.ask("query_range", query=query.expression, **times)["result"]
                assert bool(series) != any(name in EMPTY for name in names_in(query.expression)), query
        for annotation in load()["annotations"]["list"]:
            expression = annotation["expr"].replace("$__rate_interval", "1m").replace("$instance", ".*")
            assert prometheus.query(expression)
        assert prometheus.ask("label/instance/values", **{"match[]": "oomd_build_info"}) == [str(address)]

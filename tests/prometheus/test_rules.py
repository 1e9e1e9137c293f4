"""Scrape configuration and alerts, judged by promtool."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from oomd.outside.metrics.catalogue import FAMILIES, HISTOGRAM
from tests.prometheus.server import CONFIGS, promtool

if TYPE_CHECKING:
    from collections.abc import Iterator

RULES = CONFIGS / "prometheus" / "oomd.rules.yml"
TESTS = Path(__file__).with_name("alerts.yml")


def rules() -> list[dict[str, Any]]:
    """The alerts as they are written."""
    found: list[dict[str, Any]] = yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"][0]["rules"]
    return found


def names_in(expression: str) -> Iterator[str]:
    """The metrics of ours that an expression names."""
    yield from re.findall(r"\boomd_[a-z_]+", expression)


def known_names() -> set[str]:
    """Everything that is exposed."""
    names = {family.name for family in FAMILIES}
    for family in FAMILIES:
        if family.kind == HISTOGRAM:
            names |= {f"{family.name}_{suffix}" for suffix in ("bucket", "count", "sum")}
    return names


@pytest.mark.parametrize("what", [("config", "prometheus.yml"), ("rules", "oomd.rules.yml")])
def test_promtool_finds_nothing_wrong(what: tuple[str, str]) -> None:
    """Nor does its linter."""
    status, said = promtool(
        "check", what[0], *(["--lint=all"] if what[0] == "rules" else []), what[1], cwd=RULES.parent
    )
    assert status == 0, said
    assert "SUCCESS" in said


def test_jobs_to_copy_from_are_right_too(tmp_path: Path) -> None:
    """Those that are commented out."""
    lines = (RULES.parent / "prometheus.yml").read_text(encoding="utf-8").splitlines()
    text = "\n".join(re.sub(r"^  #(- |  )", r"  \1", line) for line in lines)
    # Debian's Prometheus is built without Kubernetes.
    assert "kubernetes_sd_configs: [{role: pod}]" in text
    text = text.replace("kubernetes_sd_configs: [{role: pod}]", "static_configs: [{targets: [localhost:9779]}]")
    (tmp_path / "prometheus.yml").write_text(text, encoding="utf-8")
    shutil.copy(RULES, tmp_path)
    assert len(yaml.safe_load(text)["scrape_configs"]) == 3
    status, said = promtool("check", "config", "prometheus.yml", cwd=tmp_path)
    assert status == 0, said


def test_every_alert_fires_and_stays_silent(tmp_path: Path) -> None:
    """As the file of tests says, in which none is forgotten either way."""
    for path in (RULES, TESTS):
        shutil.copy(path, tmp_path)
    status, said = promtool("test", "rules", TESTS.name, cwd=tmp_path)
    assert status == 0, said
    tried = yaml.safe_load(TESTS.read_text(encoding="utf-8"))["tests"]
    cases = [case for each in tried for case in each["alert_rule_test"]]
    names = [rule["alert"] for rule in rules()]
    assert {case["alertname"] for case in cases if case.get("exp_alerts")} == set(names)
    assert {case["alertname"] for case in cases if not case.get("exp_alerts")} == set(names)
    assert len(names) == len(set(names))


def test_the_test_of_alerts_can_fail(tmp_path: Path) -> None:
    """With other limits in the rules the same tests find fault, firing and silent."""
    shutil.copy(TESTS, tmp_path)
    for was, becomes in (
        ("[15m])) > 3", "[15m])) > 9"),
        ("oomd_reaping_supported == 0", "oomd_reaping_supported == 1"),
    ):
        text = RULES.read_text(encoding="utf-8")
        assert was in text
        (tmp_path / RULES.name).write_text(text.replace(was, becomes), encoding="utf-8")
        status, said = promtool("test", "rules", TESTS.name, cwd=tmp_path)
        assert status != 0, said


def test_alerts_name_metrics_that_exist() -> None:
    """And what they say leads somewhere."""
    for rule in rules():
        assert set(names_in(rule["expr"])) <= known_names(), rule["alert"]
        assert rule["labels"]["severity"] in ("info", "warning", "critical")
        assert "$labels.instance" in rule["annotations"]["summary"]
        assert rule["annotations"]["description"].endswith(".")

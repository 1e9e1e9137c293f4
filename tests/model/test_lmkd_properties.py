"""Property files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oomd.model.lmkd_properties import (
    IDLE,
    Properties,
    names_of_all,
    parse_properties,
    problem_of,
    without_effect,
)

EXAMPLE = Path(__file__).parents[2] / "configs" / "lmkd.prop"


def parsed(text: str) -> Properties:
    """What it says, which is right."""
    found = parse_properties(text)
    assert isinstance(found, Properties), found
    return found


def test_defaults() -> None:
    """Nothing given: the published defaults; a device with little memory has others."""
    assert parsed("") == Properties()
    low = parsed("ro.config.low_ram=true")
    assert (low.psi_partial_stall_ms, low.thrashing_limit, low.thrashing_limit_decay) == (200, 30, 50)
    assert low.critical_thrashing == 90
    assert parsed("ro.lmk.thrashing_limit=40\nro.config.low_ram=true").thrashing_limit == 40


def test_device_configuration_wins() -> None:
    """Whatever the order of the lines."""
    lines = ["persist.device_config.lmkd_native.thrashing_limit=7", "ro.lmk.thrashing_limit=9"]
    assert parsed("\n".join(lines)).thrashing_limit == 7
    assert parsed("\n".join(lines[::-1])).thrashing_limit == 7


def test_what_is_not_ours_is_passed_over() -> None:
    """Comments, other properties, empty lines."""
    assert parsed("# ro.lmk.debug=true\n\nro.product.name=x\nro.lmk.unheard_of=1\n[weird]") == Properties()


@pytest.mark.parametrize(
    ("text", "name", "value"),
    [
        ("ro.lmk.swap_free_low_percentage=200", "swap_free_low_percentage", 100),
        ("ro.lmk.swap_util_max=-5", "swap_util_max", 0),
        ("ro.lmk.thrashing_limit=-1", "thrashing_limit", 0),
        ("ro.lmk.lowmem_min_oom_score=0", "lowmem_min_oom_score", 201),
        ("ro.lmk.lowmem_min_oom_score=5000", "lowmem_min_oom_score", 1001),
        ("ro.lmk.kill_heaviest_task = on", "kill_heaviest_task", True),
        ("ro.lmk.log_stats=0", "log_stats", False),
    ],
)
def test_values(text: str, name: str, value: object) -> None:
    """Clamped where the original clamps; every word for truth that Android knows."""
    assert getattr(parsed(text), name) == value


def test_mistakes() -> None:
    """All of them, each with its line."""
    text = "ro.lmk.debug=maybe\nro.lmk.thrashing_limit=x\nro.lmk.psi_window_size_ms=100\nro.lmk.low=99999999999"
    assert parse_properties(text) == [
        "line 1: ro.lmk.debug: 'maybe' is no truth value",
        "line 2: ro.lmk.thrashing_limit: 'x' is no number",
        "line 3: ro.lmk.psi_window_size_ms: 100 is not between 500 and 10000",
        "line 4: ro.lmk.low: '99999999999' is no number",
    ]


def test_our_own_configuration_wins() -> None:
    """Over every name of the file, and with its own mistakes told as its own."""
    text = "persist.device_config.lmkd_native.thrashing_limit=7"
    found = parse_properties(text, ("ro.lmk.thrashing_limit=9",))
    assert isinstance(found, Properties)
    assert found.thrashing_limit == 9
    assert parse_properties(text, ("ro.lmk.debug=perhaps", "ro.lmk.low=")) == [
        "override: ro.lmk.debug: 'perhaps' is no truth value",
        "override: ro.lmk.low: '' is no number",
    ]


def test_an_empty_value_is_none() -> None:
    """As a property that is not set."""
    assert parsed("ro.lmk.thrashing_limit=9\nro.lmk.thrashing_limit=\nro.lmk.debug=") == Properties(thrashing_limit=9)


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("ro.lmk.thrashing_limit=9", ""),
        ("persist.device_config.lmkd_native.debug = on", ""),
        ("ro.config.low_ram=true", ""),
        ("ro.lmk.thrashing_limit", "'ro.lmk.thrashing_limit' is not name=value"),
        ("=9", "'=9' is not name=value"),
        ("ro.lmk.thrashing=9", "'ro.lmk.thrashing' is no property of lmkd"),
        ("ro.lmk.thrashing_limit=x", "'x' is no number"),
        ("ro.lmk.psi_window_size_ms=1", "1 is not between 500 and 10000"),
    ],
)
def test_one_line(line: str, problem: str) -> None:
    """What a line of our own configuration may be."""
    assert problem_of(line) == problem


def test_what_is_left_out_is_known() -> None:
    """What asks for something that is not here; not what asks for what is done anyway."""
    text = "ro.lmk.use_minfree_levels=true\nro.lmk.critical_upgrade=true\nro.lmk.use_new_strategy=true\nro.lmk.low=1001"
    assert without_effect(parsed(text)) == ("use_minfree_levels", "critical_upgrade")
    assert without_effect(Properties()) == ()
    assert {name.removeprefix("ro.lmk.").removeprefix("ro.config.") for name in names_of_all()} >= set(IDLE)


def test_example_shows_the_defaults() -> None:
    """Every line of configs/lmkd.prop, uncommented, is what holds anyway, and each is known."""
    text = EXAMPLE.read_text(encoding="utf-8")
    lines = [line.removeprefix("#") for line in text.splitlines() if "=" in line and " " not in line]
    assert parsed("\n".join(lines)) == replace(Properties(), thrashing_limit_critical=300)
    assert all(isinstance(parse_properties(line.partition("=")[0] + "=x"), list) for line in lines)
    assert parsed(text) == Properties()


@given(st.text(max_size=200))
def test_any_text(text: str) -> None:
    """Nothing is raised."""
    assert parse_properties(text)


@given(st.sampled_from(["debug", "thrashing_limit", "psi_window_size_ms", "low"]), st.text(max_size=12))
def test_any_value(name: str, value: str) -> None:
    """Nor here."""
    assert parse_properties(f"ro.lmk.{name}={value}")

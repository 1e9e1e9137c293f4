"""Every step is declared whole: options with meanings, ranges within which its defaults lie, words."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest

from oomd.config.schema import option_keys
from oomd.model.steps import ALL, GENTLE, FreezeStep, NotifyStep, ReclaimStep, RestartStep, ThrottleStep
from oomd.model.threshold import Threshold
from oomd.model.units import MIB, SECOND_US


@pytest.mark.parametrize("declared", ALL, ids=lambda declared: declared.name)
def test_declaration(declared: type[Any]) -> None:
    """The lists of actions, the loader and the table of the README need all of it."""
    assert declared.name
    assert declared.meaning
    assert all(key.meaning for key in option_keys(declared))
    for option, (low, high) in getattr(declared, "ranges", {}).items():
        (field,) = (each for each in fields(declared) if each.name.removesuffix("_us") == option)
        assert low <= field.default <= high


def test_names_are_different() -> None:
    """Their names are keys, their classes are looked up by name when the killer receives them."""
    assert len({each.name for each in ALL}) == len({each.__name__ for each in ALL}) == len(ALL)


@pytest.mark.parametrize(
    ("step", "words"),
    [
        (NotifyStep(), "tell people"),
        (NotifyStep(30 * SECOND_US), "tell people, wait 30s"),
        (ReclaimStep(), "reclaim 5% of what is chosen, wait 10s"),
        (
            ReclaimStep(Threshold(size_bytes=64 * MIB), of="/a,/b/*", timeout_us=SECOND_US),
            "reclaim 64MiB of /a or /b/*, wait 1s",
        ),
        (ThrottleStep(), "throttle what is chosen to what it uses (for at most 60s), wait 10s"),
        (ThrottleStep(0.9, of="/a"), "throttle /a to 90% of what it uses (for at most 60s), wait 10s"),
        (FreezeStep(), "freeze what is chosen (for at most 30s), wait 10s"),
        (RestartStep("nginx"), "restart nginx, wait 30s"),
        (RestartStep(), "restart the service that is chosen, wait 30s"),
    ],
)
def test_words(step: Any, words: str) -> None:
    """As `oomd check` says them."""
    assert step.words() == words


def test_unit_names() -> None:
    """A service where no kind is given."""
    assert [RestartStep(each).unit_name for each in ("nginx", "nginx.service", "")] == [
        "nginx.service",
        "nginx.service",
        "",
    ]


def test_every_gentle_step_has_a_time() -> None:
    """The ladder goes on after it, whatever becomes of the step."""
    assert all("timeout_us" in {field.name for field in fields(each)} for each in GENTLE)

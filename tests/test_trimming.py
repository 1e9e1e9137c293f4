"""Programs are asked to trim: what the outside process is told, and when nobody is asked."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from oomd.config.loader import default_config
from oomd.engine.detection import initial_state
from oomd.model.telling import LowMemoryOptions, TellOptions
from oomd.model.units import GIB, MIB
from oomd.trimming import Trimming
from tests.fakes.builders import status

ON = replace(default_config(), tell=TellOptions(low_memory_monitor=LowMemoryOptions()))


def told(config: Any, *available: int | None) -> list[dict[str, Any]]:
    """What was told while this much was available; None for a loop that has not looked yet."""
    events: list[dict[str, Any]] = []
    trimming = Trimming(config, lambda event, **content: events.append({"event": event, **content}))
    state = initial_state(config.rules)
    for second, amount in enumerate(available, 1):
        seen = None if amount is None else status(time_us=second * 1_000_000, mem_available_bytes=amount)
        trimming.on_tick(SimpleNamespace(glanced=None, status=seen, state=state))  # type: ignore[arg-type]
    return events


def test_levels_are_told_with_what_is_left() -> None:
    """Nothing before the first look; then each level once."""
    events = told(ON, None, 4 * GIB, 1000 * MIB, 1000 * MIB, 100 * MIB)
    assert [event["level"] for event in events] == [50, 255]
    assert events[0] == {"event": "shortage", "level": 50, "status": {"available_bytes": 1000 * MIB}}


def test_nobody_is_asked_to_trim_unless_that_is_wanted() -> None:
    """It is off."""
    assert told(replace(ON, tell=TellOptions()), 100 * MIB) == []


@pytest.mark.parametrize(
    ("changes", "why"), [({"budget_bytes": GIB}, "a budget says"), ({"dry_run": True}, "a dry run")]
)
def test_nobody_is_asked_for_what_is_not_the_machines_need(changes: dict[str, Any], why: str) -> None:
    """A budget, which is not the machine's affair; a dry run. Who has asked for it is told."""
    (event,) = told(replace(ON, **changes), 100 * MIB)
    assert event["event"] == "note"
    assert "no program is asked to trim" in event["text"]
    assert why in event["text"]

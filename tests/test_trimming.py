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


def test_above_the_highest_level_nobody_needs_to_look() -> None:
    """Where it is off nobody ever does; where a level was told everybody does, until its end was."""
    state = initial_state(ON.rules)

    def floor(config: Any, *available: int) -> int | None:
        trimming = Trimming(config, lambda event, **content: None)
        loop: Any = SimpleNamespace(glanced=None, status=None, state=state)
        for number, amount in enumerate(available):
            loop.status = status(
                time_us=(1 + 20 * number) * 1_000_000, mem_available_bytes=amount, anon_bytes=8 * GIB - amount
            )
            trimming.on_tick(loop)
        return trimming.floor_bytes(loop)

    assert floor(replace(ON, tell=TellOptions()), 4 * GIB) == 0
    assert floor(ON) is None
    limit = LowMemoryOptions().low.resolve_bytes(8 * GIB)
    assert floor(ON, 4 * GIB) == limit
    assert floor(ON, 4 * GIB, limit - MIB) is None
    assert floor(ON, 4 * GIB, limit - MIB, 4 * GIB) == limit


def test_what_was_glanced_at_comes_first() -> None:
    """Stall since the last glance is not stall since the last full look."""
    events: list[Any] = []
    trimming = Trimming(ON, lambda event, **content: events.append(content["level"]))
    loop: Any = SimpleNamespace(glanced=None, state=initial_state(ON.rules), status=status(mem_available_bytes=4 * GIB))
    trimming.on_tick(loop)
    loop.glanced = status(time_us=60_000_000, mem_available_bytes=4 * GIB)
    loop.status = status(time_us=63_000_000, mem_available_bytes=GIB, psi_full_us=1_000_000, anon_bytes=5 * GIB)
    trimming.on_tick(loop)
    assert events == [100]  # a third of three seconds; of sixty it would be nothing

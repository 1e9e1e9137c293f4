"""Units' settings as they are told, merged by who says them."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest

from oomd.model.managed import MOST_UNITS, ManagedUnit, plain_units, read_units
from oomd.outside.settings import (
    MOST_PER_USER,
    SYSTEM,
    Entry,
    Settings,
    parse_limit,
    parse_show,
    parse_span,
    read_element,
)

if TYPE_CHECKING:
    from pathlib import Path

PRESSURE, SWAP = "ManagedOOMMemoryPressure", "ManagedOOMSwap"


def element(path: str, name: str = PRESSURE, mode: str = "kill", **more: Any) -> dict[str, Any]:
    """One element of ``cgroups``."""
    return {"mode": mode, "path": path, "property": name, **more}


@pytest.mark.parametrize(
    ("told", "entry"),
    [
        (element("/a"), Entry()),
        (element("/a", limit=0, duration=0), Entry()),
        (element("/a", limit=(1 << 32) - 1), Entry(limit=1.0)),
        (element("/a", limit=858993459, duration=2_000_000), Entry(limit=0.2, duration_us=2_000_000)),
        (element("/a", limit=1 << 32), Entry()),
        (element("/a", mode="auto"), None),
        (element("/a", SWAP), Entry()),
        (element(""), Entry()),
    ],
)
def test_elements(told: dict[str, Any], entry: Entry | None) -> None:
    """kill sets, auto forgets; an absent or impossible limit is the default. The root slice's path may be empty."""
    assert read_element(told) == (told["path"] or "/", told["property"], entry)


@pytest.mark.parametrize(
    "told",
    [
        None,
        [],
        {},
        element("/a", "OOMRules"),
        element("/a", mode="maybe"),
        element("/../a"),
        element("/a*"),
        {"path": 1},
    ],
)
def test_what_is_not_understood(told: Any) -> None:
    """A later systemd's properties, and nonsense, are passed over."""
    assert read_element(told) is None


def test_news() -> None:
    """Elements are news of one property each; what is not named stays as it was."""
    settings = Settings()
    settings.hear(SYSTEM, [element("/b", SWAP), element("/a", limit=(1 << 32) - 1), element("/a", SWAP)])
    assert settings.units()[0] == [ManagedUnit("/a", swap=True, pressure=True, limit=1.0), ManagedUnit("/b", swap=True)]
    settings.hear(SYSTEM, [element("/a", SWAP, "auto"), element("/b", SWAP, "auto"), None])
    assert settings.units()[0] == [ManagedUnit("/a", pressure=True, limit=1.0)]
    settings.replace(SYSTEM, {})
    assert settings.units() == ([], 0)
    settings.hear(SYSTEM, "nonsense")
    assert settings.units() == ([], 0)


@pytest.mark.skipif(os.getuid() != 0, reason="needs root, to give a folder away")
def test_users(tmp_path: Path) -> None:
    """A user speaks for cgroups that are his, and root for all; when he hangs up his words are gone. The system's
    manager is believed first, and what it said does not go with a user's ``auto``.
    """
    (tmp_path / "mine").mkdir()
    os.chown(tmp_path / "mine", 4711, 4711)
    (tmp_path / "other").mkdir()
    root = str(tmp_path)
    settings = Settings()
    settings.hear(7, [element("/mine", limit=1 << 30), element("/other"), element("/gone")], 4711, root)
    assert [unit.path for unit in settings.units()[0]] == ["/mine"]
    settings.hear(8, [element("/other")], 0, root)
    settings.hear(SYSTEM, [element("/mine", limit=(1 << 32) - 1)])
    settings.hear(7, [element("/mine", mode="auto")], 4711, root)
    assert [(unit.path, unit.limit) for unit in settings.units()[0]] == [("/mine", 1.0), ("/other", None)]
    settings.forget(8)
    settings.forget(8)
    assert [unit.path for unit in settings.units()[0]] == ["/mine"]
    assert settings.knows(SYSTEM)
    assert not settings.knows(8)


def test_a_user_has_few_entries(tmp_path: Path) -> None:
    """However many he reports; one that he has he may change."""
    settings = Settings()
    for number in range(MOST_PER_USER + 5):
        (tmp_path / f"{number}").mkdir()
    uid = os.getuid() or 4711
    for path in tmp_path.iterdir():
        os.chown(path, uid, -1)
    settings.hear(7, [element(f"/{number}") for number in range(MOST_PER_USER + 5)], uid, str(tmp_path))
    settings.hear(7, [element("/0", limit=1 << 31)], uid, str(tmp_path))
    units, _ = settings.units()
    assert len(units) == MOST_PER_USER
    assert units[0].limit == pytest.approx(0.5)


def test_a_unit_that_has_ended_is_forgotten(tmp_path: Path) -> None:
    """Its cgroup is gone when the user's manager takes its word back: nobody owns that any more. Whoever starts and
    stops units all day is heard in the evening as well.
    """
    settings, uid = Settings(), os.getuid() or 4711
    for number in range(MOST_PER_USER + 5):
        folder = tmp_path / f"{number}"
        folder.mkdir()
        os.chown(folder, uid, -1)
        settings.hear(7, [element(f"/{number}")], uid, str(tmp_path))
        assert [unit.path for unit in settings.units()[0]] == [f"/{number}"]
        folder.rmdir()
        settings.hear(7, [element(f"/{number}", mode="auto")], uid, str(tmp_path))
        assert settings.units()[0] == []


def test_the_higher_ones_are_heard() -> None:
    """Where there are more units than are watched, those nearer to the root are."""
    settings = Settings()
    deep = [element(f"/z.slice/{number:04}") for number in range(MOST_UNITS + 5)]
    settings.hear(SYSTEM, [*deep, element("/z.slice"), element("/a.slice/b/c")])
    units, left_out = settings.units()
    assert (len(units), left_out) == (MOST_UNITS, 7)
    assert units[0].path == "/z.slice"
    assert read_units(plain_units(units)) == tuple(units)


SHOW = """ControlGroup=/work.slice
ActiveState=active
ManagedOOMSwap=auto
ManagedOOMMemoryPressure=kill
ManagedOOMMemoryPressureLimit=858993459
ManagedOOMMemoryPressureDurationUSec=3s

ControlGroup=
ManagedOOMSwap=kill

ControlGroup=/
ManagedOOMSwap=kill
ManagedOOMMemoryPressure=kill
ManagedOOMMemoryPressureLimit=0
ManagedOOMMemoryPressureDurationUSec=[not set]
"""


def test_show() -> None:
    """What systemctl shows of many units; a unit that does not run has no cgroup."""
    assert parse_show(SHOW) == {
        ("/work.slice", PRESSURE): Entry(0.2, 3_000_000),
        ("/", SWAP): Entry(),
        ("/", PRESSURE): Entry(),
    }
    assert parse_show("") == {}


@pytest.mark.parametrize(
    ("text", "limit"),
    [("0", None), ("4294967295", 1.0), ("60%", 0.6), ("55.5%", 0.555), ("", None), ("many", None), ("200%", None)],
)
def test_limits(text: str, limit: float | None) -> None:
    """Of 2^32 - 1, or in per cent."""
    assert parse_limit(text) == limit


@pytest.mark.parametrize(
    ("text", "span_us"),
    [
        ("2s", 2_000_000),
        ("1min 30s", 90_000_000),
        ("1.5s", 1_500_000),
        ("500ms", 500_000),
        ("1h 1us", 3_600_000_001),
        ("20000000", 20_000_000),
        ("18446744073709551615", None),
        ("0", None),
        ("infinity", None),
        ("[not set]", None),
        ("", None),
        ("2s later", None),
    ],
)
def test_spans(text: str, span_us: int | None) -> None:
    """As systemd writes time."""
    assert parse_span(text) == span_us

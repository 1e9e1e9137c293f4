"""What oomctl prints."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from oomd.model.managed import ManagedOptions, ManagedUnit, plain_managed
from oomd.outside.oomctl import Group, format_bytes, format_span, read_group, render_dump
from tests.fakes.cgroup_tree import CgroupTree

if TYPE_CHECKING:
    from pathlib import Path

GIB = 1 << 30
STATUS: dict[str, Any] = {
    "dry_run": False,
    "status": {
        "mem_total_bytes": 4 * GIB,
        "mem_available_bytes": GIB,
        "swap_total_bytes": 0,
        "swap_free_bytes": 0,
    },
    "rulesets": [{"ruleset": "level", "fired": True, "evidence": [{"text": "24 MiB available"}]}, {"ruleset": "new"}],
    "kills": [{"comm": "hog", "pid": 7, "phase": "kill", "returned_bytes": GIB // 2, "expected_bytes": GIB}],
}
UNITS = (
    ManagedUnit("/", swap=True),
    ManagedUnit("/a.slice", swap=True, pressure=True, limit=0.2, duration_us=3_000_000),
    ManagedUnit("/b.slice", pressure=True),
)


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0B"),
        (1023, "1023B"),
        (1024, "1.0K"),
        (1536, "1.5K"),
        ((1 << 20) - 1, "1023.9K"),
        (3 << 30, "3.0G"),
        (1 << 62, "infinity"),
    ],
)
def test_sizes(size: int, text: str) -> None:
    """As systemd writes them."""
    assert format_bytes(size) == text


@pytest.mark.parametrize(
    ("span_us", "text"),
    [
        (0, "0ms"),
        (250_000, "250ms"),
        (1_000_000, "1s"),
        (90_000_000, "1min 30s"),
        (3_600_000_000, "1h"),
        (90_061_000_000, "1d 1h 1min 1s"),
    ],
)
def test_spans(span_us: int, text: str) -> None:
    """As systemd.time(7) reads them."""
    assert format_span(span_us) == text


def test_group_as_its_files_show_it(tmp_path: Path) -> None:
    """Everything that is there; 0 for what is not, or cannot be read."""
    tree = CgroupTree(tmp_path)
    tree.add_group("/a.slice", current=3 * GIB, swap=GIB, pgscan=7)
    (tmp_path / "a.slice" / "memory.min").write_text("max\n", encoding="ascii")
    (tmp_path / "a.slice" / "memory.low").write_text("4096\n", encoding="ascii")
    (tmp_path / "a.slice" / "memory.pressure").write_text(
        "some avg10=1.00 avg60=0.00 avg300=0.00 total=5\nfull avg10=12.34 avg60=5.00 avg300=0.10 total=90000000\n",
        encoding="ascii",
    )
    group = read_group(str(tmp_path), "/a.slice", {"/a.slice": 5})
    assert (group.current_bytes, group.swap_bytes, group.pgscan, group.last_pgscan) == (3 * GIB, GIB, 7, 5)
    assert (format_bytes(group.min_bytes), group.low_bytes) == ("infinity", 4096)
    assert group.full is not None
    assert (group.full.avg10, group.full.total_us) == (0.1234, 90_000_000)
    assert read_group(str(tmp_path), "/gone.slice", {}) == Group("/gone.slice")
    (tmp_path / "a.slice" / "memory.pressure").write_text("nonsense\n", encoding="ascii")
    assert read_group(str(tmp_path), "/a.slice", {}).full is None


def test_dump(tmp_path: Path) -> None:
    """Section by section, what a person and TEST-55 of systemd look for; then what only we have."""
    tree = CgroupTree(tmp_path)
    tree.add_group("/a.slice", current=GIB, swap=GIB // 2, pgscan=7)
    groups = {unit.path: read_group(str(tmp_path), unit.path, {}) for unit in UNITS}
    options = ManagedOptions(swap_limit=0.8, pressure_limit=0.55, pressure_duration_us=5_000_000)
    text = render_dump({"status": STATUS, "managed": plain_managed(options, UNITS)}, groups)
    assert text.splitlines()[:13] == [
        "Dry Run: no",
        "Swap Used Limit: 80.00%",
        "Default Memory Pressure Limit: 55.00%",
        "Default Memory Pressure Duration: 5s",
        "System Context:",
        "\tMemory: Used: 3.0G Total: 4.0G",
        "\tSwap: Used: 0B Total: 0B",
        "Swap Monitored CGroups:",
        "\tPath: /",
        "\t\tSwap Usage: (see System Context)",
        "\tPath: /a.slice",
        "\t\tSwap Usage: 512.0M",
        "Memory Pressure Monitored CGroups:",
    ]
    watched = text.partition("Memory Pressure Monitored CGroups:\n")[2]
    assert watched.splitlines()[:4] == [
        "\tPath: /a.slice",
        "\t\tMemory Pressure Limit: 20.00%",
        "\t\tMemory Pressure Duration: 3s",
        "\t\tPressure: Avg10: 0.00 Avg60: 0.00 Avg300: 0.00 Total: 0ms",
    ]
    assert "\t\tPgscan: 7\n\t\tLast Pgscan: 0\n\tPath: /b.slice\n\t\tMemory Pressure Limit: 55.00%\n" in watched
    assert "\t\tPressure: not there\n" in watched
    assert text.endswith(
        "Rules:\n\tlevel: fires\n\t\t24 MiB available\n\tnew: does not fire\n"
        "Kills Under Way:\n\thog (7): kill, 512.0M of 1.0G back\n"
    )


def test_before_the_first_look() -> None:
    """A killer that has just started has seen nothing yet."""
    text = render_dump({"status": STATUS | {"status": None}, "managed": plain_managed(ManagedOptions(), ())}, {})
    assert "System Context:\nSwap Monitored CGroups:\nMemory Pressure Monitored CGroups:\nRules:\n" in text

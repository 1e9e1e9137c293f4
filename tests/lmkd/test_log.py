"""lmkd's own words."""

from __future__ import annotations

from oomd.lmkd.log import MEMINFO, kill_line, killinfo_line
from tests.lmkd.machine import facts


def test_kill_line() -> None:
    """Letter by letter what log readers look for."""
    line = kill_line("com.example", 100, 10001, 900, 5120, 64, "low watermark is breached")
    assert line == (
        "Kill 'com.example' (100), uid 10001, oom_score_adj 900 to free 5120kB rss, 64kB swap; "
        "reason: low watermark is breached"
    )


def test_killinfo_has_38_fields_in_order() -> None:
    """Each where readers look for it; what a kernel lacks is 0."""
    look = facts(stall=0.125, **{name: number for number, name in enumerate(MEMINFO, 100) if name != "IonHeap"})
    fields = killinfo_line((1, 2, 3, 4, 5, 6), look, (26, 27, 28, 29), (30, 31, 32, 33)).strip("[]").split(",")
    assert len(fields) == 38
    assert fields[:6] == ["1", "2", "3", "4", "5", "6"]
    assert fields[6:25] == [str(number) if number != 116 else "0" for number in range(100, 119)]
    assert fields[25:33] == ["26", "27", "28", "29", "30", "31", "32", "33"]
    assert fields[33:] == ["12.50", "12.50", "0.00", "0.00", "0.00"]

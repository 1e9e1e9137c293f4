"""The rehearsal before READY costs the same on a small and on a large machine."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

from oomd import rehearsal
from oomd.kernel.files import PAGE_BYTES
from oomd.monitor.census import SizeReader
from oomd.rehearsal import read_everybody, rehearse
from tests.ends import at_end
from tests.integration.way_to_a_kill import build

if TYPE_CHECKING:
    from collections.abc import Callable, Container

    import pytest

    from oomd.monitor.census import Sizes

FEW, MANY = 2, 12
"""How many are read, and how many processes of our own there are at least."""


class Counting(SizeReader):
    """Notes how many are asked for."""

    def __init__(self) -> None:
        super().__init__(os.open("/proc", os.O_RDONLY | os.O_DIRECTORY), PAGE_BYTES)
        self.seen: list[int] = []

    def read(self, skip: Container[int], *, swapped: bool, enough: Callable[[int, int], bool] | None = None) -> Sizes:
        """As ever."""
        sizes = super().read(skip, swapped=swapped, enough=enough)
        self.seen.append(len(sizes))
        return sizes


def test_only_some_are_read_before_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    """The newest, and nothing that counts as a scan: whoever is to be chosen later is chosen among everybody."""
    monkeypatch.setattr(rehearsal, "MOST_READ", FEW)
    for _ in range(MANY):
        sleeper = subprocess.Popen(["sleep", "1000"])
        at_end(sleeper.wait)
        at_end(sleeper.kill)
    loop = build([])
    table, reader = loop.parts.table, Counting()
    table._whole, table.reader = False, reader  # as on a whole machine; the gate lets nobody through all the same
    rehearse(loop)
    assert reader.seen
    assert max(reader.seen) <= FEW
    assert table.ration.scanned_us is None
    read_everybody(loop)
    assert reader.seen[-1] > FEW
    assert table.ration.scanned_us is not None

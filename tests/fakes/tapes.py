"""What a tape hands out, as the recorder reads it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from oomd.outside.recorder import ticks_of

if TYPE_CHECKING:
    from oomd.model.report import Plain
    from oomd.monitor.tape import Tape


def drained(tape: Tape) -> list[list[Plain]]:
    """All of it, part by part."""
    found: list[list[Plain]] = []
    more = True
    while more:
        parts, more = tape.drain()
        found += [ticks_of(part) for part in parts]
    return found

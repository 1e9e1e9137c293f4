"""What a reaper backend is."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    class Reaper(Protocol):
        """Strips the memory of a process that was sent SIGKILL just before."""

        name: str

        def reap(self, pidfd: int) -> int:
            """0, or the errno that ended it. May take hundreds of milliseconds; runs in the caller's thread and
            priority.
            """

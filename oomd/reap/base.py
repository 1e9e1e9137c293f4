"""What a reaper backend is."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    class Reaper(Protocol):
        """Gets the memory of a process back that was sent its last signal just before."""

        @property
        def name(self) -> str:
            """Its name in the configuration."""

        @property
        def lifts(self) -> bool:
            """Whether what hinders the victim is lifted beside it."""

        def reap(self, pidfd: int) -> int:
            """0, or the errno that ended it. May take hundreds of milliseconds; runs in the caller's thread and
            priority.
            """

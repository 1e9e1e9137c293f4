"""No reaping: the victim frees its memory by itself, when it gets to run."""

from __future__ import annotations

import errno


class NoReaper:
    """Leaves the victim alone."""

    name = "none"
    lifts = False

    def reap(self, pidfd: int) -> int:  # noqa: ARG002 - the interface of a reaper
        """Does nothing, and says so: ENOSYS."""
        return errno.ENOSYS

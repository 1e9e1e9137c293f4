"""How much of its anonymous memory a process did not touch lately, from what smaps_rollup tells time and again."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from oomd.kernel.smaps import Rollup

LEAST_US = 1_000_000
"""What was not touched in a shorter time is not therefore cold."""


class Touches:
    """Of one process.

    Unless the kernel was made to forget (clear_refs) what counts as touched is whatever was since the kernel itself
    looked last: while memory is plentiful, nearly everything. Then ``untouched_bytes`` is the least that is cold.
    """

    __slots__ = ("_rest_bytes", "_touched_bytes", "forgot_us", "over_us", "untouched_bytes")

    def __init__(self) -> None:
        self.untouched_bytes: int | None = None
        """None: not known."""
        self.over_us = 0
        """Over how long that was watched; 0: since the kernel itself looked last."""
        self.forgot_us: int | None = None
        """When the kernel was last asked to forget."""
        self._rest_bytes: int | None = None
        """What counted as touched right after that (files); None where the kernel did not forget."""
        self._touched_bytes = 0
        """The most that was seen touched since: reclaim may have forgotten some of it again."""

    def note(self, rollup: Rollup, now_us: int, forgot: int | None) -> None:
        """Another reading. ``forgot``: 0 where the kernel forgot just before it, else the errno; None where it was not
        asked to.
        """
        if forgot is not None:
            self.forgot_us, self._touched_bytes = now_us, 0
            self._rest_bytes = rollup.referenced_bytes if forgot == 0 else None
        if self.forgot_us is None or self._rest_bytes is None or rollup.referenced_bytes is None:
            self.untouched_bytes, self.over_us = rollup.untouched_bytes, 0
            return
        self._touched_bytes = max(self._touched_bytes, rollup.referenced_bytes - self._rest_bytes)
        watched_us = now_us - self.forgot_us
        if watched_us >= LEAST_US:  # until then what was found out the last time is better
            self.untouched_bytes = max(0, rollup.anonymous_bytes - self._touched_bytes)
            self.over_us = watched_us

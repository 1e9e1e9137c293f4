"""The cgroups that the rules look at, read no more often than it is worth."""

from __future__ import annotations

from oomd.kernel.cgroup import CGROUP_ROOT, cgroup2_root
from oomd.model.ruleset import NOTHING
from oomd.monitor.cgroups import EVERYTHING, CgroupReader

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from oomd.model.ruleset import Wants
    from oomd.model.snapshot import Cgroup

SOONEST_US = 100_000
"""Nothing is read anew sooner than this."""
OVERHEAD = 20
"""Reading takes at most one part in so many of the time."""
CHOICE_FILES = frozenset(
    {
        "memory.current",
        "memory.swap.current",
        "memory.stat",
        "memory.min",
        "memory.low",
        "memory.max",
        "memory.oom.group",
        "cgroup.events",
    }
)
"""What every choice among cgroups looks at."""


class CgroupWatch:
    """Opens the hierarchy when a rule wants it, and not before."""

    def __init__(
        self,
        root: str,
        *,
        xattrs: Mapping[str, Mapping[str, str]] | None = None,
        owners: Mapping[str, int] | None = None,
    ) -> None:
        """``root``: where a recorded tree lies; :data:`CGROUP_ROOT` stands for wherever cgroup2 is mounted. ``xattrs``
        and ``owners``, by path, take the place of what a recorded tree could not keep.
        """
        self._root = root
        self._xattrs = xattrs
        self._owners = owners
        self._reader: CgroupReader | None = None
        self._wants = NOTHING
        self._seen: tuple[Cgroup, ...] = ()
        self._next_us = 0

    @property
    def reader(self) -> CgroupReader | None:
        """The reader, where a rule wants one and there are cgroups."""
        return self._reader

    def want(self, wants: Wants, *, choices: bool) -> None:
        """What :meth:`look` reads from now on; ``choices``: whether any rule chooses among cgroups."""
        self._wants = wants
        self._seen, self._next_us = (), 0
        if self._reader is None and (wants.cgroups or choices):
            root = cgroup2_root() if self._root == CGROUP_ROOT else self._root
            try:
                self._reader = None if root is None else CgroupReader(root, xattrs=self._xattrs, owners=self._owners)
            except OSError:
                self._reader = None

    def look(self, clock_us: Callable[[], int]) -> tuple[Cgroup, ...]:
        """The cgroups that detectors want, now or as of a moment ago."""
        now = clock_us()
        if self._reader is not None and self._wants.cgroups and now >= self._next_us:
            self._seen = self._reader.read(self._wants.cgroups, now, self._wants.files, keep=True)
            end = clock_us()
            self._next_us = max(now + SOONEST_US, end + OVERHEAD * (end - now))
        return self._seen

    def choice(self, wants: Wants, now_us: int) -> tuple[Cgroup, ...]:
        """The cgroups among which is chosen, with all that the choice looks at; their ancestors for what those hand
        down.
        """
        if self._reader is None or not wants.cgroups:
            return ()
        patterns = {*wants.cgroups, *(above for pattern in wants.cgroups for above in _ancestors(pattern))}
        return self._reader.read(sorted(patterns), now_us, (CHOICE_FILES | wants.files) & EVERYTHING)

    def close(self) -> None:
        """Let go of the hierarchy."""
        if self._reader is not None:
            self._reader.close()
            self._reader = None


def _ancestors(pattern: str) -> list[str]:
    found = []
    while pattern.count("/") > 1:
        pattern = pattern.rpartition("/")[0]
        if not pattern.endswith("**"):
            found.append(pattern)
    return found

"""Whether a cgroup is there."""

from __future__ import annotations

from oomd.model.decision import Evidence
from oomd.model.globs import matches_any, split_patterns
from oomd.model.ruleset import Wants
from oomd.model.values import dataclass

TYPE_CHECKING = False
if TYPE_CHECKING:
    from oomd.model.ruleset import View
    from oomd.model.units import CgroupGlob


@dataclass(frozen=True, slots=True)
class Exists:
    """A cgroup of the pattern exists, or none does: switches a ruleset on while something runs."""

    of: CgroupGlob
    absent: bool = False
    name = "exists"
    meaning = "a cgroup exists (or none does)"
    meanings = {"of": "cgroups: /system.slice/*", "absent": "holds where there is none"}
    window_us = 0

    @property
    def wants(self) -> Wants:
        """Only to know that they are there."""
        return Wants(cgroups=split_patterns(self.of))

    def detect(self, view: View, *, firing: bool) -> Evidence:
        """Looks at paths only."""
        patterns = split_patterns(self.of)
        found = [cgroup.path for cgroup in view.cgroups if matches_any(patterns, cgroup.path)]
        text = f"{found[0]} exists" if found else f"there is no {self.of}"
        if len(found) > 1:
            text += f" (and {len(found) - 1} more)"
        return Evidence(self.name, bool(found) is not self.absent, text, value=float(len(found)))

    def words(self) -> str:
        """The rule as a sentence."""
        return f"there is {'no ' if self.absent else ''}{self.of}"

"""When nobody of all processes is worth a signal: how long that is believed while the largest ones say the same. Pure.

Reading everybody for nothing, twice a second, takes a real-time process's time from those whom it is to save.
"""

from __future__ import annotations

from oomd.engine.holding import is_critical
from oomd.model.decision import NOTIFY
from oomd.model.units import SECOND_US
from oomd.model.values import dataclass

TYPE_CHECKING = False
if TYPE_CHECKING:
    from oomd.model.decision import Decision
    from oomd.model.ruleset import EngineState, FileBlame

COST = 20
"""It is found out anew at so many times the time it took …"""
LONGEST_US = 5 * SECOND_US
"""… but no later than this."""
LOST_SHARE = 100
"""One part in so many of all memory less than was available then is reason enough as well."""


@dataclass(frozen=True, slots=True)
class Nobody:
    """That nobody was worth one, and what it hung on."""

    ruleset: str
    critical: bool
    blame: FileBlame | None
    any_left: bool
    """Whether anybody may be killed at all."""
    least_bytes: int
    """Available memory as long as it is believed."""
    until_us: int

    def explains(self, decision: Decision, state: EngineState) -> bool:
        """Whether this decision among the largest processes alone would be the same among all."""
        return (
            is_nobody(decision)
            and self.ruleset == decision.ruleset
            and self.critical == is_critical(decision)
            and self.blame == state.blame
            and self.any_left == bool(decision.ranking)
            and decision.status.available_bytes >= self.least_bytes
            and decision.status.time_us < self.until_us
        )


def is_nobody(decision: Decision) -> bool:
    """Whether somebody was to be signalled, but nobody is worth it."""
    return decision.action == NOTIFY and decision.step is None


def nobody_of(decision: Decision, state: EngineState, cost_us: int) -> Nobody:
    """Of a decision among all processes that took so long."""
    status = decision.status
    return Nobody(
        decision.ruleset,
        is_critical(decision),
        state.blame,
        bool(decision.ranking),
        status.available_bytes - status.mem_total_bytes // LOST_SHARE,
        status.time_us + min(COST * max(0, cost_us), LONGEST_US),
    )

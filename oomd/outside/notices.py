"""What people are told of a kill, or of one that is near: a few words for the owner of the victim, for nobody else."""

from __future__ import annotations

from typing import TYPE_CHECKING

from oomd.config.problems import printable
from oomd.model.units import format_duration, format_size
from oomd.model.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Callable

    from oomd.model.report import Plain

SHORT = "Memory is running out"
MOST_NAME = 200
"""Characters of a name: a cgroup's path may have thousands."""
MOST_AT_ONCE = 5
PER_S = 10.0
"""So many notices at once for one person, then one in so many seconds."""
MOST_PEOPLE = 1024


@dataclass(frozen=True, slots=True)
class Notice:
    """Words for one person."""

    uid: int
    title: str
    text: str
    urgent: bool
    """Whether it is done, and not only announced."""


def notice_of(event: Plain) -> Notice | None:
    """Words for whoever owns the victim; None where nobody loses anything: other events, a dry run."""
    decision = event.get("decision")
    if event["event"] != "decision" or event.get("dry_run") or not decision or decision["target"] is None:
        return None
    action = decision["action"]
    if action == "term":
        title, done = SHORT, "was asked to quit"
    elif action == "kill":
        title, done = "Out of memory", "was ended"
    elif action == "notify" and decision.get("step") is not None:
        wait_us = decision.get("step_us") or 0
        when = f" in {format_duration(wait_us)}" if wait_us else ""
        title, done = SHORT, f"has to go{when}, unless something else is closed"
    else:
        return None
    text = f"{_name(decision)} {done}{_back(event)}."
    return Notice(decision["target"]["uid"], title, printable(text), urgent=action != "notify")


def _name(decision: Plain) -> str:
    target = decision["target"]
    name = f"{target['comm']} ({target['pid']})"
    if decision["processes"] > 1:
        place = f"{target['kind']} {target.get('name', '')}" if target["kind"] != "process" else "its kin"
        return f"{place[:MOST_NAME]} with {name} and {decision['processes'] - 1} more"
    return name


def _back(event: Plain) -> str:
    """What it gives back, where the ranking says so."""
    leader = (event.get("ranking") or [{}])[0]
    if leader.get("pid") != event["decision"]["target"]["pid"]:
        return ""
    return f"; it gives back {format_size(leader['freeable_bytes'])}"


class Allowance:
    """How much one person is told: some at once, the rest slowly."""

    def __init__(self, clock_s: Callable[[], float]) -> None:
        self._clock_s = clock_s
        self._known: dict[int, tuple[float, float]] = {}
        """Left over, and as of when."""

    def take(self, uid: int) -> bool:
        """Whether this person may be told something now."""
        now_s = self._clock_s()
        left, then_s = self._known.get(uid, (float(MOST_AT_ONCE), now_s))
        left = min(float(MOST_AT_ONCE), left + (now_s - then_s) / PER_S)
        if len(self._known) >= MOST_PEOPLE and uid not in self._known:
            self._known.clear()
        self._known[uid] = (left - 1 if left >= 1 else left, now_s)
        return left >= 1

"""A decision that waits for hooks: whose it is when the wait is over. Pure."""

from __future__ import annotations

from oomd.model.decision import KILL, TERM
from oomd.model.values import replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from oomd.model.decision import Candidate, Decision


def is_critical(decision: Decision) -> bool:
    """Whether there is no time to wait."""
    return any(each.ruleset == decision.ruleset and each.critical for each in decision.detections)


def signals(decision: Decision) -> bool:
    """Whether somebody would be signalled."""
    return decision.action in (TERM, KILL) and decision.target is not None


def is_same(one: Candidate | None, other: Candidate | None) -> bool:
    """Whether both are the same process, or the same set led by it."""
    return one is not None and other is not None and _key(one) == _key(other)


def resumed(held: Decision, fresh: Decision) -> Decision:
    """The decision to carry out once hooks were waited for: the victim that they were told of, as it is now, if the
    same rules may still take it; else whoever is chosen now.
    """
    if held.ruleset != fresh.ruleset or not signals(fresh):
        return fresh
    victim = next((each for each in fresh.ranking if is_same(each, held.target)), None)
    if victim is None or is_same(victim, fresh.target):
        return fresh
    return replace(fresh, target=victim, reason=held.reason)


def _key(candidate: Candidate) -> tuple[object, ...]:
    if candidate.kind == "process":
        return (candidate.process.id,)
    return candidate.kind, candidate.name

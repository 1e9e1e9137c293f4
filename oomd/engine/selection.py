"""Select: who has to go, if anybody. Pure: rules, a snapshot, detections and the state in, a decision out."""

from __future__ import annotations

from oomd.engine.blame import taken_by_files
from oomd.engine.detection import among_of
from oomd.engine.eligibility import freeable_bytes, sift
from oomd.engine.levels import Ranking, rank
from oomd.engine.marks import NORMAL, PREFER
from oomd.model.decision import KILL, NO_ACTION, NOTIFY, TERM, Candidate, Decision, Detection, Rejection
from oomd.model.ruleset import NEVER, NOTHING, PROCESS, EngineState, Rules, Ruleset, Wants
from oomd.model.snapshot import Cgroup, MemoryStatus, Snapshot
from oomd.model.units import MIB, format_duration, format_size
from oomd.model.values import replace
from oomd.policies.freeable import NEAR
from oomd.policies.ranking import PREFER_SHARE

WORTH_WAITING_BYTES = 64 * MIB
"""A process that somebody else killed and that still owns this much is waited for before another one dies."""

MOST_NAMED = 5
"""Processes that a reason names."""


def fired(detections: tuple[Detection, ...]) -> Detection | None:
    """The alarm to act on: the first critical one, else the first that fired."""
    alarms = [detection for detection in detections if detection.fired]
    return next((alarm for alarm in alarms if alarm.critical), alarms[0] if alarms else None)


def may_add(alarm: Detection, state: EngineState) -> bool:
    """Whether this alarm may ask for a victim while others are under way: only at the critical level, and while a
    killed one's memory is still to come only where the evidence has counted it. All rulesets share this: no two kill
    for the same shortage.
    """
    if not state.credits:
        return True
    if not alarm.critical:
        return False
    held = [piece for piece in alarm.evidence if piece.holds]
    killed = any(credit.phase == KILL for credit in state.credits)
    return not killed or not held or any(piece.after_credit for piece in held)


def wanted_cgroups(rules: Rules, detections: tuple[Detection, ...]) -> Wants:
    """What the choice for these detections must see of cgroups; nothing where it is made among processes alone."""
    ruleset = _ruleset_of(rules, fired(detections))
    patterns = among_of(ruleset)
    if ruleset.policy is None or not patterns:
        return NOTHING
    return replace(ruleset.policy.wants, cgroups=patterns)


def wants_everybody(rules: Rules, detections: tuple[Detection, ...]) -> bool:
    """Whether the choice must see every process: where several die as one, or the order is not by size."""
    return not takes_one_by_size(_ruleset_of(rules, fired(detections)))


def takes_one_by_size(ruleset: Ruleset) -> bool:
    """Whether it takes one process, and none whose score is above its size: then the largest are enough to look at."""
    return ruleset.choice.level == PROCESS and (ruleset.policy is None or ruleset.policy.by_size)


def select(rules: Rules, snapshot: Snapshot, detections: tuple[Detection, ...], state: EngineState) -> Decision:
    """The decision for these detections, with all its reasons; ``none`` when nothing fired, or when waiting is better.

    A decision ``none`` with a target waits for that target: it is dying already, by somebody else's hand.
    """
    ruleset = _ruleset_of(rules, fired(detections))
    return decide(ruleset, snapshot, detections, state, order_of(rules, ruleset, snapshot, state))


def order_of(rules: Rules, ruleset: Ruleset, snapshot: Snapshot, state: EngineState) -> Ranking:
    """Whom this ruleset would take, best first, and who is spared, whether or not anything fired."""
    uid = _monitored_uid(ruleset, snapshot)
    candidates, rejected = sift(snapshot, rules.preferences, state, monitored_uid=uid)
    omit_last = rules.preferences.omit != NEVER
    return rank(ruleset, _with_past(snapshot, ruleset, state), candidates, rejected, omit_last=omit_last)


def decide(
    ruleset: Ruleset, snapshot: Snapshot, detections: tuple[Detection, ...], state: EngineState, order: Ranking
) -> Decision:
    """The decision for these detections, of which ``ruleset`` is the one to act on, with its order."""
    alarm = fired(detections)
    ranking = order.ranked
    decision = Decision(
        NO_ACTION,
        "nothing fired: there is memory enough",
        snapshot.status,
        ruleset=alarm.ruleset if alarm else "",
        detections=detections,
        ranking=ranking,
        rejected=order.rejected,
    )
    if alarm is None:
        return decision
    if snapshot.status.time_us < state.resting_until_us:
        rest = format_duration(state.resting_until_us - snapshot.status.time_us)
        return replace(decision, reason=f"killing did not bring memory back; resting for {rest} more")
    if not may_add(alarm, state):
        waits = [f"{credit.process.comm} ({credit.process.id.pid})" for credit in state.credits]
        more = f" and {len(waits) - MOST_NAMED} more" if len(waits) > MOST_NAMED else ""
        names = ", ".join(waits[:MOST_NAMED]) + more
        return replace(decision, reason=f"waiting for what {names} gives back")
    dying = _dying_already(order.rejected, state)
    if dying is not None:
        reason = f"{dying.process.comm} ({dying.process.id.pid}) is dying already and gives back {_size(dying)}"
        return replace(decision, reason=reason, target=dying)
    if not ranking:
        return replace(decision, action=NOTIFY, reason=f"{alarm.ruleset}: nobody may be killed")
    files = "" if alarm.critical else taken_by_files(state.blame, snapshot)
    if files:
        return replace(decision, action=NOTIFY, reason=f"{alarm.ruleset}: {_evidence(alarm)}; {files}")
    verdict = _verdict(decision, alarm, ruleset, ranking[0])
    return replace(verdict, reason=f"{verdict.reason}; {order.note}") if order.note else verdict


def is_proved(decision: Decision, rules: Rules, rest_bytes: int, unexamined_bytes: int, last: frozenset[int]) -> bool:
    """Whether nobody who was not looked at would stand before the target. None of them owns more than ``rest_bytes``,
    and of those below ``unexamined_bytes`` it is not known whether they are preferred; ``last`` are the roots of tree
    scopes. Two that differ by less than a near-tie are as good as each other.
    """
    target = decision.target
    if target is None or target.preference not in (PREFER, NORMAL) or target.standing:
        return False  # somebody smaller may be of those who go first
    if target.process.id.pid in last or rest_bytes * NEAR > target.score:
        return False
    names = rules.preferences.prefer
    if target.preference == PREFER or not (names.patterns or names.matches):
        return True
    largest = max(each.freeable_bytes for each in decision.ranking if each.preference == NORMAL)
    return unexamined_bytes * PREFER_SHARE < largest


def completed(decision: Decision, status: MemoryStatus, detections: tuple[Detection, ...]) -> Decision:
    """A decision that was made in advance and carried out, with what was seen then as its reasons."""
    assert decision.target is not None
    alarm = next((each for each in detections if each.ruleset == decision.ruleset), None)
    if alarm is None:
        return replace(decision, status=status, detections=detections)
    return replace(decision, status=status, detections=detections, reason=_reason(alarm, decision))


def where_memory_is(status: MemoryStatus) -> str:
    """Where the memory lies that killing does not bring back, in words."""
    places = [
        (status.shmem_bytes, "shared memory and tmpfs"),
        (status.slab_unreclaimable_bytes, "unreclaimable slab"),
        (status.arc_bytes, "ZFS's cache"),
        (status.anon_bytes, "anonymous memory"),
    ]
    worth = sorted((place for place in places if place[0] > status.mem_total_bytes // 100), reverse=True)
    return ", ".join(f"{format_size(amount)} {name}" for amount, name in worth) or "nowhere that oomd can see"


def name_of(candidate: Candidate) -> str:
    """The candidate in words."""
    process = candidate.process
    if candidate.kind == PROCESS:
        return f"{process.comm} ({process.id.pid})"
    count = len(candidate.members)
    return f"{candidate.kind} {candidate.name} with {count} process{'es' if count != 1 else ''}"


def _monitored_uid(ruleset: Ruleset, snapshot: Snapshot) -> int:
    """The owner of the cgroup beneath which the choice is made: root, unless all patterns begin beneath cgroups of one
    and the same user.
    """
    above = {pattern.rpartition("/")[0] or "/" for pattern in ruleset.choice.among}
    owners = {cgroup.path: cgroup.owner_uid for cgroup in snapshot.cgroups}
    uids = {owners.get(path, 0) for path in above}
    return uids.pop() if len(uids) == 1 else 0


def _with_past(snapshot: Snapshot, ruleset: Ruleset, state: EngineState) -> Snapshot:
    """The snapshot with the cgroups of some seconds ago, from which the policy tells rates."""
    window = 0 if ruleset.policy is None else ruleset.policy.window_us
    if not window or not snapshot.cgroups:
        return snapshot
    earlier: tuple[Cgroup, ...] = ()
    for sample in reversed(state.history):
        if sample.cgroups and sample.time_us < snapshot.status.time_us:
            earlier = sample.cgroups
            if snapshot.status.time_us - sample.time_us >= window:
                break
    return replace(snapshot, earlier=earlier)


def _verdict(decision: Decision, alarm: Detection, ruleset: Ruleset, victim: Candidate) -> Decision:
    at_once = alarm.critical or ruleset.grace_us == 0
    verdict = replace(
        decision, action=KILL if at_once else TERM, target=victim, grace_us=0 if at_once else ruleset.grace_us
    )
    return replace(verdict, reason=_reason(alarm, verdict))


def _reason(alarm: Detection, decision: Decision) -> str:
    assert decision.target is not None
    who = f"{name_of(decision.target)} gives back {_size(decision.target)}"
    return f"{alarm.ruleset}{' (critical)' if alarm.critical else ''}: {_evidence(alarm)}; {who}"


def _evidence(alarm: Detection) -> str:
    return " and ".join(piece.text for piece in alarm.evidence if piece.holds)


def _ruleset_of(rules: Rules, alarm: Detection | None) -> Ruleset:
    """The ruleset of the alarm; the first one's policy ranks where nothing fired, for ``explain``."""
    return next((ruleset for ruleset in rules.rulesets if alarm and ruleset.name == alarm.ruleset), rules.rulesets[0])


def _dying_already(rejected: tuple[Rejection, ...], state: EngineState) -> Candidate | None:
    known = {credit.process.id for credit in state.credits} | {refusal.id for refusal in state.refusals}
    for rejection in rejected:
        process = rejection.process
        if process.is_dying and not process.out_of_scope and process.id not in known:
            freeable, measured = freeable_bytes(process)
            if freeable >= WORTH_WAITING_BYTES:
                return Candidate(process, freeable, measured, "normal", score=freeable)
    return None


def _size(candidate: Candidate) -> str:
    return format_size(candidate.freeable_bytes)

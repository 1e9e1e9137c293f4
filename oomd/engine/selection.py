"""Select: who has to go, if anybody. Pure: rules, a snapshot, detections and the state in, a decision out."""

from __future__ import annotations

from dataclasses import replace

from oomd.engine.blame import taken_by_files
from oomd.engine.eligibility import freeable_bytes, sift
from oomd.model.decision import KILL, NO_ACTION, NOTIFY, TERM, Candidate, Decision, Detection, Rejection
from oomd.model.ruleset import EngineState, Rules, Ruleset
from oomd.model.snapshot import MemoryStatus, Snapshot
from oomd.model.units import MIB, format_duration, format_size

WORTH_WAITING_BYTES = 64 * MIB
"""A process that somebody else killed and that still owns this much is waited for before another one dies."""


def fired(detections: tuple[Detection, ...]) -> Detection | None:
    """The alarm to act on: the first critical one, else the first that fired."""
    alarms = [detection for detection in detections if detection.fired]
    return next((alarm for alarm in alarms if alarm.critical), alarms[0] if alarms else None)


def select(rules: Rules, snapshot: Snapshot, detections: tuple[Detection, ...], state: EngineState) -> Decision:
    """The decision for these detections, with all its reasons; ``none`` when nothing fired, or when waiting is better.

    A decision ``none`` with a target waits for that target: it is dying already, by somebody else's hand.
    """
    alarm = fired(detections)
    ruleset = _ruleset_of(rules, alarm)
    candidates, rejected = sift(snapshot, rules.preferences, state)
    ranking = ruleset.policy.rank(candidates, snapshot) if ruleset.policy is not None else candidates
    decision = Decision(
        NO_ACTION,
        "nothing fired: there is memory enough",
        snapshot.status,
        ruleset=alarm.ruleset if alarm else "",
        detections=detections,
        ranking=ranking,
        rejected=rejected,
    )
    if alarm is None:
        return decision
    if snapshot.status.time_us < state.resting_until_us:
        rest = format_duration(state.resting_until_us - snapshot.status.time_us)
        return replace(decision, reason=f"killing did not bring memory back; resting for {rest} more")
    if state.credits and not alarm.critical:
        names = ", ".join(f"{credit.process.comm} ({credit.process.id.pid})" for credit in state.credits)
        return replace(decision, reason=f"waiting for what {names} gives back")
    dying = _dying_already(rejected, state)
    if dying is not None:
        reason = f"{dying.process.comm} ({dying.process.id.pid}) is dying already and gives back {_size(dying)}"
        return replace(decision, reason=reason, target=dying)
    if not ranking:
        return replace(decision, action=NOTIFY, reason=f"{alarm.ruleset}: nobody may be killed")
    files = "" if alarm.critical else taken_by_files(state.blame, snapshot)
    if files:
        return replace(decision, action=NOTIFY, reason=f"{alarm.ruleset}: {_evidence(alarm)}; {files}")
    return _verdict(decision, alarm, ruleset, ranking[0])


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


def _verdict(decision: Decision, alarm: Detection, ruleset: Ruleset, victim: Candidate) -> Decision:
    who = f"{victim.process.comm} ({victim.process.id.pid}) gives back {_size(victim)}"
    at_once = alarm.critical or ruleset.grace_us == 0
    return replace(
        decision,
        action=KILL if at_once else TERM,
        reason=f"{alarm.ruleset}{' (critical)' if alarm.critical else ''}: {_evidence(alarm)}; {who}",
        target=victim,
        grace_us=0 if at_once else ruleset.grace_us,
    )


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

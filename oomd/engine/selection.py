"""Select: who has to go, if anybody. Pure: rules, a snapshot, detections and the state in, a decision out."""

from __future__ import annotations

from oomd.engine.aims import aim, needs_everybody, wanted_of_step
from oomd.engine.blame import taken_by_files
from oomd.engine.detection import among_of
from oomd.engine.eligibility import freeable_bytes, sift
from oomd.engine.ladder import step_of
from oomd.engine.levels import Ranking, rank
from oomd.engine.marks import NORMAL, PREFER
from oomd.engine.pause import pause_of, pause_words
from oomd.model.decision import ASKED, KILL, NO_ACTION, NOTIFY, TERM, Candidate, Decision, Detection, Rejection
from oomd.model.ruleset import (
    GROUP,
    LAST_CGROUP_KILL,
    LAST_NOTHING,
    NEVER,
    PROCESS,
    SESSION,
    Choice,
    EngineState,
    Rules,
    Ruleset,
    Wants,
)
from oomd.model.snapshot import Cgroup, MemoryStatus, Snapshot
from oomd.model.units import MIB, format_duration, format_size
from oomd.model.values import dataclass, replace
from oomd.policies.freeable import NEAR
from oomd.policies.ranking import PREFER_SHARE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from oomd.engine.aims import Aim
    from oomd.model.steps import Gentle

WORTH_WAITING_BYTES = 64 * MIB
"""A process that somebody else killed and that still owns this much is waited for before another one dies."""

MOST_NAMED = 5
"""Processes that a reason names."""


def fired(detections: tuple[Detection, ...]) -> Detection | None:
    """The alarm to act on: the first critical one, else the first that fired and waits for no step of its ladder."""
    alarms = [detection for detection in detections if detection.fired and not detection.waits]
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


def may_choose(detections: tuple[Detection, ...], state: EngineState, now_us: int) -> bool:
    """Whether an alarm asks for a victim now: the rules of :func:`select` in short, to spare it the look at
    processes.
    """
    alarm = fired(detections)
    if alarm is None or now_us < state.resting_until_us or pause_of(state, now_us) is not None:
        return False
    return may_add(alarm, state)


def wanted_cgroups(rules: Rules, detections: tuple[Detection, ...]) -> Wants:
    """What the choice for these detections must see of cgroups; nothing where it is made among processes alone."""
    alarm = fired(detections)
    ruleset = _ruleset_of(rules, alarm)
    patterns = among_of(ruleset)
    step = wanted_of_step(step_of(ruleset, alarm))
    if ruleset.policy is None or not patterns:
        return step
    wants = ruleset.policy.wants
    return replace(wants, cgroups=(*patterns, *step.cgroups), files=wants.files | step.files)


def looks_at_cgroups(rules: Rules) -> bool:
    """Whether any choice of these rules, or any step of their ladders, is made among cgroups, or any is reclaimed."""
    steps = [step for ruleset in rules.rulesets for step in ruleset.steps]
    chosen = any(map(among_of, rules.rulesets)) or any(wanted_of_step(step).cgroups for step in steps)
    return chosen or rules.proactive is not None


def wants_everybody(rules: Rules, detections: tuple[Detection, ...]) -> bool:
    """Whether the choice must see every process: where several die as one, or the order is not by size."""
    alarm = fired(detections)
    ruleset = _ruleset_of(rules, alarm)
    return needs_everybody(step_of(ruleset, alarm)) or not takes_one_by_size(ruleset)


def takes_one_by_size(ruleset: Ruleset) -> bool:
    """Whether it takes one process, and none whose score is above its size: then the largest are enough to look at."""
    return ruleset.choice.level == PROCESS and (ruleset.policy is None or ruleset.policy.by_size)


def most_of(rules: Rules, decision: Decision) -> int:
    """How many processes this decision may take, those that join it later included."""
    ruleset = next((each for each in rules.rulesets if each.name == decision.ruleset), None)
    return Choice().most if ruleset is None else ruleset.choice.most


def wants_stat_anew(rules: Rules, detections: tuple[Detection, ...]) -> bool:
    """Whether the choice hangs on what every process may have changed since it was looked at last: its process group or
    session (setpgid(2), setsid(2)).
    """
    return _ruleset_of(rules, fired(detections)).choice.level in (GROUP, SESSION)


def select(rules: Rules, snapshot: Snapshot, detections: tuple[Detection, ...], state: EngineState) -> Decision:
    """The decision for these detections, with all its reasons; ``none`` when nothing fired, or when waiting is better.

    A decision ``none`` with a target waits for that target: it is dying already, by somebody else's hand.
    """
    ruleset = _ruleset_of(rules, fired(detections))
    return decide(ruleset, snapshot, detections, state, order_of(rules, ruleset, snapshot, state))


@dataclass(frozen=True, slots=True)
class Order:
    """Whom a ruleset would take, whether or not anything fired."""

    ranking: Ranking
    candidates: tuple[Candidate, ...]
    """Who may be taken at all, in no order."""
    rejected: tuple[Rejection, ...]
    """Who may not, by itself."""


def order_of(rules: Rules, ruleset: Ruleset, snapshot: Snapshot, state: EngineState) -> Order:
    """The order of this ruleset."""
    uid = _monitored_uid(ruleset, snapshot)
    candidates, rejected = sift(snapshot, rules.preferences, state, monitored_uid=uid)
    omit_last = rules.preferences.omit != NEVER
    ranking = rank(ruleset, _with_past(snapshot, ruleset, state), candidates, rejected, omit_last=omit_last)
    return Order(ranking, candidates, rejected)


def decide(
    ruleset: Ruleset, snapshot: Snapshot, detections: tuple[Detection, ...], state: EngineState, order: Order
) -> Decision:
    """The decision for these detections, of which ``ruleset`` is the one to act on, with its order."""
    alarm = fired(detections)
    ranking = order.ranking.ranked
    decision = Decision(
        NO_ACTION,
        "nothing fired: there is memory enough",
        snapshot.status,
        ruleset=alarm.ruleset if alarm else "",
        detections=detections,
        ranking=ranking,
        rejected=order.ranking.rejected,
    )
    if alarm is None:
        return decision
    why = _why_wait(alarm, state, snapshot.status.time_us)
    if why:
        return replace(decision, reason=why)
    dying = _dying_already(order.rejected, state)
    if dying is not None:
        reason = f"{dying.process.comm} ({dying.process.id.pid}) is dying already and gives back {_size(dying)}"
        return replace(decision, reason=reason, target=dying)
    step = step_of(ruleset, alarm)
    if step is not None:
        found = aim(step, ruleset, snapshot, ranking, order.candidates, order.rejected)
        return _gentle(decision, alarm, step, found)
    if ruleset.last == LAST_NOTHING:
        return replace(decision, reason=f"{alarm.ruleset}: its ladder is at its end, and has no kill")
    return _signal(
        decision, alarm, ruleset, order.ranking.note, "" if alarm.critical else taken_by_files(state.blame, snapshot)
    )


def _why_wait(alarm: Detection, state: EngineState, now_us: int) -> str:
    """Why nobody is taken now, whoever it would be; empty where somebody may be."""
    pause = pause_of(state, now_us)
    if pause is not None:
        return pause_words(pause, now_us)
    if now_us < state.resting_until_us:
        rest = format_duration(state.resting_until_us - now_us)
        return f"killing did not bring memory back; resting for {rest} more"
    if may_add(alarm, state):
        return ""
    waits = [f"{credit.process.comm} ({credit.process.id.pid})" for credit in state.credits]
    more = f" and {len(waits) - MOST_NAMED} more" if len(waits) > MOST_NAMED else ""
    return f"waiting for what {', '.join(waits[:MOST_NAMED])}{more} gives back"


def _signal(decision: Decision, alarm: Detection, ruleset: Ruleset, note: str, files: str) -> Decision:
    """Somebody is signalled, if anybody may be, and if it is not files that took the memory."""
    if not decision.ranking:
        return replace(decision, action=NOTIFY, reason=f"{alarm.ruleset}: nobody may be killed")
    if files:
        return replace(decision, action=NOTIFY, reason=f"{alarm.ruleset}: {_evidence(alarm)}; {files}")
    verdict = _verdict(decision, alarm, ruleset, decision.ranking[0])
    return replace(verdict, reason=f"{verdict.reason}; {note}") if note else verdict


def _gentle(decision: Decision, alarm: Detection, step: Gentle, found: Aim) -> Decision:
    """A step before any signal; without a target where there is nobody for it, and why."""
    target = found.target
    who = f"foremost is {name_of(target)}" if target is not None and step.name == NOTIFY else ""
    if target is not None and step.name != NOTIFY:
        who = f"{step.name} for {name_of(target)}"
    elif target is None:
        who = f"no {step.name}: {found.why}" if found.why else "nobody may be killed"
    return replace(
        decision,
        action=step.name,
        reason=f"{alarm.ruleset}: {_evidence(alarm)}; {who}",
        target=target,
        step=alarm.step,
        step_us=step.timeout_us,
        rejected=(*decision.rejected, *found.spared),
    )


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
        decision,
        action=KILL if at_once else TERM,
        target=victim,
        grace_us=0 if at_once else ruleset.grace_us,
        whole_cgroup=ruleset.last == LAST_CGROUP_KILL,
    )
    return replace(verdict, reason=_reason(alarm, verdict))


def _reason(alarm: Detection, decision: Decision) -> str:
    assert decision.target is not None
    who = f"{name_of(decision.target)} gives back {_size(decision.target)}"
    return f"{alarm.ruleset}{' (critical)' if alarm.critical else ''}: {_evidence(alarm)}; {who}"


def _evidence(alarm: Detection) -> str:
    held = [piece for piece in alarm.evidence if piece.holds]
    asked = [piece for piece in held if piece.detector == ASKED]  # what holds besides is not why
    return " and ".join(piece.text for piece in asked or held)


def _ruleset_of(rules: Rules, alarm: Detection | None) -> Ruleset:
    """The ruleset of the alarm; the first one's policy ranks where nothing fired, for ``explain``. Where there is none
    (units' own settings are all, and nobody has told any yet) nothing fires.
    """
    named = (ruleset for ruleset in rules.rulesets if alarm and ruleset.name == alarm.ruleset)
    return next(named, next(iter(rules.rulesets), Ruleset("", ())))


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

"""Detect: which rulesets hold now. Pure: a status and a state in, detections and the next state out."""

from __future__ import annotations

from oomd.engine.blame import blame, followed
from oomd.engine.credit import outstanding, progressed
from oomd.engine.ladder import climbed, due, takes_on
from oomd.model.decision import ASKED, Detection, Evidence
from oomd.model.history import thin
from oomd.model.ruleset import CGROUP, PROCESS_IN, EngineState, Rules, Ruleset, RulesetState, Sample, View, Wants
from oomd.model.snapshot import Cgroup, MemoryStatus
from oomd.model.values import replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from oomd.model.ruleset import Detector

SAMPLES_PER_WINDOW = 40
"""How finely every window is remembered: 50 ms of a 2 s window, whatever the tick rate. Bounds the history."""


def initial_state(rules: Rules) -> EngineState:
    """A state that remembers nothing."""
    return EngineState(rulesets=tuple(RulesetState() for _ in rules.rulesets))


def reloaded_state(state: EngineState, rules: Rules) -> EngineState:
    """The state after a reload: kills under way stay, what rulesets remember begins anew."""
    return replace(state, rulesets=tuple(RulesetState() for _ in rules.rulesets))


def carried_state(state: EngineState, before: Rules, rules: Rules) -> EngineState:
    """The state when rulesets came or went: those that stay as they were remember what they did."""
    known = {each.name: (each, memory) for each, memory in zip(before.rulesets, state.rulesets, strict=True)}
    memories = []
    for ruleset in rules.rulesets:
        former, memory = known.get(ruleset.name, (None, RulesetState()))
        memories.append(memory if former == ruleset else RulesetState())
    return replace(state, rulesets=tuple(memories))


def windows_us(rules: Rules) -> tuple[int, int]:
    """The shortest and the longest window that the detectors and policies of these rules look at; 0 for none."""
    windows = [detector.window_us for ruleset in rules.rulesets for detector in detectors_of(ruleset)]
    windows += [ruleset.policy.window_us for ruleset in rules.rulesets if ruleset.policy is not None]
    windows = [window for window in windows if window]
    return min(windows, default=0), max(windows, default=0)


def longest_window_us(rules: Rules) -> int:
    """How much history these rules need."""
    return windows_us(rules)[1]


def wants_of(rules: Rules) -> Wants:
    """What these rules look at at every tick, all together; and what their policies need the past of."""
    wants = [detector.wants for ruleset in rules.rulesets for detector in detectors_of(ruleset)]
    wants += [
        replace(ruleset.policy.wants, cgroups=among_of(ruleset))
        for ruleset in rules.rulesets
        if ruleset.policy is not None and ruleset.policy.window_us
    ]
    return Wants(
        details=frozenset(detail for each in wants for detail in each.details),
        cgroups=tuple(sorted({pattern for each in wants for pattern in each.cgroups})),
        files=frozenset(file for each in wants for file in each.files),
        touches=any(each.touches for each in wants),
    )


def among_of(ruleset: Ruleset) -> tuple[str, ...]:
    """Patterns of all the cgroups that this ruleset's choice looks at; none for a choice among processes anywhere."""
    choice = ruleset.choice
    patterns = choice.among or (("/*",) if choice.level in (CGROUP, PROCESS_IN) else ())
    if not patterns and ruleset.policy is not None and ruleset.policy.wants.files:
        patterns = ("/**",)
    if choice.recursive or choice.level not in (CGROUP, PROCESS_IN):
        patterns = tuple(pattern if pattern.endswith("/**") else f"{pattern.rstrip('/')}/**" for pattern in patterns)
    return patterns


def observe(
    rules: Rules, status: MemoryStatus, state: EngineState, cgroups: tuple[Cgroup, ...] = ()
) -> tuple[tuple[Detection, ...], EngineState]:
    """Every ruleset's answer to this status (and to the cgroups that the rules want), and the state that remembers
    it.
    """
    state = replace(
        state,
        history=_remembered(state.history, status, cgroups, windows_us(rules)),
        credits=progressed(state.credits, status),
    )
    asking = _view(status, state, cgroups, killed_only=False)
    critical = _view(status, state, cgroups, killed_only=True)
    detections, memories = [], []
    for ruleset, memory in zip(rules.rulesets, state.rulesets, strict=True):
        detection, remembered = _observe_ruleset(ruleset, memory, asking, critical, steady=not state.credits)
        detections.append(detection)
        memories.append(remembered)
    alarmed = any(memory.since_us is not None for memory in memories)
    trail = followed(state.trail, status)
    return tuple(detections), replace(
        state,
        rulesets=tuple(memories),
        futile_kills=state.futile_kills if alarmed else 0,
        trail=trail,
        blame=blame(trail, status, state.blame, alarmed=alarmed),
    )


def passed(rules: Rules, status: MemoryStatus, state: EngineState) -> EngineState:
    """The state that remembers a glance, at which no rule could hold (:mod:`oomd.engine.calm`)."""
    return replace(
        state,
        history=_remembered(state.history, status, (), windows_us(rules)),
        trail=followed(state.trail, status),
    )


def _observe_ruleset(
    ruleset: Ruleset, memory: RulesetState, asking: View, critical: View, *, steady: bool
) -> tuple[Detection, RulesetState]:
    """``steady``: an alarm that holds lets go a little beyond its limit. Not once somebody was signalled: the next one
    would die although enough came back.
    """
    now = asking.status.time_us
    is_critical, evidence = _any_group(
        ruleset.critical, critical, firing=steady and memory.critical_since_us is not None
    )
    groups, timers = _ask_groups(ruleset, asking, memory, firing=steady and memory.since_us is not None)
    holds = any(all(piece.holds for piece in pieces) for pieces, _ in groups)
    if not is_critical:
        evidence = _telling(groups)
    lasts = holds or is_critical or any(takes_on(ruleset, memory, pieces, asking.status) for pieces, _ in groups)
    since = (now if memory.since_us is None else memory.since_us) if lasts else None
    critical_since = (now if memory.critical_since_us is None else memory.critical_since_us) if is_critical else None
    memory = climbed(ruleset, memory, now, holds=since is not None)
    step, waits = due(ruleset, memory, now, critical=is_critical)
    long_enough = since is not None and now - since >= ruleset.for_us and now >= memory.paused_until_us
    detection = Detection(
        ruleset=ruleset.name,
        fired=is_critical or (holds and long_enough and any(ripe for _, ripe in groups)),
        critical=is_critical,
        since_us=since,
        evidence=evidence,
        step=step,
        waits=waits,
    )
    return detection, replace(memory, since_us=since, critical_since_us=critical_since, cgroups_since_us=timers)


_Groups = list[tuple[tuple[Evidence, ...], bool]]


def _ask_groups(
    ruleset: Ruleset, view: View, memory: RulesetState, *, firing: bool
) -> tuple[_Groups, tuple[tuple[int, str, int], ...]]:
    """Each group's evidence, and whether it holds long enough; and since when each detector holds for each cgroup.

    Where a detector looks at cgroups, one of them must have held without a break for as long as ``for`` says: a minute
    of one and a minute of another are not two minutes.
    """
    now = view.status.time_us
    known = {(place, path): since for place, path, since in memory.cgroups_since_us}
    groups: _Groups = []
    timers: list[tuple[int, str, int]] = []
    place = 0
    for group in ruleset.when:
        pieces, ripe = [], True
        for detector in group:
            piece = detector.detect(view, firing=firing)
            held = [(place, path, known.get((place, path), now)) for path in piece.cgroups]
            if held:
                ripe = ripe and any(now - since >= ruleset.for_us for _, _, since in held)
            ripe = ripe and piece.holds
            pieces.append(piece)
            timers += held
            place += 1
        groups.append((tuple(pieces), ripe))
    return groups, tuple(timers)


def _telling(groups: _Groups) -> tuple[Evidence, ...]:
    """The evidence of the first group that holds long enough, or holds; every group's where none does."""
    for pieces, ripe in groups:
        if ripe:
            return pieces
    for pieces, _ in groups:
        if all(piece.holds for piece in pieces):
            return pieces
    return tuple(piece for pieces, _ in groups for piece in pieces)


def _any_group(
    groups: tuple[tuple[Detector, ...], ...], view: View, *, firing: bool
) -> tuple[bool, tuple[Evidence, ...]]:
    """Whether one group holds as a whole; the evidence is that group's, or every group's where none holds."""
    seen: list[Evidence] = []
    for group in groups:
        evidence = tuple(detector.detect(view, firing=firing) for detector in group)
        if all(piece.holds for piece in evidence):
            return True, evidence
        seen.extend(evidence)
    return False, tuple(seen)


def as_though_fired(detections: tuple[Detection, ...], evidence: Evidence) -> tuple[Detection, ...]:
    """The detections in which the first ruleset fires on this evidence too: somebody asks whom it would take."""
    first, *others = detections
    return (replace(first, fired=True, evidence=(evidence, *first.evidence)), *others)


_BEHIND_ALL = 1 << 30
"""A step that no ladder has: the signal."""


def asked_for(detections: tuple[Detection, ...], text: str) -> tuple[Detection, ...]:
    """The same for a kill on request, which is never critical and stands alone: what fires by itself is the loop's
    affair, and beside a kill under way nobody is taken by hand. Gentle steps are not asked for.
    """
    alone = tuple(replace(each, fired=False, critical=False, step=_BEHIND_ALL, waits=False) for each in detections)
    return as_though_fired(alone, Evidence(ASKED, holds=True, text=text))


def _view(status: MemoryStatus, state: EngineState, cgroups: tuple[Cgroup, ...], *, killed_only: bool) -> View:
    memory, swap = outstanding(state.credits, status, killed_only=killed_only)
    return View(
        status=status,
        available_bytes=status.available_bytes + (status.pcp_bytes if state.credits else 0) + memory,
        swap_free_bytes=min(status.swap_total_bytes, status.swap_free_bytes + swap),
        history=state.history,
        cgroups=cgroups,
    )


def _remembered(
    history: tuple[Sample, ...], status: MemoryStatus, cgroups: tuple[Cgroup, ...], windows: tuple[int, int]
) -> tuple[Sample, ...]:
    shortest, longest = windows
    if not longest:
        return ()
    samples = [*history, Sample(status.time_us, status.psi_some_us, status.psi_full_us, status, cgroups)]
    thin(samples, _time_of, shortest // SAMPLES_PER_WINDOW, SAMPLES_PER_WINDOW, longest)
    return tuple(samples)


def _time_of(sample: Sample) -> int:
    return sample.time_us


def detectors_of(ruleset: Ruleset) -> tuple[Detector, ...]:
    """Every detector of the ruleset."""
    return tuple(detector for group in (*ruleset.when, *ruleset.critical) for detector in group)

"""Detect: which rulesets hold now. Pure: a status and a state in, detections and the next state out."""

from __future__ import annotations

from dataclasses import replace

from oomd.engine.blame import blame, followed
from oomd.engine.credit import outstanding, progressed
from oomd.model.decision import Detection, Evidence
from oomd.model.ruleset import EngineState, PressureSample, Rules, Ruleset, RulesetState, View
from oomd.model.snapshot import MemoryStatus

TYPE_CHECKING = False
if TYPE_CHECKING:
    from oomd.model.ruleset import Detector

SAMPLES_PER_WINDOW = 40
"""How finely the longest window is remembered: 50 ms of a 2 s window, whatever the tick rate. Bounds the history."""


def initial_state(rules: Rules) -> EngineState:
    """A state that remembers nothing."""
    return EngineState(rulesets=tuple(RulesetState() for _ in rules.rulesets))


def reloaded_state(state: EngineState, rules: Rules) -> EngineState:
    """The state after a reload: kills under way stay, what rulesets remember begins anew."""
    return replace(state, rulesets=tuple(RulesetState() for _ in rules.rulesets))


def longest_window_us(rules: Rules) -> int:
    """How much history the detectors of these rules need."""
    return max((detector.window_us for ruleset in rules.rulesets for detector in _detectors(ruleset)), default=0)


def observe(rules: Rules, status: MemoryStatus, state: EngineState) -> tuple[tuple[Detection, ...], EngineState]:
    """Every ruleset's answer to this status, and the state that remembers it."""
    state = replace(
        state,
        history=_remembered(state.history, status, longest_window_us(rules)),
        credits=progressed(state.credits, status),
    )
    asking = _view(status, state, killed_only=False)
    critical = _view(status, state, killed_only=True)
    detections, memories = [], []
    for ruleset, memory in zip(rules.rulesets, state.rulesets, strict=True):
        detection, remembered = _observe_ruleset(ruleset, memory, asking, critical)
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


def _observe_ruleset(
    ruleset: Ruleset, memory: RulesetState, asking: View, critical: View
) -> tuple[Detection, RulesetState]:
    now = asking.status.time_us
    is_critical, evidence = _any_group(ruleset.critical, critical, firing=memory.critical_since_us is not None)
    holds, asked_evidence = _any_group(ruleset.when, asking, firing=memory.since_us is not None)
    if not is_critical:
        evidence = asked_evidence
    since = (now if memory.since_us is None else memory.since_us) if holds or is_critical else None
    critical_since = (now if memory.critical_since_us is None else memory.critical_since_us) if is_critical else None
    long_enough = since is not None and now - since >= ruleset.for_us and now >= memory.paused_until_us
    detection = Detection(
        ruleset=ruleset.name,
        fired=is_critical or (holds and long_enough),
        critical=is_critical,
        since_us=since,
        evidence=evidence,
    )
    return detection, replace(memory, since_us=since, critical_since_us=critical_since)


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


def _view(status: MemoryStatus, state: EngineState, *, killed_only: bool) -> View:
    memory, swap = outstanding(state.credits, status, killed_only=killed_only)
    return View(
        status=status,
        available_bytes=status.available_bytes + (status.pcp_bytes if state.credits else 0) + memory,
        swap_free_bytes=min(status.swap_total_bytes, status.swap_free_bytes + swap),
        history=state.history,
    )


def _remembered(
    history: tuple[PressureSample, ...], status: MemoryStatus, window_us: int
) -> tuple[PressureSample, ...]:
    if status.psi_full_us is None or status.psi_some_us is None or not window_us:
        return ()
    now = PressureSample(status.time_us, status.psi_some_us, status.psi_full_us)
    if len(history) > 1 and now.time_us - history[-2].time_us < window_us // SAMPLES_PER_WINDOW:
        history = history[:-1]  # the last one came too soon after its predecessor to be worth a place of its own
    start = 0
    while start + 1 < len(history) and history[start + 1].time_us <= now.time_us - window_us:
        start += 1
    return (*history[start:], now)


def _detectors(ruleset: Ruleset) -> tuple[Detector, ...]:
    return tuple(detector for group in (*ruleset.when, *ruleset.critical) for detector in group)

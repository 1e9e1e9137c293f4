"""Who may be killed at all, who never, and what each death would give back."""

from __future__ import annotations

from oomd.engine.marks import OMIT
from oomd.engine.preferences import NOTHING_SAID, PROTECT, Verdict, judge_again, pod_usage, standing
from oomd.model.decision import Candidate, Rejection
from oomd.model.ruleset import NEVER, EngineState, Preferences
from oomd.model.snapshot import Process, Snapshot

NOTHING_OWNED = "owns no anonymous memory and no swap"
"""Why a process alone is not worth its death; it does not save those beside it."""

OOM_SCORE_ADJ_MIN = -1000
"""oom_score_adj that the kernel never kills; include/uapi/linux/oom.h."""


def freeable_bytes(process: Process) -> tuple[int, str]:
    """What this death gives back, and where the figure comes from: ``private`` (smaps_rollup) or ``size`` (RssAnon +
    VmSwap).
    """
    if process.private_bytes is None:
        return process.size_bytes, "size"
    return max(0, min(process.private_bytes + process.own_shmem_bytes, process.size_bytes)), "private"


def sift(
    snapshot: Snapshot, preferences: Preferences, state: EngineState, *, monitored_uid: int = 0
) -> tuple[tuple[Candidate, ...], tuple[Rejection, ...]]:
    """Every process of the snapshot as a candidate (not ranked yet) or as a rejection with its reason.

    ``monitored_uid``: the owner of the cgroup beneath which the choice is made, whose word on marks counts besides
    root's.
    """
    candidates, rejected = [], []
    in_flight = {credit.process.id for credit in state.credits}
    pods = pod_usage(snapshot)
    refused = {refusal.id: refusal.why for refusal in state.refusals}
    for process in snapshot.processes:
        why, verdict = why_never(process, snapshot), NOTHING_SAID
        if not why:
            verdict = judge_again(process, preferences, snapshot.own_uid, monitored_uid)
            why = _why_not_now(process, verdict, preferences)
        if not why and process.id in in_flight:
            why = "is being killed already"
        if not why:
            why = refused.get(process.id, "")
        if why:
            rejected.append(Rejection(process, why))
            continue
        freeable, measured = freeable_bytes(process)
        rank = standing(process, pods, snapshot.status.mem_total_bytes)
        candidates.append(
            Candidate(process, freeable, measured, verdict.kind, freeable, because=verdict.because, standing=rank)
        )
    return tuple(candidates), tuple(rejected)


def why_spared(verdict: Verdict, preferences: Preferences) -> str:
    """Why nobody with this verdict is taken; empty where it only moves its place."""
    if verdict.kind == PROTECT:
        return f"is protected by its {verdict.because}"
    if verdict.kind == OMIT and preferences.omit == NEVER:
        return f"is omitted: its cgroup is marked {verdict.because}"
    return ""


def why_never(process: Process, snapshot: Snapshot) -> str:
    """Reasons of what the process is; they hold whatever the configuration says."""
    if process.id.pid == 1:
        return "pid 1 is never killed"
    if process.is_kernel_thread:
        return "is a kernel thread"
    if process.id.pid in snapshot.own_pids:
        return "is oomd itself, or started it"
    if process.is_dead:
        return "is a zombie and owns nothing"
    if process.is_dying:
        return "is dying already"
    if process.out_of_scope:
        return process.out_of_scope
    return ""


def _why_not_now(process: Process, verdict: Verdict, preferences: Preferences) -> str:
    """Reasons that somebody gave."""
    if process.oom_score_adj <= OOM_SCORE_ADJ_MIN:
        return "has oom_score_adj -1000"
    spared = why_spared(verdict, preferences)
    if spared:
        return spared
    return NOTHING_OWNED if process.size_bytes == 0 else ""

"""The wire form of decisions and outcomes: plain dicts, lists, numbers and text, ready for marshal and JSON.

Bytes and microseconds; readers ignore keys that they do not know. ``oomd explain --json``, replays and every reported
decision share this form.
"""

from __future__ import annotations

from oomd.model.decision import Candidate, Credit, Decision, Detection, KillOutcome, ReapResult, Rejection, Times
from oomd.model.placement import placement_of
from oomd.model.snapshot import MemoryStatus, Process

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Plain = dict[str, Any]

VERSION = 1
TOP = 10
"""How many ranked candidates a report names."""
MOST_PIDS = 100
"""How many of those that die as one a report names, largest first."""
MOST_REJECTED = 20
"""How many rejected processes a report names, largest first: a datagram has an end."""


def plain_status(status: MemoryStatus) -> Plain:
    """The MemoryStatus with what was derived from it."""
    budget = status.budget
    return {
        "time_us": status.time_us,
        "mem_total_bytes": status.mem_total_bytes,
        "mem_free_bytes": status.mem_free_bytes,
        "mem_available_bytes": status.mem_available_bytes,
        "anon_bytes": status.anon_bytes,
        "shmem_bytes": status.shmem_bytes,
        "slab_unreclaimable_bytes": status.slab_unreclaimable_bytes,
        "swap_total_bytes": status.swap_total_bytes,
        "swap_free_bytes": status.swap_free_bytes,
        "psi_some_us": status.psi_some_us,
        "psi_full_us": status.psi_full_us,
        "arc_bytes": status.arc_bytes,
        "available_bytes": status.available_bytes,
        "base_bytes": status.base_bytes,
        "budget": None
        if budget is None
        else {"limit_bytes": budget.limit_bytes, "usage_bytes": budget.usage_bytes, "source": budget.source},
    }


def plain_detection(detection: Detection) -> Plain:
    """One ruleset's answer."""
    return {
        "ruleset": detection.ruleset,
        "fired": detection.fired,
        "critical": detection.critical,
        "since_us": detection.since_us,
        "evidence": [
            {
                "detector": evidence.detector,
                "holds": evidence.holds,
                "text": evidence.text,
                "value": evidence.value,
                "limit": evidence.limit,
                "window_us": evidence.window_us,
                "cgroups": list(evidence.cgroups[:TOP]),
            }
            for evidence in detection.evidence
        ],
    }


def plain_candidate(candidate: Candidate) -> Plain:
    """A ranked process."""
    process = candidate.process
    return {
        **_plain_process(process),
        **_plain_kind(candidate.kind, candidate.name),
        "score": candidate.score,
        "freeable_bytes": candidate.freeable_bytes,
        "measured": candidate.measured,
        "measured_age_us": process.private_age_us if candidate.measured == "private" else None,
        "rss_anon_bytes": process.rss_anon_bytes,
        "swap_bytes": process.swap_bytes,
        "own_shmem_bytes": process.own_shmem_bytes,
        "untouched_bytes": process.untouched_bytes,
        "untouched_over_us": process.untouched_over_us or None,
        "oom_score_adj": process.oom_score_adj,
        "preference": candidate.preference,
        "because": candidate.because,
    }


def plain_rejection(rejection: Rejection) -> Plain:
    """A process that may not be killed, and why."""
    return {**_plain_process(rejection.process), **_plain_kind(rejection.kind, rejection.name), "why": rejection.why}


def plain_decision(decision: Decision) -> Plain:
    """The contract of ``oomd explain --json`` and of every decision event."""
    target = decision.target
    rejected = sorted(decision.rejected, key=lambda rejection: -rejection.process.size_bytes)
    return {
        "version": VERSION,
        "status": plain_status(decision.status),
        "detections": [plain_detection(detection) for detection in decision.detections],
        "decision": {
            "action": decision.action,
            "ruleset": decision.ruleset or None,
            "reason": decision.reason,
            "target": None
            if target is None
            else {"kind": target.kind, **_plain_process(target.process), **_plain_kind(target.kind, target.name)},
            "pids": [] if target is None else [process.id.pid for process in target.processes[:MOST_PIDS]],
            "processes": 0 if target is None else len(target.processes),
            "step": decision.step,
            "step_us": decision.step_us,
        },
        "candidates": {"ranked": len(decision.ranking), "rejected": len(decision.rejected)},
        "ranking": [plain_candidate(candidate) for candidate in decision.ranking[:TOP]],
        "rejected": [plain_rejection(rejection) for rejection in rejected[:MOST_REJECTED]],
    }


def plain_times(times: Times) -> Plain:
    """``times`` of a decision event: what :class:`~oomd.model.decision.Times` says, under the same names. The stages of
    a kill are ``read_us - wake_us`` (reading memory), ``decided_us - read_us`` (search and choice), ``signalled_us -
    decided_us`` (proof of identity, hand-over, signal), and all of them ``signalled_us - wake_us``.
    """
    return {
        "wake_us": times.wake_us,
        "read_us": times.read_us,
        "decided_us": times.decided_us,
        "signalled_us": times.signalled_us,
        "lag_us": times.lag_us,
        "hooks_us": times.hooks_us,
        "scans": times.scans,
    }


def plain_step(
    identity: str,
    decision: Decision,
    status: str,
    why: str,
    *,
    dry_run: bool = False,
    gained_bytes: int = 0,
    gained_swap_bytes: int = 0,
    taken_bytes: int = 0,
    took_us: int = 0,
    worked_us: int | None = None,
) -> Plain:
    """What came of a gentle step, or that what it changed was put back. ``status``: ``enough`` (the alarm is over),
    ``not_enough``, ``impossible``, ``overtaken`` (by the critical level), ``ended`` (by other rules, or oomd's end),
    ``put_back``. ``gained``: what became available while it lasted (below zero: less), ``taken``: what was reclaimed or
    swapped out for it, ``worked_us``: how long that took.
    """
    target = decision.target
    whom = {} if target is None else {**_plain_process(target.process), **_plain_kind(target.kind, target.name)}
    return {
        "version": VERSION,
        "id": identity,
        "ruleset": decision.ruleset,
        "action": decision.action,
        "step": decision.step,
        **whom,
        "status": status,
        "why": why,
        "dry_run": dry_run,
        "gained_bytes": gained_bytes,
        "gained_swap_bytes": gained_swap_bytes,
        "taken_bytes": taken_bytes,
        "took_us": took_us,
        "worked_us": worked_us,
    }


def plain_outcome(outcome: KillOutcome) -> Plain:
    """What came of a decision."""
    return {
        "version": VERSION,
        **_plain_process(outcome.process),
        "status": outcome.status,
        "ruleset": outcome.ruleset or None,
        "signal": outcome.signal or None,
        "signalled_us": outcome.signalled_us,
        "detail": outcome.detail,
        "signal_to_death_us": outcome.signal_to_death_us,
        "signal_to_memory_us": outcome.signal_to_memory_us,
        "expected_bytes": outcome.expected_bytes,
        "returned_bytes": outcome.returned_bytes,
        "reap": {
            "backend": outcome.reap_backend,
            "errno": outcome.reap_errno,
            "duration_us": outcome.reap_us,
        },
        "hindrances": list(outcome.hindrances),
        "lifted": list(outcome.lifted),
    }


def plain_credit(credit: Credit) -> Plain:
    """A kill under way."""
    return {
        "id": credit.decision_id,
        **_plain_process(credit.process),
        "ruleset": credit.ruleset,
        "phase": credit.phase,
        "expected_bytes": credit.expected_bytes + credit.expected_swap_bytes,
        "returned_bytes": credit.returned_bytes + credit.returned_swap_bytes,
        "signal_us": credit.signal_us,
        "deadline_us": credit.deadline_us,
        "part_of": credit.part_of,
    }


def _plain_kind(kind: str, name: str) -> Plain:
    """What is taken as one, where it is more than a process: then pid and name are those of its largest member, and
    ``cgroup`` is the cgroup that dies.
    """
    if kind == "process":
        return {}
    return {"kind": kind, "name": name, **({"cgroup": name} if kind == "cgroup" else {})}


def plain_hastened(process: Process, result: ReapResult, hindrances: tuple[str, ...], lifted: tuple[str, ...]) -> Plain:
    """What the reaper did for a process that somebody else killed."""
    return {
        "version": VERSION,
        **_plain_process(process),
        "expected_bytes": process.size_bytes,
        "reap": {"backend": result.backend, "errno": result.reap_errno, "duration_us": result.reap_us},
        "hindrances": list(hindrances),
        "lifted": list(lifted),
    }


def _plain_process(process: Process) -> Plain:
    return {
        "pid": process.id.pid,
        "start_ticks": process.id.start_ticks,
        "cgroup": process.cgroup,
        "comm": process.comm,
        "uid": process.uid,
        **_plain_place(process.cgroup),
    }


def _plain_place(cgroup: str) -> Plain:
    """Container, pod (its uid) and Kubernetes' class of it, as far as the cgroup's path tells them."""
    placed = placement_of(cgroup)
    told = {"container": placed.container, "pod": placed.pod, "qos": placed.qos}
    return {key: text for key, text in told.items() if text}
